"""Tables behind one result, run beside run; errors under corruption are shaded like a heat map."""

import math
from collections.abc import Mapping
from typing import Any

from squint.evaluate.table import text, title_of
from squint.report.folder import mapping, number
from squint.report.markup import Html, table, tag
from squint.report.svg import sign

HEAT = "corrupted_error"


def grid(name: str, rows: Mapping[str, Any], run: str, slot: int) -> Html:
    """The numbers behind a result of one run.

    Args:
        name: of the result.
        rows: {row: {column: number}}.
        run: title of the run.
        slot: its place on the page.
    """
    columns = list(dict.fromkeys(key for row in rows.values() for key in mapping(row)))
    keep = name.startswith("compare")  # whose rows are paths
    filled = {
        title if keep else _words(title): [_cell(name, mapping(row).get(c)) for c in columns]
        for title, row in rows.items()
    }
    whose = tag("span", sign(slot), run, class_="run")
    heads = ["corruption, severity" if name == HEAT else "", *map(_words, columns)]
    return table(whose, heads, filled, class_="heat" if name == HEAT else "")


def _cell(name: str, value: Any) -> Html:
    found = number(value)
    if found is None or not math.isfinite(found):
        return tag("td", None if value is None else str(value))
    warmth = f"--v:{min(max(found, 0), 1):.3f}" if name == HEAT else None
    return tag("td", text(name, found), style=warmth)


def _words(key: str) -> str:
    return title_of(key).strip()
