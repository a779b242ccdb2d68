"""The curves of a page: everything that was logged while training, all runs over one another."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from squint.evaluate.table import text, title_of
from squint.report.folder import Folder, number
from squint.report.markup import Html, code, section, table, tag
from squint.report.svg import Line, chart, sign


@dataclass(frozen=True, kw_only=True)
class Curve:
    """How a logged number is shown."""

    title: str
    unit: str = ""
    cap: bool = False
    """Whether info_cap_nats belongs in it."""
    log: bool = False
    """Whether its axis may be logarithmic."""
    least: tuple[float, ...] = ()
    """What its axis spans in any case, so that hardly different numbers look alike."""


GROUPS = {
    "Learning": {
        "loss": Curve(title="Loss, of each method’s own make"),
        "info_nats": Curve(
            title="Information I(Y;Z), and its cap", unit="nats", cap=True, least=(0.0,)
        ),
        "contrast_nats": Curve(title="Contrast, and a blind guess", unit="nats", cap=True),
        "contrast_top1": Curve(title="Contrast top-1"),
        "rate_nats": Curve(title="Rate I(X;Z|Y)", unit="nats per image"),
        "knn_top1": Curve(title="kNN top-1 on a sample"),
    },
    "Health of the codes": {
        "positive_cosine": Curve(title="Cosine of positive pairs"),
        "negative_cosine": Curve(title="Cosine of negative pairs"),
        "std_ratio": Curve(title="Spread of codes (0 is collapse)", least=(0.0, 1.0)),
        "effective_rank": Curve(title="Effective rank", unit="dimensions"),
        "alignment": Curve(title="Alignment"),
        "uniformity": Curve(title="Uniformity"),
        "target_gap": Curve(title="Distance to the target encoder"),
    },
    "Optimizer and speed": {
        "grad_norm": Curve(title="Norm of the gradient", log=True),
        "lr": Curve(title="Learning rate"),
        "beta": Curve(title="Beta", unit="nats per nat of rate", log=True),
        "kappa_e": Curve(title="Concentration kappa_e", log=True),
        "images_per_second": Curve(title="Speed", unit="images / s"),
        "data_wait": Curve(title="Time spent waiting for images", least=(0.0, 0.05)),
    },
}
"""Logged names that are known, in the order in which they are shown; others come after."""

_ASIDE = ("step", "epoch", "info_cap_nats")


def curves(folders: Sequence[Folder]) -> Html:
    """The section."""
    across = "epoch" if all("epoch" in r for f in folders for r in f.records) else "step"
    logged = _logged(folders, across)
    known = {name for group in GROUPS.values() for name in group}
    rest = {n: Curve(title=title_of(n), log=True) for n in logged if n not in {*known, *_ASIDE}}
    still = {
        name: values
        for name, lines in logged.items()
        if name not in _ASIDE and (values := _unmoved(name, lines)) is not None
    }
    parts: list[Html] = [
        tag("p", "Nothing was logged yet by ", f.title, ". ", _goes_on(f), class_="note")
        for f in folders
        if not f.records
    ]
    for title, group in (GROUPS | {"More": rest}).items():
        moving = {n: curve for n, curve in group.items() if n in logged and n not in still}
        if moving:
            figures = (_figure(name, curve, logged, across) for name, curve in moving.items())
            parts += [tag("h3", title), tag("div", figures, class_="charts")]
    if still:
        columns = ["did not change", *(f.title for f in folders)]
        rows = {_title(name): values for name, values in still.items()}
        parts += [tag("h3", "Logged once, or the same throughout"), table(None, columns, rows)]
    lead = tag("p", _legend(folders), class_="legend") if logged else None
    return section("curves", "Curves", lead, parts, _health(folders))


def _goes_on(folder: Folder) -> Html:
    if not (folder.path / "checkpoints" / "last.pt").exists():
        return Html("It has no checkpoint to go on from: train it again.")
    return tag("span", "Go on with ", code(folder.command("resume")), ".")


def _legend(folders: Sequence[Folder]) -> Iterator[Html]:
    for slot, folder in enumerate(folders):
        yield tag("span", sign(slot), folder.title, class_="run")


def _logged(folders: Sequence[Folder], across: str) -> dict[str, list[Line]]:
    """Every logged number by its name, a line for each run; one that lacks it has no points."""
    found: dict[str, list[list[tuple[float, float]]]] = {}
    for slot, folder in enumerate(folders):
        for record in folder.records:
            x = number(record.get(across))
            if x is None or not math.isfinite(x):
                continue
            for name, value in record.items():
                if (y := number(value)) is not None:
                    found.setdefault(name, [[] for _ in folders])[slot].append((x, y))
    return {
        name: [Line(name=folders[n].title, slot=n, points=p) for n, p in enumerate(every)]
        for name, every in found.items()
    }


def _unmoved(name: str, lines: Sequence[Line]) -> list[str] | None:
    """The number of each run, if no run has two different ones."""
    if not any(line.finite for line in lines):
        return ["not finite" if line.points else "–" for line in lines]
    if any(len({y for _, y in line.points}) > 1 for line in lines):
        return None
    return [_text(name, line.points[0][1]) if line.points else "–" for line in lines]


def _figure(name: str, curve: Curve, logged: Mapping[str, Sequence[Line]], across: str) -> Html:
    lines = [line for line in logged[name] if line.points]
    caps = [line for line in logged.get("info_cap_nats", ()) if curve.cap and line.finite]
    limits = {line.finite[0][1]: replace(line, name="cap", dashed=True) for line in caps}
    said = "; ".join(_in_words(line, name, across) for line in lines)
    drawn = chart(
        [*limits.values(), *lines],
        label=f"{curve.title}. {said}",
        across=across,
        percent=_is_share(name),
        log=curve.log,
        least=curve.least,
    )
    unit = tag("span", f" {curve.unit}", class_="quiet") if curve.unit else None
    lasts = (
        tag("span", sign(line.slot), _text(name, line.finite[-1][1]), class_="run", title=line.name)
        for line in lines
        if line.finite
    )
    heading = tag("span", curve.title, unit, class_="title")
    key = tag("span", name, class_="key")
    return tag("figure", tag("figcaption", heading, key), drawn, tag("p", lasts, class_="lasts"))


def _in_words(line: Line, name: str, across: str) -> str:
    if not line.finite:
        return f"{line.name}: no finite number"
    (x, y), (u, v) = line.finite[0], line.finite[-1]
    return (
        f"{line.name}: {_text(name, y)} at {across} {x:.4g}, {_text(name, v)} at {across} {u:.4g}"
    )


def _health(folders: Sequence[Folder]) -> Html | None:
    """The verdicts that were logged in words: the last, and where they changed."""
    rows = {f.title: [words[-1][1], _changes(words)] for f in folders if (words := verdicts(f))}
    if not rows:
        return None
    heading = tag("h3", "Health, as the run itself saw it")
    return Html(heading + table(None, ["run", "last word", "on the way"], rows))


def verdicts(folder: Folder) -> list[tuple[float, str]]:
    """Step and word wherever the logged health changed, the last one last."""
    found: list[tuple[float, str]] = []
    for record in folder.records:
        word = record.get("health")
        if isinstance(word, str) and (not found or found[-1][1] != word):
            found.append((float(record["step"]), word))
    return found


def _changes(words: Sequence[tuple[float, str]]) -> str:
    shown = [f"{word} from step {step:,.0f}" for step, word in words]
    if len(shown) > 12:
        shown = [*shown[:4], f"… {len(shown) - 8} more changes …", *shown[-4:]]
    return ", ".join(shown)


def _title(name: str) -> str:
    curve = next((group[name] for group in GROUPS.values() if name in group), None)
    return curve.title if curve else title_of(name)


def _is_share(name: str) -> bool:
    return name.endswith("top1") or name == "data_wait"


def _text(name: str, value: float) -> str:
    """A number with the digits that matter to a reader of a curve."""
    if not math.isfinite(value):
        return "not finite"
    if _is_share(name):
        return text("top1", value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
