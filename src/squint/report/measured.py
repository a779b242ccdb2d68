"""What evaluation.json says, of several runs side by side; nothing of it is lost."""

import json
import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from squint.evaluate.table import text, title_of
from squint.report.dots import readable
from squint.report.folder import Folder, mapping, number
from squint.report.grids import HEAT, grid
from squint.report.markup import Html, code, details, section, table, tag
from squint.report.notes import Notes


@dataclass(frozen=True, kw_only=True)
class Family:
    """Results that are shown together."""

    title: str
    protocols: Mapping[str, str]
    """Protocol of `squint evaluate` by a pattern of the results it gives."""


FAMILIES = (
    Family(
        title="Accuracy",
        protocols={
            "knn_top1": "knn",
            "linear_sgd_.*": "linear-sgd",
            "linear_.*": "linear",
            "fewshot_.*": "fewshot",
            "finetune_.*": "finetune",
            "transfer_.*": "transfer",
            "compare_.*": "compare",
        },
    ),
    Family(
        title="What the code keeps",
        protocols={
            "(rate|info|info_cap)_nats": "compression",
            "fitted_.*": "fitted",
            "augmentation_.*": "augmentations",
        },
    ),
    Family(
        title="Content and nuisance",
        protocols={"(content|nuisance)_readable": "nuisance"},
    ),
    Family(
        title="Robustness",
        protocols={
            "corrupted_error|clean_error|mce|relative_mce": "robustness",
            "pgd_.*": "pgd",
            "shifted_.*": "shifted",
        },
    ),
    Family(title="How fast the code changes", protocols={"lipschitz_.*": "lipschitz"}),
    Family(title="Surprise", protocols={"surprise_.*": "surprise"}),
)

_TOLD = ("value", "random", "interval", "protocol", "table")
"""Parts of an entry that have a place; all others are listed by name."""

_LONG = 12
"""Rows from which a table is shown on request only."""


def measured(folders: Sequence[Folder]) -> Html:
    """The section."""
    names = dict.fromkeys(name for f in folders for name in f.results)
    parts = [_missing(f) for f in folders if not f.results]
    notes = Notes(folders)
    parts += [*_warnings(folders), notes.shared()]
    for family, members in _by_family(names).items():
        parts.append(_family(family, members, folders, notes))
    others = (_other(f, earlier) for f in folders for earlier in f.evaluation[1:])
    return section("measured", "Evaluation", parts, others, _pictures(folders))


def protocol_of(name: str) -> str | None:
    """The protocol of `squint evaluate` that gives a result, if it is one we know."""
    for family in FAMILIES:
        for pattern, protocol in family.protocols.items():
            if re.fullmatch(pattern, name):
                return protocol
    return None


def shown(name: str, value: Any) -> str:
    """A result as text, whatever it is."""
    found = number(value)
    if found is None:
        return "–" if value is None else str(value)
    return text(name, found) if math.isfinite(found) else "not a finite number"


def _by_family(names: Mapping[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {family.title: [] for family in FAMILIES} | {"Others": []}
    for name in names:
        title = next(
            (f.title for f in FAMILIES if any(re.fullmatch(p, name) for p in f.protocols)),
            "Others",
        )
        found[title].append(name)
    return {title: members for title, members in found.items() if members}


def _family(title: str, names: Sequence[str], folders: Sequence[Folder], notes: Notes) -> Html:
    rows = {
        tag("span", title_of(name).strip(), notes.marks(name)): [_value(f, name) for f in folders]
        for name in names
    }
    return tag(
        "div",
        tag("h3", title),
        table(None, ["measured", *(f.title for f in folders)], rows),
        _gaps(names, folders),
        notes.listed(names),
        (_behind(name, folders) for name in names),
        _more(names, folders),
    )


def _value(folder: Folder, name: str) -> Html:
    entry = folder.results.get(name)
    if entry is None:
        return tag("td", "–")
    value = mapping(entry).get("value", None if isinstance(entry, Mapping) else entry)
    half, random = (number(mapping(entry).get(key)) for key in ("interval", "random"))
    spread = "" if half is None else f" ± {shown(name, half)}"
    beside = None if random is None else tag("small", f"random {shown(name, random)}")
    return tag("td", shown(name, value), spread, beside)


def _gaps(names: Sequence[str], folders: Sequence[Folder]) -> Iterator[Html]:
    """What one run was measured for and another was not, and the command for it."""
    for folder in folders:
        lacking = [protocol_of(n) for n in names if n not in folder.results]
        asked = " ".join(dict.fromkeys(each for each in lacking if each))
        if asked and folder.results:
            command = folder.command("evaluate", f"{_data(folder)}--protocols {asked}")
            yield tag("p", f"Not measured of {folder.title}: ", code(command), class_="note")


def _data(folder: Folder) -> str:
    """The flag for the images of the latest evaluation, if they are not those of training."""
    images = folder.evaluation[0].get("data")
    known = not isinstance(images, str) or images == folder.source
    return "" if known else f"--data {shlex.quote(str(images))} "


def _behind(name: str, folders: Sequence[Folder]) -> Html | None:
    """The tables behind one result, run beside run."""
    if name == "nuisance_readable" and any(_table(f, name) for f in folders):
        return tag("div", tag("h4", "What the features tell"), readable(name, folders))
    grids = [
        grid(name, rows, folder.title, slot)
        for slot, folder in enumerate(folders)
        if (rows := _table(folder, name))
    ]
    if not grids:
        return None
    title, beside = title_of(name).strip(), tag("div", grids, class_="side")
    long = max(len(_table(f, name)) for f in folders) > _LONG and name != HEAT
    return details(f"{title}, in full", beside) if long else tag("div", tag("h4", title), beside)


def _table(folder: Folder, name: str) -> Mapping[str, Any]:
    return mapping(mapping(folder.results.get(name)).get("table"))


def _more(names: Sequence[str], folders: Sequence[Folder]) -> Html | None:
    rows = {
        f"{folder.title}: {name}.{key}": [_compact(value)]
        for folder in folders
        for name in names
        for key, value in mapping(folder.results.get(name)).items()
        if key not in _TOLD
    }
    if not rows:
        return None
    return details(
        "All else on record", table(None, ["what", "value"], rows, class_="facts"), class_="more"
    )


def _compact(value: Any) -> Html:
    """A value as short JSON, numbers to six digits."""
    rounded = json.loads(
        json.dumps(value, default=str), parse_float=lambda digits: float(f"{float(digits):.6g}")
    )
    return tag("code", json.dumps(rounded, ensure_ascii=False))


def _missing(folder: Folder) -> Html:
    again = code(folder.command("evaluate"))
    return tag("p", f"{folder.title} has no evaluation yet. Measure it with ", again, class_="note")


def _warnings(folders: Sequence[Folder]) -> Iterator[Html]:
    seen = {
        str(table.get("fingerprint") or table.get("data"))
        for f in folders
        if f.results
        for table in f.evaluation[:1]
    }
    if len(seen) > 1:
        said = "These runs were measured on different images, so their numbers can't be compared: "
        where = "; ".join(
            f"{f.title} on {f.evaluation[0].get('data')}" for f in folders if f.results
        )
        yield tag("p", said, where, ".", class_="alert")
    for folder in folders:
        step = number(folder.evaluation[0].get("step")) if folder.evaluation else None
        if step is not None and step < folder.steps:
            again = code(folder.command("evaluate"))
            said = (
                f"{folder.title} was measured after step {step:,.0f} of {folder.steps:,}. Again: "
            )
            yield tag("p", said, again, class_="alert")


def _other(folder: Folder, earlier: Mapping[str, Any]) -> Html:
    """Results of the same run on other images, or with earlier weights."""
    results = mapping(earlier.get("results"))
    rows = {
        title_of(name).strip(): [shown(name, mapping(e).get("value")), _compact(e)]
        for name, e in results.items()
    }
    where = f"{folder.title} on {earlier.get('data')}, step {earlier.get('step', 'unknown')}"
    columns = ["measured", "value", "all of it"]
    return details(
        f"Other images or earlier weights: {where}", table(None, columns, rows, class_="facts")
    )


def _pictures(folders: Sequence[Folder]) -> Iterator[Html]:
    for folder in folders:
        if folder.pictures:
            names = ", ".join(folder.pictures)
            yield tag("p", f"Pictures in {folder.path / 'figures'}: {names}.", class_="note")
