"""HTML and SVG from nested calls: whatever is not markup already is escaped.

tag("p", "kNN of ", tag("b", name), class_="note")      # <p class="note">kNN of <b>…</b></p>
"""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_VOID = ("br", "hr", "img", "meta")

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and those that turn the direction of what follows."""


class Html(str):
    """Markup, safe as it stands."""

    __slots__ = ()


def safe(piece: Any) -> Html:
    """A piece as markup: text is escaped, sequences are joined, None is nothing."""
    if isinstance(piece, Html):
        return piece
    if piece is None:
        return Html()
    if isinstance(piece, Iterable) and not isinstance(piece, str):
        return Html("".join(map(safe, piece)))
    return Html(html.escape(_UNPRINTABLE.sub("\ufffd", str(piece))))


def tag(name: str, /, *content: Any, **attributes: Any) -> Html:
    """An element; `class_` is written class, `text_anchor` text-anchor, and None is left out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{safe(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    end = "" if name in _VOID else f"{safe(content)}</{name}>"
    return Html(f"<{name}{written}>{end}")


def table(
    caption: Any, columns: Sequence[Any], rows: Mapping[Any, Sequence[Any]], *, class_: str = ""
) -> Html:
    """A table with headers for columns and rows; it scrolls by itself where it is too wide.

    Args:
        caption: what it shows; None where the heading before it says so.
        columns: headers, the first above the row headers.
        rows: cells by row header; a cell that is a `td` already is taken as it is.
        class_: of the table.
    """
    head = tag("tr", (tag("th", column, scope="col") for column in columns))
    body = (
        tag("tr", tag("th", title, scope="row"), (_cell(cell) for cell in cells))
        for title, cells in rows.items()
    )
    title = None if caption is None else tag("caption", caption)
    inside = tag("table", title, tag("thead", head), tag("tbody", body), class_=class_ or None)
    return tag("div", inside, class_="wide", tabindex="0", role="group", aria_label="table")


def _cell(cell: Any) -> Html:
    return cell if isinstance(cell, Html) and cell.startswith("<td") else tag("td", cell)


def details(summary: Any, *content: Any, class_: str | None = None) -> Html:
    """What is there on request; a printed page has it open, but for the class "more"."""
    return tag("details", tag("summary", summary), content, class_=class_)


def code(command: str) -> Html:
    """A command to copy."""
    return tag("code", command)


def section(id_: str, title: str, *content: Any) -> Html:
    """A part of the page with its heading."""
    heading = tag("h2", title, id=f"{id_}-title")
    return tag("section", heading, content, id=id_, aria_labelledby=f"{id_}-title")
