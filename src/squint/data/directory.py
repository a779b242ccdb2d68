"""Images in a directory, searched recursively."""

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from squint.data.decode import Unreadable
from squint.data.images import Images, Store, endings, passing_over
from squint.data.layout import is_image, laid_out, nothing_found
from squint.errors import DataError

_NOT_OURS = ("lost+found", "@eaDir")
"""Folders that file systems and network drives make for themselves."""


@dataclass(frozen=True)
class Files(Store):
    """Files on disk; `names` are relative to `root` unless absolute."""

    root: Path
    names: tuple[str, ...]

    def fetch(self, row: int) -> Path:
        """The file's path, if there is a regular file.

        Raises:
            Unreadable: If there is none, or it can't be looked at.
        """
        path = self.root / self.names[row]
        try:
            kind = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: "\0"
            raise Unreadable("file not found") from error
        except OSError as error:
            raise Unreadable((error.strerror or str(error)).lower()) from error
        if not stat.S_ISREG(kind):
            raise Unreadable("not a file")
        return path

    def stamp(self) -> str:
        """Digest of names, sizes and times of change; one look at every file."""
        return f"files {self._digest(lambda file: f'{file.st_size} {file.st_mtime_ns}')}"

    def unique_stamp(self) -> str:
        """The same, with the folder and the times at which the files came there.

        BMP files of equal images have one size, and archives give one time to all.
        """
        times = self._digest(lambda file: f"{file.st_size} {file.st_mtime_ns} {file.st_ctime_ns}")
        return f"files {self.root.resolve()} {times}"

    def _digest(self, known: Callable[[os.stat_result], str]) -> str:
        digest = hashlib.sha256()
        for name in self.names:
            try:
                text = known((self.root / name).stat())
            except (OSError, ValueError):
                text = "missing"
            digest.update(f"{name}\0{text}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


def open_directory(root: Path, name: str, channels: int) -> Images:
    """Every image below `root`, sorted by name; links are followed.

    Raises:
        DataError: If there is none, or a folder can't be listed.
    """
    images: list[str] = []
    others: list[str] = []
    _search(root, "", (), images, others)
    if not images:
        raise nothing_found(name, others)
    names = tuple(sorted(images))
    found = laid_out(name, names, Files(root.absolute(), names), channels)
    return passing_over(found, endings(others))


def _search(
    root: Path, below: str, above: tuple[str, ...], images: list[str], others: list[str]
) -> None:
    """Collect file names below `root / below`.

    `above` are the real folders on the way: a link to one of them would run in a circle.
    """
    here = os.path.realpath(root / below)
    if here in above:
        return
    try:
        entries = list(os.scandir(root / below))
    except OSError as error:
        raise DataError(
            f"The folder {root / below} can't be listed ({error.strerror}). Every folder below the "
            "source must be readable. Change its permissions, or move it elsewhere."
        ) from error
    for entry in entries:
        name = f"{below}{entry.name}"
        if _is(entry.is_dir):
            if not entry.name.startswith(".") and entry.name not in _NOT_OURS:
                _search(root, f"{name}/", (*above, here), images, others)
        elif not is_image(name):
            others.append(name)
        elif _is(entry.is_file) or entry.is_symlink():
            images.append(name)


def _is(kind: Callable[[], bool]) -> bool:
    """What an entry is; nothing, if that can't be told: a link to itself, say."""
    try:
        return kind()
    except OSError:
        return False
