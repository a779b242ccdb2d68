"""Other test images of ImageNet's classes, classified by the linear probe fitted on the train part.

imagenet-a, -r, -sketch (Hendrycks et al. 2021a, 2021b; Wang et al. 2019): folders named by WordNet
id, 200 of A and R, 1000 of Sketch. Only classes that occur there may win, as in the authors' code.
imagenet-v2 (Recht et al. 2019): folders 0 to 999, places of the sorted WordNet ids.
objectnet (Barbu et al. 2019): 313 folders, and mapping files that are read from the user's copy;
113 folders have classes in ImageNet, several for some, and an answer among these is right. The
red border of 2 px is cut off.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from squint.data import Images, open_source
from squint.data.decode import Raw, decode
from squint.data.images import Store
from squint.errors import DataError, RunError
from squint.evaluate.bench import Bench
from squint.evaluate.inputs import labelled_features
from squint.evaluate.linear import probe_of
from squint.evaluate.mce import IMAGENET_CLASSES
from squint.evaluate.robustness_data import classes_of

_BORDER = 2
_FOLDERS = {
    "imagenet-a": 200,
    "imagenet-r": 200,
    "imagenet-sketch": 1000,
    "imagenet-v2": 1000,
    "objectnet": 113,
}
"""Class folders that count, in each set as published."""


@dataclass(frozen=True)
class ShiftedSet:
    """Test images, and what counts as right."""

    images: Images
    """Labels index into the rows of `right`."""
    right: Tensor
    """(folders, classes) bool: which answers of the probe are right for a folder."""

    @property
    def allowed(self) -> Tensor:
        """(classes,) bool: what the probe may answer, all that is right for some folder."""
        return self.right.any(dim=0)


def check(bench: Bench) -> None:
    """Refuse to begin without the other test set.

    Raises:
        RunError: none was given.
    """
    if not bench.options.shifted.data:
        raise RunError(
            "The protocol shifted needs the other test set: give its folder with --shifted.data "
            f"and say with --shifted.kind which it is (now {bench.options.shifted.kind})."
        )


def measured(bench: Bench) -> dict[str, Any]:
    """The protocol: accuracy of the linear probe on another test set."""
    check(bench)
    options = bench.options.shifted
    test = open_shifted(options.kind, options.data, bench)
    values = {which: _top1(bench, which, test) for which in bench.kinds}
    folders, published = len(test.images.classes), _FOLDERS[options.kind]
    complete = "" if folders == published else f" ({folders} of its {published} class folders)"
    protocol = (
        f"linear top-1 on {min(options.images or len(test.images), len(test.images))} images of "
        f"{options.kind}{complete} in {options.data}, answers among {int(test.allowed.sum())} "
        f"classes; probe fitted on the train part of {bench.images.name}; {probe_of(bench).fitted}"
    )
    return {"shifted_top1": bench.entry(values, protocol, own_test=False)}


def _top1(bench: Bench, which: Any, test: ShiftedSet) -> float:
    probe = probe_of(bench, which)
    features, folders = labelled_features(
        bench.module(which),
        test.images,
        bench.views,
        device=bench.device,
        limit=bench.options.shifted.images or None,
        precision=bench.precision,
    )
    logits = (features @ probe.weight.T + probe.bias).masked_fill(~test.allowed, -torch.inf)
    answer = logits.argmax(dim=1)
    return test.right[folders, answer].double().mean().item()


def open_shifted(kind: str, folder: str, bench: Bench) -> ShiftedSet:
    """A test set as its authors ship it.

    Raises:
        DataError: the folder has another layout, or other classes than the train images.
    """
    if kind == "objectnet":
        return _objectnet(Path(folder), bench)
    images = open_source(folder, channels=bench.images.channels)
    known = bench.images.classes
    numbers = _places(images, bench) if kind == "imagenet-v2" else classes_of(images, known)
    return ShiftedSet(images, torch.eye(len(known), dtype=torch.bool)[numbers])


def _places(images: Images, bench: Bench) -> Tensor:
    """Class of every folder of imagenet-v2: its number."""
    if bench.classes != IMAGENET_CLASSES:
        raise DataError(
            f"The folders of imagenet-v2 are places among the {IMAGENET_CLASSES} classes of "
            f"ImageNet, and {bench.images.name} has {bench.classes}. Give ImageNet with --data."
        )
    strange = [n for n in images.classes if not n.isdigit() or int(n) >= IMAGENET_CLASSES]
    if strange or images.labels is None:
        raise DataError(
            f"{images.name} is not laid out as imagenet-v2: its folders must be numbers from 0 to "
            f"{IMAGENET_CLASSES - 1}, and it has {', '.join(strange[:3]) or 'none'}. Give "
            "the folder that holds them."
        )
    return torch.tensor([int(name) for name in images.classes])


def _objectnet(root: Path, bench: Bench) -> ShiftedSet:
    mappings = root / "mappings"
    labels = _json(mappings / "folder_to_objectnet_label.json")
    overlap = _json(mappings / "objectnet_to_imagenet_1k.json")
    place = _places_of_names(mappings, bench)
    everything = open_source(root / "images", channels=bench.images.channels)
    if everything.labels is None:
        raise DataError(f"{root / 'images'} must hold one folder per class, as objectnet has them.")
    folders = [name for name in everything.classes if labels.get(name) in overlap]
    right = torch.zeros(len(folders), bench.classes, dtype=torch.bool)
    for row, folder in enumerate(folders):
        for name in overlap[labels[folder]].split("; "):
            if name not in place:
                raise DataError(
                    f"The files of {mappings} disagree: no ImageNet class is called {name!r}. Get "
                    "them again."
                )
            right[row, place[name]] = True
    if not folders:
        raise DataError(
            f"None of the {len(everything.classes)} folders of {root / 'images'} has a class in "
            "ImageNet. Point --shifted.data to the folder of images/ and mappings/."
        )
    number = {name: row for row, name in enumerate(folders)}
    shared = [number.get(everything.classes[label], -1) for label in everything.labels]
    kept = everything.select(np.flatnonzero(np.array(shared) >= 0))
    targets = np.array([row for row in shared if row >= 0], dtype=np.int64)
    store = Borderless(kept.store, kept.channels)
    images = replace(kept, store=store, classes=tuple(folders), targets=targets)
    return ShiftedSet(images, right)


def _places_of_names(mappings: Path, bench: Bench) -> dict[str, int]:
    """Class of the probe by the name ObjectNet has for it.

    Its list of names is in the order of the ILSVRC2012 development kit, not of WordNet ids; another
    of its files translates.
    """
    names = _lines(mappings / "imagenet_to_label_2012_v2")
    kit = _json(mappings / "pytorch_to_imagenet_2012_id.json")
    place = {int(line): int(number) for number, line in kit.items()}
    if not len(names) == len(place) == bench.classes:
        raise DataError(
            f"{mappings} names {len(names)} classes and numbers {len(place)}, and "
            f"{bench.images.name} has {bench.classes}: all must be the {IMAGENET_CLASSES} of "
            "ImageNet. Give ImageNet with --data."
        )
    return {name: place[line] for line, name in enumerate(names)}


@dataclass(frozen=True)
class Borderless(Store):
    """Images without their outermost 2 pixels."""

    inner: Store
    channels: int

    def fetch(self, row: int) -> Raw:
        """The decoded image, cropped."""
        pixels = decode(self.inner.fetch(row), self.channels)
        return pixels[_BORDER:-_BORDER, _BORDER:-_BORDER]

    def stamp(self) -> str:
        """That of the images with their border, and the border."""
        return f"{self.inner.stamp()} without {_BORDER} px"

    def unique_stamp(self) -> str:
        """Likewise."""
        return f"{self.inner.unique_stamp()} without {_BORDER} px"


def _json(path: Path) -> Mapping[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _no_mapping(path, error) from None


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise _no_mapping(path, error) from None


def _no_mapping(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path} can't be read ({error}). objectnet comes with images/ and mappings/, which say "
        "which of its folders are classes of ImageNet. Point --shifted.data to the folder of both."
    )
