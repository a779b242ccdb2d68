"""Files that are written whole or not at all, and locks that one process holds at a time.

What a user asks to be written is looked at first: nothing is overwritten unasked.

Where the platform or the file system knows no locks, nobody is kept out and nobody waits.
"""

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from squint.errors import RunError

try:
    import fcntl
except ImportError:  # Windows: without locks
    fcntl = None


def check_file(
    out: Path, *, kinds: Sequence[str] = (), overwrite: bool, flag: str = "--out"
) -> None:
    """Make sure that a file may be written, before anything is computed.

    Args:
        out: the file.
        kinds: endings that its name may have; any if there are none.
        overwrite: whether a file that is there may be replaced.
        flag: what names it on the command line.

    Raises:
        RunError: another ending, no such folder or one that is not ours to write, no name of a
            file, or something there already.
    """
    if kinds and out.suffix.lower() not in kinds:
        raise RunError(f"{flag} {out} must end in {_either(kinds)}: the ending says its kind.")
    check_folder(out, flag=flag)
    if out.exists() and not out.is_file():
        what = "a folder" if out.is_dir() else "no ordinary file"
        raise RunError(f"{flag} {out} is {what}. Give the name of a file.")
    if os.path.lexists(out) and not overwrite:
        raise RunError(
            f"{flag} {out} is there already, and no file is overwritten unasked. Give another "
            "name, or add --overwrite to replace it."
        )


def check_folder(out: Path, *, flag: str = "--out") -> None:
    """Make sure that the folder is there in which `out` is to be.

    Raises:
        RunError: it is not, or it is not ours to write.
    """
    if not out.parent.is_dir():
        raise RunError(f"{flag} {out}: the folder {out.parent} does not exist. Make it first.")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise RunError(
            f"{flag} {out}: the folder {out.parent} is not ours to write. Give another place, or "
            "change its permissions."
        )


def _either(kinds: Sequence[str]) -> str:
    *first, last = kinds
    return f"{', '.join(first)} or {last}" if first else last


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
