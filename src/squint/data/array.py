"""Images in one numpy file.

`.npy`: the images. `.npz`: `images` or `x`, with `labels` or `y` if there are any; or splits,
`x_train` with `y_train`, and `x_val`, `x_test` likewise. Images are uint8 or uint16, (N, h, w) or
(N, h, w, c): read as grey or RGB, c is 1, 3 or 4 (alpha); read in another number of channels, it is
that number. Labels are whole numbers (below 0: none) or texts, (N,) or (N, 1). A `.npy` is
memory-mapped; an `.npz` is held in memory.
"""

import functools
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from squint.data.cachedir import file_identity
from squint.data.decode import LEAST_SIDE, PICTURE_CHANNELS
from squint.data.images import Images, Store, located
from squint.data.layout import numbered, printable
from squint.errors import DataError

_SPLITS = ("train", "val", "test")
_STARTS = {".npy": b"\x93NUMPY", ".npz": b"PK"}
_DAMAGED = (  # whatever numpy and zipfile make of bytes that are others than those written
    ValueError,
    EOFError,
    RuntimeError,
    tokenize.TokenError,
    zlib.error,
    zipfile.BadZipFile,
)
_NAMES = "images (or x), with labels (or y); or x_train, y_train, x_val, y_val, x_test, y_test"


@dataclass(frozen=True)
class ArrayRows(Store):
    """Rows of the arrays in a numpy file, one array after the other."""

    path: Path
    keys: tuple[str, ...]
    """Names in an .npz; one empty name for an .npy."""
    starts: tuple[int, ...]
    """First row of each array."""
    identity: str

    def fetch(self, row: int) -> np.ndarray:
        """One image, (h, w) or (h, w, c), uint8 or uint16."""
        which, place = located(row, self.starts)
        return np.asarray(_member(self.path, self.keys[which], self.identity)[place])

    def stamp(self) -> str:
        """Path, size and time of change of the file."""
        return self.identity


def open_array(path: Path, name: str, channels: int) -> Images:
    """The images of a .npy or .npz file, in its order.

    Raises:
        DataError: If the file is damaged or of the other kind, or its arrays are not images of so
            many channels.
    """
    path = path.absolute()
    _check_kind(path)
    known = file_identity(path)
    try:
        keys = _keys(path)
        pairs = _pairs(path, keys)
        arrays = {key: _member(path, key, known) for key, _, _ in pairs}
        labels = [
            None if label is None else np.asarray(_member(path, label, known))
            for _, label, _ in pairs
        ]
    except _DAMAGED as error:
        why = "" if "allow_pickle" in str(error) else f" ({error})"
        raise DataError(
            f"{path} can't be read as numpy arrays{why}. It must be whole and hold plain numbers, "
            "no Python objects. Save it again with np.save or np.savez."
        ) from error
    for key, array in arrays.items():
        _check_images(path, key, array, channels)
    counts = [len(array) for array in arrays.values()]
    classes, targets = _targets(path, labels, counts)
    splits = tuple(split for _, _, split in pairs if split)
    starts = np.cumsum([0, *counts])
    return Images(
        name=name,
        paths=tuple(
            f"{key or path.stem}/{i:06d}" for key in arrays for i in range(len(arrays[key]))
        ),
        store=ArrayRows(path, tuple(arrays), tuple(starts[:-1].tolist()), known),
        rows=np.arange(starts[-1]),
        channels=channels,
        classes=classes,
        targets=targets,
        splits=splits,
        groups=np.repeat(np.arange(len(counts)), counts) if splits else None,
    )


@functools.lru_cache(maxsize=16)
def _member(path: Path, key: str, _version: str) -> np.ndarray:
    """An array of the file, kept per process; `_version` tells a rewritten file from the old."""
    if not key:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return arrays[key]


def _check_kind(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(8)
    for kind, bytes_of_kind in _STARTS.items():
        if start.startswith(bytes_of_kind) and path.suffix.lower() != kind:
            raise DataError(
                f"{path} holds what numpy calls {kind}, an array for .npy and several for .npz. "
                f"The ending must say which it is. Rename it to {path.stem}{kind}."
            )


def _keys(path: Path) -> tuple[str, ...]:
    if path.suffix.lower() == ".npy":
        return ("",)
    # Opened here, because numpy leaves the file of a damaged archive open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return tuple(arrays.files)


def _pairs(path: Path, keys: tuple[str, ...]) -> list[tuple[str, str | None, str]]:
    """Images, labels and split, as names: ("x_train", "y_train", "train")."""
    if keys == ("",):
        return [("", None, "")]
    for images in ("images", "x"):
        if images in keys:
            return [(images, next((each for each in ("labels", "y") if each in keys), None), "")]
    pairs = [
        (f"x_{split}", f"y_{split}" if f"y_{split}" in keys else None, split)
        for split in _SPLITS
        if f"x_{split}" in keys
    ]
    if not pairs:
        raise DataError(
            f"{path} has the arrays {', '.join(keys) or '(none)'}, but none that Squint knows. "
            f"Images must be called {_NAMES}. Save it again under these names."
        )
    return pairs


def _check_images(path: Path, key: str, array: np.ndarray, channels: int) -> None:
    here = f"{key} in {path}" if key else str(path)
    if array.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"{here} is {array.dtype}. Images must be uint8, 0 to 255, or uint16, 0 to 65535, "
            "because other types have no agreed range. Scale and convert it, then save it again."
        )
    held = array.shape[3] if array.ndim == 4 else 1
    fits = held in (1, 3, 4) if channels in PICTURE_CHANNELS else held == channels
    if array.ndim not in (3, 4) or not (fits or _channels_last(array.shape, channels)):
        remedy = "transposed by (0, 2, 3, 1)" if array.ndim == 4 else "in that shape"
        raise DataError(
            f"{here} has the shape {array.shape}. Images must be (N, h, w) or (N, h, w, c), "
            f"channels last. Save it {remedy}."
        )
    if not fits:
        flag = f"--encoder.in-channels {held}"
        raise DataError(
            f"{here} has images of {held} channels, not of {channels}. To train on them give "
            f"{flag}, and the mean and std of each channel, which `squint doctor --data {path} "
            f"{flag}` prints; a trained encoder needs images of as many channels as it has."
        )
    if not len(array):
        raise DataError(f"{here} has no images: its shape is {array.shape}. Add at least one.")


def _channels_last(shape: tuple[int, ...], channels: int) -> bool:
    """Whether an array of another number of channels is not, from its looks, (N, c, h, w)."""
    if len(shape) == 3:
        return True
    _, first, middle, last = shape
    return first >= LEAST_SIDE and first != channels and not first != middle == last


def _targets(
    path: Path, labels: list[np.ndarray | None], counts: list[int]
) -> tuple[tuple[str, ...], np.ndarray | None]:
    names: list[str | None] = []
    for values, count in zip(labels, counts, strict=True):
        if values is None:
            names += [None] * count
            continue
        if values.size != count or values.dtype.kind not in "iuU":
            raise DataError(
                f"Labels in {path} have the shape {values.shape} and the type {values.dtype}, for "
                f"{count} images. There must be one whole number or text per image. Correct them, "
                "or leave them out: training needs none."
            )
        names += [printable(str(each)) for each in values.ravel().tolist()]
    return numbered(names)
