"""The top of a page: which runs, and in a sentence and a table what came of them."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from squint.evaluate.table import text, title_of
from squint.report.curves import verdicts
from squint.report.folder import Folder, mapping, number
from squint.report.markup import Html, code, safe, section, table, tag
from squint.report.measured import shown
from squint.report.notes import Notes, agree
from squint.report.svg import sign

HEADLINES = ("knn_top1", "linear_top1", "rate_nats", "info_nats")
"""Results of the first table. More is better, but for the rate, which is a price."""


def answer(folders: Sequence[Folder]) -> Html:
    """The section."""
    notes = Notes(folders)
    names = [name for name in HEADLINES if any(name in f.results for f in folders)]
    best = {name: _best(folders, name, notes) for name in names}
    columns = ["run", *(tag("span", title_of(n), _protocol(n, notes)) for n in names)]
    rows = {
        tag("span", sign(slot), f.title, tag("small", f"{f.method}, {f.source}"), class_="run"): [
            _cell(f, name, slot in best[name]) for name in names
        ]
        for slot, f in enumerate(folders)
    }
    first = table(None, columns, rows, class_="answer") if names else None
    facts = {title: [tell(f) for f in folders] for title, tell in _FACTS.items()}
    facts = {title: cells for title, cells in facts.items() if any(cells)}
    about = table("The runs", ["", *(f.title for f in folders)], facts, class_="facts")
    unmeasured = (_unmeasured(f) for f in folders if not f.results)
    problems = (tag("p", said, class_="alert") for f in folders for said in f.problems)
    sentences = tag("p", _sentences(folders, best))
    how = tag("p", _HOW, class_="note") if names else None
    return section("answer", "Answer", problems, sentences, first, how, unmeasured, about)


_HOW = (
    "On images not trained on. Bold is the best of runs that were measured in one way, each in its "
    "own evaluation view; the rate is a price and has no best. § leads to how it was measured."
)


def _protocol(name: str, notes: Notes) -> Html | None:
    said = list(notes.of(name))
    if not said:
        return None
    link = tag("a", "§", href="#measured", title="\n\n".join(said), aria_label="how it is measured")
    return tag("sup", link)


def _unmeasured(folder: Folder) -> Html:
    again = code(folder.command("evaluate"))
    return tag("p", f"{folder.title} has not been measured yet: ", again, class_="note")


def _best(folders: Sequence[Folder], name: str, notes: Notes) -> set[int]:
    """Places of the runs with the highest number, where several were measured in one way."""
    values = {slot: v for slot, f in enumerate(folders) if (v := _number(f, name)) is not None}
    if name == "rate_nats" or len(values) < 2 or not agree(notes.of(name)):
        return set()
    top = max(values.values())
    return {slot for slot, value in values.items() if value == top}


def _number(folder: Folder, name: str, part: str = "value") -> float | None:
    found = number(mapping(folder.results.get(name)).get(part))
    return found if found is not None and math.isfinite(found) else None


def _cell(folder: Folder, name: str, best: bool) -> Html:
    entry = mapping(folder.results.get(name))
    random = _number(folder, name, "random")
    beside = [] if random is None else [f"random {text(name, random)}"]
    if name == "info_nats" and (cap := _number(folder, "info_cap_nats")) is not None:
        beside.append(f"of at most {text(name, cap)}")
    below = tag("small", ", ".join(beside)) if beside else None
    said = entry.get("protocol")
    return tag(
        "td",
        shown(name, entry.get("value")),
        below,
        class_="best" if best else None,
        data_label=title_of(name),
        title=said if isinstance(said, str) else None,
    )


def _sentences(folders: Sequence[Folder], best: dict[str, set[int]]) -> Iterator[Html]:
    """The accuracies in words, each beside that of a random encoder."""
    if len(folders) > 1 and best and not any(best.values()):
        yield safe("No result was measured of several runs in one way: none is called best. ")
    for name in ("knn_top1", "linear_top1"):
        tops = best.get(name) or ({0} if len(folders) == 1 else set())
        for slot in sorted(tops)[:1]:
            folder = folders[slot]
            value, random = _number(folder, name), _number(folder, name, "random")
            if value is None:
                continue
            which = f"Best {title_of(name)}: " if len(folders) > 1 else f"{title_of(name)}: "
            also = f" and {len(tops) - 1} more" if len(tops) > 1 else ""
            yield tag(
                "span",
                which[0].upper() + which[1:] if len(folders) > 1 else which,
                tag("b", f"{folder.title}{also}, {text(name, value)}"),
                _against(name, value, random),
                ". ",
            )


def _against(name: str, value: float, random: float | None) -> str:
    if random is None:
        return ""
    if value <= random:
        return f", no better than a random encoder ({text(name, random)})"
    return f" against {text(name, random)} of a random encoder"


def _images(folder: Folder) -> str:
    count = number(folder.derived.get("images"))
    return folder.source + (f", {count:,.0f} images" if count is not None else "")


def _encoder(folder: Folder) -> str:
    name, size = folder.setting("encoder", "name"), folder.setting("views", "size")
    width = number(folder.setting("encoder", "width"))
    wide = f", width {width:g}" if width not in (None, 1.0) else ""
    return f"{name or ''}{wide}" + (f", {size} px" if size else "")


def _trained(folder: Folder) -> Any:
    total, epochs = number(folder.derived.get("total_steps")), folder.setting("train", "epochs")
    if not folder.records:
        return "nothing logged yet"
    of = f" of {total:,.0f}" if total is not None else ""
    epoch = folder.latest("epoch")
    passes = f", {epoch:.4g} of {epochs:g} epochs" if epoch is not None and number(epochs) else ""
    done = f"step {folder.steps:,}{of}{passes}"
    if folder.finished:
        return f"finished: {done}"
    return tag("td", tag("b", "not finished"), f": {done}")


def _time(folder: Folder) -> str:
    """Seconds of training by the logged speed, and what that speed was."""
    batch, before, seconds, speeds = number(folder.setting("train", "batch_size")), 0.0, 0.0, []
    waits: list[float] = []
    for record in folder.records:
        speed, step = number(record.get("images_per_second")), float(record["step"])
        if speed and math.isfinite(speed) and speed > 0:
            seconds += max(step - before, 0) * (batch or 0) / speed
            before = step
            speeds.append(speed)
            waits.append(number(record.get("data_wait")) or 0.0)
    if not speeds:
        return ""
    middle = sorted(speeds)[len(speeds) // 2]
    waiting = f", {sum(waits) / len(waits):.0%} of it waiting for images"
    return f"{_duration(seconds)} at {middle:,.0f} images / s{waiting}"


def _duration(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if minutes < 100 else f"{hours:.1f} h"


def _health(folder: Folder) -> str:
    words = verdicts(folder)
    return words[-1][1] if words else ""


_FACTS = {
    "method": lambda f: f.method,
    "images": _images,
    "encoder": _encoder,
    "trained": _trained,
    "time": _time,
    "health": _health,
    "begun": lambda f: f.begun,
    "last line": lambda f: f.last,
    "made by": lambda f: f"Squint {f.version}" if f.version else "",
    "folder": lambda f: str(f.path),
}
