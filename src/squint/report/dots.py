"""What can be read off the features, attribute by attribute, as rows of dots: one for each run."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from squint.evaluate.table import text, title_of
from squint.report.folder import Folder, mapping, number
from squint.report.markup import Html, details, table, tag
from squint.report.svg import marker, sign

_ROW, _LEFT, _WIDTH, _TOP = 19.0, 130.0, 420.0, 20.0
_RANDOM = " (random)"

Rows = Mapping[str, Mapping[str, Any]]
"""{attribute: {kind of probe: number}} of one run."""


def readable(name: str, folders: Sequence[Folder]) -> Html:
    """A panel for each kind of probe, and the numbers on request."""
    runs = {
        slot: {key: mapping(row) for key, row in rows.items()}
        for slot, folder in enumerate(folders)
        if (rows := mapping(mapping(folder.results.get(name)).get("table")))
    }
    kinds = dict.fromkeys(k for rows in runs.values() for row in rows.values() for k in row)
    shown = [kind for kind in kinds if not kind.endswith(_RANDOM)]
    order = _order(runs, shown)
    panels = (_panel(runs, kind, order, folders) for kind in shown)
    legend = (tag("span", sign(slot), folders[slot].title, class_="run") for slot in runs)
    random = tag(
        "span",
        "| a random encoder; 0 is what one knows without looking, 1 is all",
        class_="run quiet",
    )
    columns = ["", *(f"{folders[slot].title}: {_words(k)}" for slot in runs for k in kinds)]
    numbers = {
        _words(key): [_text(rows.get(key, {}).get(k)) for rows in runs.values() for k in kinds]
        for key in order
    }
    return tag(
        "div",
        tag("p", legend, random, class_="key-line"),
        tag("div", panels, class_="charts wider"),
        details("The numbers", table(None, columns, numbers)),
    )


def _order(runs: Mapping[int, Rows], kinds: Sequence[str]) -> list[str]:
    """Content first, as it stands in the table, then the most readable."""
    names = list(dict.fromkeys(key for rows in runs.values() for key in rows))

    def height(key: str) -> float:
        found = [
            _finite(rows.get(key, {}).get(kind)) for rows in runs.values() for kind in kinds[:1]
        ]
        return sum((value for value in found if value is not None), start=0.0)

    return names[:1] + sorted(names[1:], key=height, reverse=True)


def _panel(
    runs: Mapping[int, Rows], kind: str, order: Sequence[str], folders: Sequence[Folder]
) -> Html:
    bottom = _TOP + _ROW * len(order)
    by = "a linear probe" if kind == "linear" else _words(kind)
    said = "; ".join(
        f"{folders[slot].title}: "
        + ", ".join(f"{_words(key)} {_text(rows.get(key, {}).get(kind))}" for key in order[:4])
        for slot, rows in runs.items()
    )
    drawn = tag(
        "svg",
        _axis(bottom),
        (_row(runs, kind, key, _TOP + _ROW * (n + 0.5)) for n, key in enumerate(order)),
        viewBox=f"0 0 {_WIDTH:g} {bottom + 4:g}",
        role="img",
        aria_label=f"Readable by {by}. {said}; all numbers are in the table below.",
    )
    return tag("figure", tag("figcaption", f"readable by {by}"), drawn)


def _axis(bottom: float) -> Iterator[Html]:
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = _x(tick)
        yield tag("path", d=f"M{x:g} {_TOP:g}V{bottom:g}", class_="grid" if tick else "axis")
        yield tag("text", f"{tick:g}", x=f"{x:g}", y=12, text_anchor="middle", class_="quiet")


def _row(runs: Mapping[int, Rows], kind: str, key: str, y: float) -> Iterator[Html]:
    yield tag("text", _words(key), x=f"{_LEFT - 14:g}", y=y, dy=".35em", text_anchor="end")
    every = (_finite(rows.get(key, {}).get(kind + _RANDOM)) for rows in runs.values())
    random = next((value for value in every if value is not None), None)
    if random is not None:
        yield tag("path", d=f"M{_x(random):.1f} {y - 6:g}v12", class_="rival")
    for slot, rows in reversed(list(runs.items())):
        value = _finite(rows.get(key, {}).get(kind))
        if value is not None:
            about = tag("title", f"{_words(key)} {_text(value)}")
            yield tag("g", about, marker(slot, _x(value), y), class_=f"s{slot % 7}")


def _x(share: float) -> float:
    """Pixels; what is below 0 or above 1 stands at the end."""
    return _LEFT + min(max(share, 0.0), 1.0) * (_WIDTH - _LEFT - 12)


def _finite(value: Any) -> float | None:
    found = number(value)
    return found if found is not None and math.isfinite(found) else None


def _text(value: Any) -> str:
    found = _finite(value)
    return "–" if found is None else text("", found)


def _words(key: str) -> str:
    plain = key.removesuffix(_RANDOM)
    return title_of("kNN" if plain == "knn" else plain).strip() + key[len(plain) :]
