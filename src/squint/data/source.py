"""`open_source`: from one string to images."""

import difflib
from collections.abc import Callable
from pathlib import Path

from squint.data import hub
from squint.data.array import open_array
from squint.data.decode import PICTURE_CHANNELS
from squint.data.demo import open_demo
from squint.data.directory import open_directory
from squint.data.images import Images
from squint.data.pathlist import open_list
from squint.data.pattern import is_pattern, open_pattern
from squint.data.shards import is_range, open_shards
from squint.data.tar import open_tar
from squint.data.torchvision_sets import PREFIX, open_torchvision
from squint.data.zip import open_zip
from squint.errors import DataError

_KINDS = (
    "a folder, a pattern 'photos/**/*.jpg', a .txt list of paths, a .tar, .tar.gz, .tgz or .zip "
    "archive, tar shards dir/{0000..0127}.tar, a .npz or .npy array, torchvision:NAME, "
    "hf:NAME[:SPLIT], or demo"
)


def open_source(text: str | Path, *, channels: int = 3) -> Images:
    """Images of any source, in a fixed order; nothing is decoded yet.

    Args:
        text: A folder, pattern, list, archive, shards, array file, `torchvision:NAME`,
            `hf:NAME[:SPLIT]`, or `demo`. A `Path` is always a path: `Path("demo")` is a folder of
            that name.
        channels: 1 for grey, 3 for RGB; images of any kind are converted. Another number, for a
            .npy or .npz array of exactly so many, which are taken as they are.

    Raises:
        DataError: If the source is missing, empty, damaged or of an unknown kind, or has no images
            of so many channels.
    """
    if not isinstance(text, (str, Path)):
        raise DataError(
            f"A source is one text, this is a {type(text).__name__}. It must be {_KINDS}. Write "
            "paths into a .txt file, one a line, and give that."
        )
    if text == "":
        raise DataError(f"The source is an empty text. It must be {_KINDS}. Name one with --data.")
    _check_channels(text, channels)
    try:
        if isinstance(text, str) and (named := _named(text, channels)) is not None:
            return named
        name = f"./{text}" if isinstance(text, Path) and _is_name(str(text)) else str(text)
        return _at_path(Path(text).expanduser(), name, channels)
    except OSError as error:
        raise DataError(
            f"{text} can't be read ({error.strerror or error}). The source must be readable. "
            "Change its permissions, or copy it to a local disk."
        ) from error


def _check_channels(text: str | Path, channels: int) -> None:
    path = Path(text).expanduser()
    array = path.name.lower().endswith((".npy", ".npz")) and not path.is_dir()
    if channels < 1 or not (channels in PICTURE_CHANNELS or array):
        raise DataError(
            f"{text} can't be read in {channels} channels: any source can in 1 (grey) or 3 (RGB), "
            "others only .npy and .npz arrays that have as many, uint8 or uint16 (N, h, w, c). "
            "Save the images as one, or give --encoder.in-channels 1 or 3."
        )


def from_anywhere(source: str | Path) -> str:
    """The source as a text that opens the same images from any working folder.

    Paths, patterns and shard ranges become absolute, links in them are kept: what they lead to may
    have another ending. What is no source stays as it is.
    """
    if isinstance(source, str) and source.startswith(hub.PREFIX):
        return hub.absolute(source)
    path = Path(source).expanduser()
    several = is_range(str(source)) or is_pattern(str(source))
    if isinstance(source, str) and (_is_name(source) or not (path.exists() or several)):
        return source
    return str(path.absolute())


def _is_name(text: str) -> bool:
    """Whether a text stands for images without being a path."""
    return text == "demo" or text.startswith((PREFIX, hub.PREFIX))


def _named(text: str, channels: int) -> Images | None:
    """A source that is not one path, or None."""
    if text == "demo":
        return open_demo(channels)
    if text.startswith(PREFIX):
        return open_torchvision(text, channels)
    if text.startswith(hub.PREFIX):
        return hub.open_hub(text, channels)
    if Path(text).expanduser().exists():  # names may have brackets
        return None
    if is_range(text):
        return open_shards(text, channels)
    return open_pattern(text, channels) if is_pattern(text) else None


def _at_path(path: Path, name: str, channels: int) -> Images:
    if path.is_dir():
        return open_directory(path, name, channels)
    if path.is_symlink() and not path.exists():
        raise DataError(f"{path} is a link that leads nowhere. Mend it, or give what it stood for.")
    if not path.exists():
        raise _missing(path)
    return _opener(path)(path, name, channels)


def _opener(path: Path) -> Callable[[Path, str, int], Images]:
    name = path.name.lower()
    for endings, opener in _OPENERS.items():
        if name.endswith(endings):
            return opener
    raise DataError(
        f"{path} is a file of a kind that is not known. A source is {_KINDS}. For a single image, "
        "give the folder it is in."
    )


def _open_one_tar(path: Path, name: str, channels: int) -> Images:
    return open_tar([path], name, channels)


_OPENERS: dict[tuple[str, ...], Callable[[Path, str, int], Images]] = {
    (".tar", ".tar.gz", ".tgz"): _open_one_tar,
    (".zip",): open_zip,
    (".txt",): open_list,
    (".npy", ".npz"): open_array,
}


def _missing(path: Path) -> DataError:
    hint = "Check the spelling and the working folder."
    if path.parent.is_dir():
        beside = [each.name for each in path.parent.iterdir()]
        near = difflib.get_close_matches(path.name, beside, n=3)
        if near:
            hint = f"Did you mean {' or '.join(str(path.parent / each) for each in near)}?"
    return DataError(f"There is no source {str(path)!r}. A source is {_KINDS}. {hint}")
