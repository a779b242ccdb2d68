"""Folders of `squint sweep`: the runs in them, and what sweep.json says of all seeds together."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from squint.evaluate.table import title_of
from squint.report.folder import mapping, number
from squint.report.markup import Html, section, table, tag
from squint.report.measured import shown

FILE = "sweep.json"


def runs_of(folder: Path) -> list[Path]:
    """The runs of a sweep that are there, in its order; [] for any other folder."""
    names = [row.get("path") for row in _rows(_read(folder), "runs")]
    inside = [folder / name for name in names if isinstance(name, str)]
    return [path for path in inside if (path / "recipe.json").exists()]


def summaries(folders: list[Path]) -> Html | None:
    """The section: a table for each sweep; None if no folder is one."""
    found = [part for folder in folders if (part := _summary(folder)) is not None]
    return section("sweep", "Over all seeds", found) if found else None


def _summary(folder: Path) -> Html | None:
    sweep = _read(folder)
    rows = _rows(sweep, "summary")
    if not rows:
        return None
    names = dict.fromkeys(name for row in rows for name in row if name != "value")
    cells = {title_of(name).strip(): [_cell(name, row) for row in rows] for name in names}
    caption = f"{sweep.get('recipe')} on {sweep.get('data')} over {sweep.get('over')}"
    columns = ["mean ± deviation over seeds", *(str(row.get("value")) for row in rows)]
    note = tag("p", sweep.get("note") or None, class_="note")
    failed = [row for row in _rows(sweep, "runs") if "error" in row]
    bad = (tag("p", f"{r.get('path')}: {r['error']}", class_="alert") for r in failed)
    return tag("div", table(caption, columns, cells), note, bad)


def _cell(name: str, row: Mapping[str, Any]) -> str:
    spread = mapping(row.get(name))
    deviation = number(spread.get("std"))
    beside = "" if deviation is None else f" ± {shown(name, deviation)}"
    return shown(name, spread.get("mean")) + beside


def _rows(sweep: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    rows = sweep.get(name)
    return [mapping(row) for row in rows] if isinstance(rows, list) else []


def _read(folder: Path) -> Mapping[str, Any]:
    try:
        return mapping(json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
