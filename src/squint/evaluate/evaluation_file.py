"""evaluation.json: results stay in it whatever is measured next, also by several at once."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from squint import runs
from squint.errors import RunError
from squint.files import lock

Table = dict[str, Any]
"""What the file holds: `results` by name (entries as in `bench.py`), what they are of, and in
`others` the tables of other data or earlier weights."""


def joined(path: Path, head: Mapping[str, Any], results: Mapping[str, Any]) -> Table:
    """The file's table of these weights and images with more results; the file is left alone.

    Args:
        path: the file, which need not exist.
        head: what the results are of: `weights`, `data`, `fingerprint` of the images, and more.
        results: entries by name; they replace earlier ones.

    Raises:
        RunError: the file is damaged.
    """
    earlier = _read(path)
    tables = [table for table in (earlier, *earlier.pop("others", [])) if table.get("results")]
    others = [table for table in tables if not _is_of(table, head)]
    known: dict[str, Any] = {}
    for table in reversed(tables):  # the latest comes first
        if _is_of(table, head):
            known |= table["results"]
    kept = {"others": others} if others else {}
    return dict(head) | {"results": known | dict(results)} | kept


def add(path: Path, head: Mapping[str, Any], results: Mapping[str, Any]) -> Table:
    """Write `joined` to the file, together with what other processes have written meanwhile.

    Raises:
        RunError: the file is damaged or can't be written.
    """
    with lock(path):
        table = joined(path, head, results)
        runs.write_json(path, table)
    return table


def _is_of(table: Table, head: Mapping[str, Any]) -> bool:
    """Whether a table is of these weights and images; earlier versions noted only the name."""
    images = "fingerprint" if "fingerprint" in table else "data"
    return all(table.get(key) == head[key] for key in ("weights", images))


def _read(path: Path) -> Table:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} can't be read ({error}), and writing it anew would lose what it holds. "
            "Move it away or restore it."
        ) from None
