"""Where derived files are kept, and how they come to be: whole or not at all."""

import contextlib
import glob
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from squint.files import replacing

_STALE_SECONDS = 86_400.0


def cache_directory() -> Path:
    """SQUINT_CACHE, else XDG_CACHE_HOME/squint, else ~/.cache/squint; it need not exist yet.

    Absolute: what lies there is read again after the working folder has changed.
    """
    if chosen := os.environ.get("SQUINT_CACHE"):
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "squint"


def file_identity(path: Path) -> str:
    """A file's absolute path, size and time of change: what caches made from it are keyed by."""
    status = path.stat()
    return f"file {path.resolve()} {status.st_size} {status.st_mtime_ns}"


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write that appears under `path` when the block ends well, and never otherwise.

    See `files.replacing`; folders are made, and what killed processes left is removed.

    Raises:
        OSError: If the directory can't be written or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    with replacing(path) as temporary, temporary.open("wb") as file:
        yield file


def _sweep(path: Path) -> None:
    """Remove what a killed process left of this file, once nobody can be writing it any more."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.tmp-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                left.unlink()
