"""Findings about a source and its images."""

from collections.abc import Iterable
from dataclasses import dataclass

from squint.data.quarantine import allowed
from squint.doctor.findings import Finding, Section, note, ok, problem
from squint.doctor.images import NO_ENDING, Contents, Sample
from squint.doctor.kinds import rules
from squint.doctor.suggestion import as_flags, input_of
from squint.doctor.text import human_bytes, human_seconds

_NAMED = 3
_KINDS = 6
_FLAT = 2
_LARGE = 512
"""Pixels. Above it most of decoding goes into what no view shows."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that is known of the images."""

    contents: Contents
    sample: Sample


def section(contents: Contents, sample: Sample, *, view: int, limit_percent: float) -> Section:
    """What was found, told.

    Args:
        contents: what names tell.
        sample: what decoding shows.
        view: pixels of the side of a training view; 0 where there is no recipe.
        limit_percent: share of unreadable images at which a run stops.
    """
    findings = [
        *_of_contents(contents),
        _of_reading(contents, sample, limit_percent),
        *(_of_pixels(sample, view) if sample.readable else ()),
        *(_of_cost(contents, sample) if sample.readable else ()),
        *(_of_twins(contents, sample) if sample.readable > 1 else ()),
    ]
    facts = Facts(contents=contents, sample=sample)
    return Section(title=f"Images: {contents.name}", findings=tuple(findings), facts=facts)


def _of_contents(contents: Contents) -> Iterable[Finding]:
    named = {end: n for end, n in contents.endings.items() if end != NO_ENDING}
    kinds = ", ".join(f"{n:,} {end}" for end, n in list(named.items())[:_KINDS])
    kinds = f" ({kinds})" if kinds else ""
    splits = ", ".join(f"{name} {n:,}" for name, n in contents.splits.items())
    parts = f"; {splits}" if splits else ""
    yield ok(f"{_counted(contents.images, 'image')}{kinds}{parts}")
    if contents.passed_over:
        others = ", ".join(f"{n:,} {end}" for end, n in list(contents.passed_over.items())[:_KINDS])
        yield note(f"passed over, in no format that is read: {others}", "Convert what is to count.")
    if not contents.classes:
        yield note("no labels: training needs none, the online kNN and probes do")
        return
    most = max(contents.classes, key=contents.classes.__getitem__)
    least = min(contents.classes, key=contents.classes.__getitem__)
    fewest = contents.classes[least]
    spread = f"{fewest:,} images each"
    if fewest < contents.classes[most]:
        spread = f"{fewest:,} ({least}) to {contents.classes[most]:,} ({most}) images"
    without = f"; {contents.unlabelled:,} without a label" * bool(contents.unlabelled)
    yield ok(f"{len(contents.classes):,} classes of {spread}{without}")


def _of_reading(contents: Contents, sample: Sample, limit_percent: float) -> Finding:
    looked, bad = sample.looked_at, sample.unreadable
    whole = looked == contents.images
    these = f"all {looked:,}" if whole else f"{looked:,} of {contents.images:,}"
    if not bad:
        return ok(f"{these} decoded: every one can be read")
    names = "; ".join(f"{each.path}: {each.reason}" for each in bad[:_NAMED])
    more = "; …" * (len(bad) > _NAMED)
    share = _percent(len(bad), looked)
    told = f"{these} decoded: {len(bad):,} can't be read ({share}): {names}{more}"
    if sample.readable and len(bad) <= allowed(looked, limit_percent):
        return note(told, "They are left out and listed in quarantine.txt.")
    remedy = (
        f"Mend or remove them, or raise --data.max-unreadable-percent: above {limit_percent:g} % a "
        "run stops."
        if sample.readable
        else "Check that this is the right source."
    )
    return problem(told, remedy, prevents_training=True)


def _of_pixels(sample: Sample, view: int) -> Iterable[Finding]:
    sizes = f"every image is {sample.median}"
    if not sample.one_size:
        sizes = f"sizes {sample.smallest} to {sample.largest}, median {sample.median}"
    small = sum(count for side, count in sample.short_sides.items() if side < view)
    share = _percent(small, sample.readable)
    if not view:
        yield ok(sizes)
    elif small:
        yield note(f"{sizes}; {share} are smaller than views of {view} px, and are enlarged")
    else:
        yield ok(f"{sizes}; none is smaller than views of {view} px")
    kinds = "; ".join(f"{kind} ({n:,})" for kind, n in list(sample.kinds.items())[:_KINDS])
    odd = rules(sample.kinds)
    yield ok("; ".join([f"stored as {kinds}", *odd]))
    yield from _of_levels(sample)
    if len(sample.mean) == 3 and sample.colourless == sample.readable:
        one = as_flags(input_of(sample.mean[:1], sample.std[:1]))
        yield note(
            "all are grey: three equal channels are computed where one would do",
            f"{one} trains on one channel.",
        )
    if sample.blank:
        first = _listed(sample.blank)
        yield note(
            f"{_counted(len(sample.blank), 'image')} of one colour only: {first}",
            "Remove them: their views can't be told from each other's.",
        )


def _of_levels(sample: Sample) -> Iterable[Finding]:
    yield ok(f"mean and std as flags: {as_flags(input_of(sample.mean, sample.std))}")
    flat = [str(k + 1) for k, std in enumerate(sample.std) if std < _FLAT / 255]
    if flat:
        yield note(
            f"{'channel' if len(flat) == 1 else 'channels'} {', '.join(flat)}: std below {_FLAT} "
            "of 255 grey levels, so that 8 bits hold little of them",
            "Stretch them to the whole range of their type and save again, or leave them out.",
        )


def _of_cost(contents: Contents, sample: Sample) -> Iterable[Finding]:
    whole = sample.looked_at == contents.images
    total = sample.bytes_each * (sample.readable if whole else contents.images)
    rate = 1 / max(sample.core_seconds_each, 1e-6)
    told = f"{'' if whole else 'about '}{human_bytes(total)} in all; one core decodes {rate:,.0f} "
    told += "whole images a second"
    if min(sample.median) > _LARGE:
        yield note(
            told, "`squint pack` makes a smaller copy once, which decodes many times faster."
        )
    else:
        yield ok(told)


def _of_twins(contents: Contents, sample: Sample) -> Iterable[Finding]:
    if sample.copied_leaks:
        yield problem(
            f"{_counted(len(sample.copied_leaks), 'image')} of other splits also in train: "
            f"{_paired(sample.copied_leaks)}",
            "Take them out of one: kNN and probes count as recognised what was learned by heart.",
        )
    if sample.copies:
        yield note(
            f"{_counted(len(sample.copies), 'exact copy', 'exact copies')} of other images: "
            f"{_paired(sample.copies)}",
            "Remove them: in one batch, a copy is pushed away from its twin.",
        )
    if sample.near:
        leaks = len(sample.near_leaks)
        leaked = f" ({_counted(leaks, 'image')} of other splits with a twin in train)" * bool(leaks)
        yield note(
            f"{'at least ' * sample.more_near}{_counted(len(sample.near), 'pair')} of nearly the "
            f"same image{leaked}: {_paired(sample.near_leaks or sample.near)}",
            "Look at some (`--json F` lists all): what was resized or compressed counts twice.",
        )
    if not (sample.copies or sample.near):
        yield ok("no duplicates among the decoded images")
    if (missing := contents.images - sample.looked_at) > 0:
        seconds = sample.seconds * missing / sample.looked_at
        yield note(
            "of duplicates a sample shows few: both of a pair have to be in it",
            f"--sample all compares all images, in about {human_seconds(seconds)}.",
        )


def _percent(part: int, whole: int) -> str:
    share = 100 * part / whole
    return f"{share:.0f} %" if share >= 10 else f"{share:.2g} %"


def _counted(count: int, one: str, several: str = "") -> str:
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def _paired(pairs: tuple[tuple[str, str], ...]) -> str:
    return "; ".join(f"{b} = {a}" for a, b in pairs[:_NAMED]) + "; …" * (len(pairs) > _NAMED)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:_NAMED]) + ", …" * (len(names) > _NAMED)
