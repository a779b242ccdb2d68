"""Classification sets that torchvision can download, by name: `torchvision:CIFAR10`.

They are kept in SQUINT_DATA, or in `torchvision/` below the cache directory, and downloaded only
if they are not there. torchvision's own splits keep their meaning; `trainval` is called train.
"""

import contextlib
import difflib
import functools
import http.client
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from squint.data.cachedir import cache_directory
from squint.data.decode import Unreadable, reason_of
from squint.data.images import UNKNOWN, Images, Store, located
from squint.errors import DataError
from squint.files import lock, lock_file

PREFIX = "torchvision:"

_Splits = Mapping[str, Mapping[str, Any]]
_FLAG: _Splits = {"train": {"train": True}, "test": {"train": False}}
_TWO: _Splits = {"train": {"split": "train"}, "test": {"split": "test"}}
_THREE: _Splits = {name: {"split": name} for name in ("train", "val", "test")}


@dataclass(frozen=True)
class _Kind:
    splits: _Splits
    """Split to constructor arguments."""
    labels: str
    """Attribute of the dataset: labels, or (file, label) pairs."""


KNOWN: dict[str, _Kind] = {
    "CIFAR10": _Kind(_FLAG, "targets"),
    "CIFAR100": _Kind(_FLAG, "targets"),
    "Country211": _Kind({**_THREE, "val": {"split": "valid"}}, "targets"),
    "DTD": _Kind(_THREE, "_labels"),
    "EuroSAT": _Kind({"": {}}, "targets"),
    "FGVCAircraft": _Kind(_THREE, "_labels"),
    "FashionMNIST": _Kind(_FLAG, "targets"),
    "Flowers102": _Kind(_THREE, "_labels"),
    "Food101": _Kind(_TWO, "_labels"),
    "GTSRB": _Kind(_TWO, "_samples"),
    "Imagenette": _Kind({name: {"split": name} for name in ("train", "val")}, "_samples"),
    "KMNIST": _Kind(_FLAG, "targets"),
    "MNIST": _Kind(_FLAG, "targets"),
    "OxfordIIITPet": _Kind({**_TWO, "train": {"split": "trainval"}}, "_labels"),
    "STL10": _Kind({**_TWO, "unlabeled": {"split": "unlabeled"}}, "labels"),
    "SVHN": _Kind(_TWO, "labels"),
    "USPS": _Kind(_FLAG, "targets"),
}
"""Names that can follow `torchvision:`."""


@dataclass(frozen=True)
class TorchvisionSet(Store):
    """Images of all splits of one torchvision set, one split after the other."""

    name: str
    root: Path
    splits: tuple[str, ...]
    starts: tuple[int, ...]
    """First row of each split."""

    def fetch(self, row: int) -> Image.Image:
        """One image, as torchvision opens it.

        Raises:
            Unreadable: If torchvision can't open it.
        """
        which, place = located(row, self.starts)
        part = _loaded(self.name, self.splits[which], self.root)
        try:
            return part[place][0]
        # What it raises is Pillow's, of a dozen unrelated types, as in `decode`.
        except Exception as error:
            raise Unreadable(reason_of(error)) from error

    def stamp(self) -> str:
        """Name and place; torchvision checks contents when it unpacks them."""
        return f"{PREFIX}{self.name} {self.root}"


def open_torchvision(text: str, channels: int) -> Images:
    """All splits of a torchvision set, downloaded if it is not there yet.

    Raises:
        DataError: If the name is unknown, or the set is neither there nor to be had.
    """
    name = text.removeprefix(PREFIX)
    if name not in KNOWN:
        raise _unknown(name)
    kind = KNOWN[name]
    root = _root()
    parts = {split: _loaded(name, split, root) for split in kind.splits}
    counts = [len(part) for part in parts.values()]
    labels = [_labels(part, kind.labels) for part in parts.values()]
    starts = np.cumsum([0, *counts])
    targets = np.concatenate(labels)
    splits = tuple(split for split in parts if split)
    return Images(
        name=text,
        paths=tuple(
            f"{split}/{i:06d}".lstrip("/")
            for split, part in parts.items()
            for i in range(len(part))
        ),
        store=TorchvisionSet(name, root, tuple(parts), tuple(starts[:-1].tolist())),
        rows=np.arange(starts[-1]),
        channels=channels,
        classes=_classes(next(iter(parts.values())), int(targets.max()) + 1),
        targets=targets,
        splits=splits,
        groups=np.repeat(np.arange(len(counts)), counts) if splits else None,
    )


def _root() -> Path:
    chosen = os.environ.get("SQUINT_DATA")
    return Path(chosen).expanduser().absolute() if chosen else cache_directory() / "torchvision"


@functools.cache
def _loaded(name: str, split: str, root: Path) -> Any:
    """One split, kept per process.

    Raises:
        DataError: If it is neither there nor to be had.
    """
    # torchvision imports torch; nothing else that opens a source needs it.
    from torchvision import datasets

    make = functools.partial(getattr(datasets, name), root, **KNOWN[name].splits[split])
    absent = (RuntimeError, OSError)
    # While another rank downloads, what is there may be half of it.
    locked = lock_file(root / name)
    if not locked.exists():
        with contextlib.suppress(*absent):
            found = make(download=False)
            if not locked.exists():
                return found
    try:
        with lock(root / name):
            with contextlib.suppress(*absent):
                return make(download=False)
            root.mkdir(parents=True, exist_ok=True)
            return make(download=True)
    except (RuntimeError, OSError, http.client.HTTPException, ValueError) as error:
        why = " ".join(str(error).split())
        raise DataError(
            f"{PREFIX}{name} is not in {root} and can't be downloaded ({why}). It must be there as "
            "torchvision leaves it, or the network must be reachable. Download it where there is "
            "a network, copy that folder here, and set SQUINT_DATA to it."
        ) from error


def _labels(dataset: Any, attribute: str) -> np.ndarray:
    values = getattr(dataset, attribute)
    if attribute == "_samples":
        values = [label for _, label in values]
    return np.maximum(np.asarray(values, dtype=np.int64), UNKNOWN)


def _classes(dataset: Any, count: int) -> tuple[str, ...]:
    # Some sets have no names for their classes, Imagenette has several for each.
    names = getattr(dataset, "classes", range(count))
    return tuple(name if isinstance(name, str) else _joined(name) for name in names)


def _joined(name: Any) -> str:
    return ", ".join(name) if isinstance(name, tuple) else str(name)


def _unknown(name: str) -> DataError:
    folded = {each.lower(): each for each in KNOWN}
    near = [folded[each] for each in difflib.get_close_matches(name.lower(), folded, n=3)]
    hint = f"Did you mean {' or '.join(near)}?" if near else "Choose one of them"
    return DataError(
        f"There is no {PREFIX}{name}. The names are {', '.join(KNOWN)}. {hint}{'' if near else '.'}"
    )
