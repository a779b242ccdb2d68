"""Image data sets of the Hugging Face hub, or of its form on disk: `hf:NAME` or `hf:NAME:SPLIT`.

NAME is what `datasets.load_dataset` takes, such as `uoft-cs/cifar10`, or a folder. The set is
downloaded once, by that library, into its own cache. Images are decoded by our rule, from the
bytes as they are stored; code that comes with a data set is never run.
"""

import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from squint.data.decode import Unreadable
from squint.data.images import UNKNOWN, Images, Store, located
from squint.data.layout import numbered
from squint.errors import DataError

PREFIX = "hf:"

_RENAMED = {"validation": "val", "valid": "val"}
_IMAGE_NAMES, _LABEL_NAMES = ("image", "img"), ("label", "labels", "fine_label")


@dataclass(frozen=True)
class HubSet(Store):
    """Images of some splits of one set, one split after the other."""

    name: str
    splits: tuple[str, ...]
    """As the set calls them."""
    starts: tuple[int, ...]
    """First row of each split."""
    column: str
    known: str
    """Changes with the content."""

    def fetch(self, row: int) -> bytes | Path:
        """One image as it is stored.

        Raises:
            Unreadable: If this row has none.
        """
        which, place = located(row, self.starts)
        found = _encoded(self.name, self.splits[which], self.column)[place][self.column]
        if found is None:
            raise Unreadable("the row has no image")
        return Path(found["path"]) if found["bytes"] is None else found["bytes"]

    def stamp(self) -> str:
        """Name and content."""
        return f"{PREFIX}{self.name} {self.known}"


def open_hub(text: str, channels: int) -> Images:
    """All splits of a set, or the one that is named.

    Raises:
        DataError: If there is no such set, split or image in it, or it is not to be had.
    """
    name, wanted = parts(text)
    found = _loaded(name)
    if wanted and wanted not in found:
        raise DataError(
            f"{PREFIX}{name} has no split {wanted!r}: its splits are {', '.join(found)}. Choose "
            "one of them, or name none to have all."
        )
    names = (wanted,) if wanted else tuple(found)
    column = _image_column(text, found[names[0]])
    counts = [len(found[split]) for split in names]
    starts = np.cumsum([0, *counts])
    classes, targets = _targets([found[split] for split in names])
    splits = () if wanted else tuple(_RENAMED.get(split, split) for split in names)
    known = " ".join(str(found[split]._fingerprint) for split in names)
    return Images(
        name=text,
        paths=tuple(
            f"{split}/{i:07d}"
            for split, count in zip(names, counts, strict=True)
            for i in range(count)
        ),
        store=HubSet(name, names, tuple(starts[:-1].tolist()), column, known),
        rows=np.arange(starts[-1]),
        channels=channels,
        classes=classes,
        targets=targets,
        splits=splits,
        groups=np.repeat(np.arange(len(counts)), counts) if splits else None,
    )


def parts(text: str) -> tuple[str, str]:
    """Name and split (or "") of a source."""
    rest = text.removeprefix(PREFIX)
    name, colon, split = rest.rpartition(":")
    return (rest, "") if not colon or Path(rest).exists() else (name, split)


def absolute(text: str) -> str:
    """The same source from any working folder."""
    name, split = parts(text)
    place = str(Path(name).absolute()) if Path(name).is_dir() else name
    return f"{PREFIX}{place}:{split}" if split else f"{PREFIX}{place}"


@functools.cache
def _loaded(name: str) -> Any:
    """Splits by name, kept per process.

    Raises:
        DataError: If the library is missing, or the set is not to be had.
    """
    if importlib.util.find_spec("datasets") is None:
        raise DataError(
            f"{PREFIX}{name} is read by the package datasets, which is not installed: pip install "
            "'squint[hub]'."
        )
    import datasets

    datasets.disable_progress_bars()
    try:
        if (Path(name) / "dataset_dict.json").exists() or (Path(name) / "state.json").exists():
            found = datasets.load_from_disk(name)
        else:
            found = datasets.load_dataset(name)
    except Exception as error:  # of the hub, the network, the disk: a dozen unrelated types
        why = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DataError(
            f"{PREFIX}{name} can't be opened ({why}). It must be a data set of the hub, in the "
            "cache or with a network to fetch it by, or a folder that `datasets` reads."
        ) from error
    return found if isinstance(found, datasets.DatasetDict) else {"train": found}


@functools.cache
def _encoded(name: str, split: str, column: str) -> Any:
    """The image column of a split, its images not decoded."""
    import datasets

    only = _loaded(name)[split].select_columns([column])
    return only.cast_column(column, datasets.Image(decode=False))


def _image_column(text: str, part: Any) -> str:
    import datasets

    columns = [name for name, kind in part.features.items() if isinstance(kind, datasets.Image)]
    if not columns:
        raise DataError(
            f"{text} has no column of images: its columns are {', '.join(part.features)}. Choose a "
            "data set of images."
        )
    return next((name for name in _IMAGE_NAMES if name in columns), columns[0])


def _targets(found: list[Any]) -> tuple[tuple[str, ...], np.ndarray | None]:
    """Classes and a label for each image; one that is below 0 or missing is unknown."""
    import datasets

    features = found[0].features
    named = [name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    column = next((name for name in _LABEL_NAMES if name in features), named[0] if named else "")
    if not all(column in part.features for part in found) or not column:
        return (), None
    values = [label for part in found for label in part.select_columns([column])[:][column]]
    if column in named:
        targets = np.array([UNKNOWN if each is None else each for each in values], dtype=np.int64)
        return tuple(features[column].names), np.maximum(targets, UNKNOWN)
    if not all(each is None or isinstance(each, (int, str)) for each in values):
        return (), None
    return numbered([None if each is None else str(each) for each in values])
