"""Where derived files are kept, and how they come to be: whole or not at all, by one process."""

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows: without the lock
    fcntl = None

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

    Several processes may write the same path at once: each writes its own temporary file beside
    it, the last to finish wins, and readers see one whole file or the other.

    Raises:
        OSError: If the directory can't be written or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """No other thread or process is in such a block of the same path, which need not exist.

    A dead one keeps nobody waiting. Where the platform or the file system knows no locks, or the
    folder can't be written, nobody waits.
    """
    lock = _locked(lock_of(path))
    try:
        yield
    finally:
        if fcntl is not None and lock is not None:
            with contextlib.suppress(OSError):
                lock_of(path).unlink()
            # Closing is not enough: a process forked meanwhile has the file open, too.
            fcntl.flock(lock, fcntl.LOCK_UN)
            lock.close()


def lock_of(path: Path) -> Path:
    """The file that is there while somebody is `alone` with the path, or was when it died."""
    return path.with_name(f".{path.name}.lock")


def _locked(name: Path) -> BinaryIO | None:
    """The lock file, open and ours, or None where locks are not to be had."""
    if fcntl is None:
        return None
    with contextlib.suppress(OSError):
        name.parent.mkdir(parents=True, exist_ok=True)
        while True:
            with contextlib.ExitStack() as opened:
                lock = opened.enter_context(name.open("wb"))
                fcntl.flock(lock, fcntl.LOCK_EX)
                with contextlib.suppress(FileNotFoundError):  # whoever had it may have removed it
                    if os.path.samestat(os.fstat(lock.fileno()), name.stat()):
                        opened.pop_all()
                        return lock
    return None


def _sweep(path: Path) -> None:
    """Remove what a killed process left of this file, once nobody can be writing it any more."""
    for left in path.parent.glob(f"{path.name}.tmp-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                left.unlink()
