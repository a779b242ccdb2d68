"""`open_source`: from one string to images."""

import difflib
from collections.abc import Callable
from pathlib import Path

from squint.data.demo import open_demo
from squint.data.directory import open_directory
from squint.data.images import Images
from squint.data.tar import open_tar
from squint.errors import DataError

_KINDS = (
    "a folder, a .txt list of paths, a .tar, .tar.gz, .tgz or .zip archive, tar shards "
    "dir/{0000..0127}.tar, a .npz or .npy array, torchvision:NAME, or demo"
)


def open_source(text: str | Path, *, channels: int = 3) -> Images:
    """Images of any source, in a fixed order; nothing is decoded yet.

    Args:
        text: A folder, list, archive, shards, array file, `torchvision:NAME`, or `demo`. A `Path`
            is always a path: `Path("demo")` is a folder of that name.
        channels: 1 for grey, 3 for RGB; images of any kind are converted.

    Raises:
        DataError: If the source is missing, empty, damaged or of an unknown kind.
    """
    if channels not in (1, 3):
        raise DataError(
            f"channels={channels} is not supported: images are read as grey (1) or RGB (3). "
            "Choose one of them."
        )
    if text == "demo":
        return open_demo(channels)
    path = Path(text).expanduser()
    if path.is_dir():
        return open_directory(path, str(text), channels)
    if not path.exists():
        raise _missing(path)
    opener = _opener(path)
    try:
        return opener(path, str(text), channels)
    except OSError as error:
        raise DataError(
            f"{path} can't be read ({error.strerror or error}). The source must be a readable "
            "file. Change its permissions, or copy it to a local disk."
        ) from error


def _opener(path: Path) -> Callable[[Path, str, int], Images]:
    name = path.name.lower()
    if name.endswith((".tar", ".tar.gz", ".tgz")):
        return lambda archive, shown, channels: open_tar([archive], shown, channels)
    raise DataError(
        f"{path} is a file of a kind that is not known. A source is {_KINDS}. "
        "For single images, give the folder they are in."
    )


def _missing(path: Path) -> DataError:
    near: list[str] = []
    if path.parent.is_dir():
        beside = [each.name for each in path.parent.iterdir()]
        near = difflib.get_close_matches(path.name, beside, n=3)
    hint = (
        f"Did you mean {' or '.join(str(path.parent / each) for each in near)}?"
        if near
        else ("Check the spelling and the working folder")
    )
    return DataError(f"There is no source {str(path)!r}. A source is {_KINDS}. {hint}")
