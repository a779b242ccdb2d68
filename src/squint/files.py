"""Files that are written whole or not at all, and locks that one process holds at a time.

Where the platform or the file system knows no locks, nobody is kept out and nobody waits.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows: without locks
    fcntl = None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well.

    Readers see the old file or the new one, also after a crash or a full disk. Several processes
    may write the same path at once: the last to finish wins.

    Raises:
        OSError: The folder can't be written or the disk is full; `path` is as it was.
    """
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")
    temporary.open("xb").close()
    try:
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """No other thread or process is in such a block of the same path, which need not exist.

    Waits for whoever is; a dead process keeps nobody waiting.
    """
    held = _locked(lock_file(path))
    try:
        yield
    finally:
        if held is not None:
            with suppress(OSError):
                lock_file(path).unlink()
            unlock(held)
            held.close()


def lock_file(path: Path) -> Path:
    """The file that is there while somebody holds the lock of a path, or was when it died."""
    return path.with_name(f".{path.name}.lock")


def try_lock(file: BinaryIO) -> bool:
    """Whether an open file is ours now, or can't be anyone's; does not wait."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def unlock(file: BinaryIO) -> None:
    """Let others have the file. Closing is not enough: a process forked meanwhile has it, too."""
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)


def _locked(name: Path) -> BinaryIO | None:
    """The lock file, open and ours, or None where locks are not to be had."""
    if fcntl is None:
        return None
    with suppress(OSError):
        name.parent.mkdir(parents=True, exist_ok=True)
        while True:
            with ExitStack() as opened:
                file = opened.enter_context(name.open("wb"))
                fcntl.flock(file, fcntl.LOCK_EX)
                with suppress(FileNotFoundError):  # whoever had it may have removed it
                    if os.path.samestat(os.fstat(file.fileno()), name.stat()):
                        opened.pop_all()
                        return file
    return None
