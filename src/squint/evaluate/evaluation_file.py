"""evaluation.json: results stay in it whatever is measured next, also by several at once."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from squint import runs
from squint.errors import RunError

try:
    import fcntl
except ImportError:  # Windows: without the lock
    fcntl = None

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
    with _alone(path):
        table = joined(path, head, results)
        runs.write_json(path, table)
    return table


def _is_of(table: Table, head: Mapping[str, Any]) -> bool:
    """Whether a table is of these weights and images; earlier versions noted only the name."""
    images = "fingerprint" if "fingerprint" in table else "data"
    return all(table.get(key) == head[key] for key in ("weights", images))


def _read(path: Path) -> Table:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} can't be read ({error}), and writing it anew would lose what it holds. "
            "Move it away or restore it."
        ) from None


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """No other process is in such a block of the same path; a dead one keeps nobody waiting.

    Where the platform or the file system knows no locks, nobody waits.
    """
    name = path.with_name(f".{path.name}.lock")
    lock = _locked(name)
    try:
        yield
    finally:
        if lock is not None:
            name.unlink(missing_ok=True)
            lock.close()


def _locked(name: Path) -> BinaryIO | None:
    """The lock file, open and ours, or None where locks are not to be had."""
    if fcntl is None:
        return None
    with contextlib.suppress(OSError):
        while True:
            with contextlib.ExitStack() as opened:
                lock = opened.enter_context(name.open("wb"))
                fcntl.flock(lock, fcntl.LOCK_EX)
                with contextlib.suppress(FileNotFoundError):  # whoever had it may have removed it
                    if os.path.samestat(os.fstat(lock.fileno()), name.stat()):
                        opened.pop_all()
                        return lock
    return None
