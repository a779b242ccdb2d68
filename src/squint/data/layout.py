"""From the names of files to splits, classes and labels.

Names are read as `[wrapper/...][split/][class/]file`. Folders that all images share are wrappers
and mean nothing. There are splits if `train/` (or `training/`) stands alone or beside `val/` (or
`valid/`, `validation/`) or `test/` (or `testing/`), or if every image is in one of these folders.
Within a split, or the whole if there is none, class folders give labels if every image lies
exactly one level down; images at any other depth, or a folder named as a split other than train or
`unlabeled`, mean that folders are not classes there. Images outside every split have no label.
One folder is not a classification.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from squint.data.images import UNKNOWN, Images, Store
from squint.errors import DataError

SUFFIXES = frozenset(
    ".avif .bmp .gif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split()
)
"""Lower-case endings that make a file an image."""

_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_NO_CLASSES = frozenset(_SPLITS) - {"train"} | {"unlabeled", "unlabelled"}
"""Folders of these names hold no class; trains are among the classes of CIFAR-100 and others."""
_BELOW_0 = re.compile("-0*[1-9][0-9]*")
_ORDER = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What the names tell; fields as in `Images`."""

    splits: tuple[str, ...]
    groups: np.ndarray | None
    classes: tuple[str, ...]
    targets: np.ndarray | None


def is_image(name: str) -> bool:
    """Whether a file of this name counts: an image ending, nothing hidden on the way to it."""
    if PurePosixPath(name).suffix.lower() not in SUFFIXES:
        return False
    return not any(part.startswith(".") or part == "__MACOSX" for part in parts(name))


def parts(name: str) -> list[str]:
    """Folders and file of a name; a leading `/` or `..` is ignored, names are only names."""
    return [part for part in name.split("/") if part not in ("", ".", "..")]


def printable(name: str) -> str:
    """The name on one line of any terminal or file: control and undecodable characters escaped."""
    if name.isprintable():
        return name
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def laid_out(name: str, names: Sequence[str], store: Store, channels: int) -> Images:
    """Images of files called `names` (sorted, row by row of `store`), with what the names tell."""
    layout = arrange(names)
    return Images(
        name=name,
        paths=tuple(printable(each) for each in names),
        store=store,
        rows=np.arange(len(names)),
        channels=channels,
        classes=layout.classes,
        targets=layout.targets,
        splits=layout.splits,
        groups=layout.groups,
    )


def arrange(names: Sequence[str]) -> Layout:
    """Splits, classes and labels of image files with these names."""
    folders = _unwrapped([tuple(parts(name)[:-1]) for name in names])
    tops = [_SPLITS.get(folder[0].lower()) if folder else None for folder in folders]
    found = set(tops) - {None}
    if None in tops and not (len(found) > 1 and "train" in found):
        classes, targets = _labels(folders, np.zeros(len(names), dtype=np.int64))
        return Layout(splits=(), groups=None, classes=classes, targets=targets)
    splits = tuple(split for split in _ORDER if split in found)
    groups = np.array([splits.index(top) if top else UNKNOWN for top in tops], dtype=np.int64)
    inner = [folder[1:] if top else () for folder, top in zip(folders, tops, strict=True)]
    classes, targets = _labels(inner, groups)
    return Layout(splits=splits, groups=groups, classes=classes, targets=targets)


def numbered(labels: Sequence[str | None]) -> tuple[tuple[str, ...], np.ndarray | None]:
    """Classes in order and each label's place among them, -1 for none; fewer than two: no classes.

    A whole number below 0 is the usual mark of an image without a label, and means none as None
    does. Labels that are all whole numbers are ordered as numbers: "2" comes before "10".
    """
    return _in_order(
        [None if label is None or _BELOW_0.fullmatch(label) else label for label in labels]
    )


def _in_order(names: Sequence[str | None]) -> tuple[tuple[str, ...], np.ndarray | None]:
    known = {name for name in names if name is not None}
    if len(known) < 2:
        return (), None
    decimal = all(name.isascii() and name.isdigit() for name in known)
    classes = sorted(known, key=(lambda name: (int(name), name)) if decimal else None)
    place = {name: k for k, name in enumerate(classes)}
    targets = [UNKNOWN if name is None else place[name] for name in names]
    return tuple(classes), np.array(targets, dtype=np.int64)


def _labels(
    folders: Sequence[tuple[str, ...]], groups: np.ndarray
) -> tuple[tuple[str, ...], np.ndarray | None]:
    """Classes and targets from class folders, decided for each group on its own."""
    unsorted = {
        group
        for folder, group in zip(folders, groups.tolist(), strict=True)
        if len(folder) != 1 or folder[0].lower() in _NO_CLASSES
    }
    return _in_order(
        [
            None if group in unsorted else printable(folder[0])
            for folder, group in zip(folders, groups.tolist(), strict=True)
        ]
    )


def _unwrapped(folders: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Without the folders all images share; `train` is a split even if it stands alone."""
    first, last = min(folders), max(folders)
    shared = 0
    while (
        shared < min(len(first), len(last))
        and first[shared] == last[shared]
        and _SPLITS.get(first[shared].lower()) != "train"
    ):
        shared += 1
    return [folder[shared:] for folder in folders]


def nothing_found(name: str, others: Iterable[str]) -> DataError:
    """The error of a source without images; `others` are the files that were passed over."""
    kinds = Counter(PurePosixPath(other).suffix.lower() or "no ending" for other in others)
    seen = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5)) or "nothing"
    return DataError(
        f"{name} holds no images (found: {seen}). There must be files ending in one of "
        f"{' '.join(sorted(SUFFIXES))} that are not hidden. Point to the folder or archive "
        "that holds them."
    )
