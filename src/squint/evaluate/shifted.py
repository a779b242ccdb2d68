"""Other test images of ImageNet's classes, classified by the linear probe fitted on the train part.

imagenet-a, -r, -sketch (Hendrycks et al. 2021a, 2021b; Wang et al. 2019): folders named by WordNet
id. Only classes that occur there may win, as in the authors' code for the 200 of A and R.
imagenet-v2 (Recht et al. 2019): folders 0 to 999, places of the sorted WordNet ids.
objectnet (Barbu et al. 2019): folders of the mapping files that come with it, read from the user's
copy; 113 of them have classes in ImageNet, several for some, and an answer among these is right.
The red border of 2 px is cut off.
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
from squint.evaluate.robustness_data import classes_of

_BORDER = 2


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


def measured(bench: Bench) -> dict[str, Any]:
    """The protocol: accuracy of the linear probe on another test set."""
    options = bench.options.shifted
    if not options.data:
        raise RunError(
            "The protocol shifted needs the other test set: give its folder with --shifted.data "
            f"and say with --shifted.kind which it is (now {options.kind})."
        )
    test = open_shifted(options.kind, options.data, bench)
    values = {which: _top1(bench, which, test) for which in bench.kinds}
    fitted = probe_of(bench).protocol.removeprefix("linear top-1: ")
    protocol = (
        f"linear top-1 on {min(options.images or len(test.images), len(test.images))} images of "
        f"{options.kind} in {options.data}, answers among {int(test.allowed.sum())} classes; probe "
        f"fitted on the train part of {bench.images.name}; {fitted}"
    )
    return {"shifted_top1": bench.entry(values, protocol)}


def _top1(bench: Bench, which: Any, test: ShiftedSet) -> float:
    probe = probe_of(bench, which)
    features, folders = labelled_features(
        bench.module(which),
        test.images,
        bench.views,
        device=bench.device,
        limit=bench.options.shifted.images or None,
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
    if kind == "imagenet-v2":
        strange = [name for name in images.classes if not name.isdigit() or int(name) >= len(known)]
        if strange or not images.classes:
            raise DataError(
                f"{folder} is not laid out as imagenet-v2: its folders must be numbers below the "
                f"{len(known)} classes of the train images, and {strange[:3] or 'none'} is not."
            )
        numbers = torch.tensor([int(name) for name in images.classes])
    else:
        numbers = classes_of(images, known)
    return ShiftedSet(images, torch.eye(len(known), dtype=torch.bool)[numbers])


def _objectnet(root: Path, bench: Bench) -> ShiftedSet:
    mappings = root / "mappings"
    labels = _json(mappings / "folder_to_objectnet_label.json")
    overlap = _json(mappings / "objectnet_to_imagenet_1k.json")
    names = _lines(mappings / "imagenet_to_label_2012_v2")
    if len(names) != bench.classes:
        raise DataError(
            f"{mappings / 'imagenet_to_label_2012_v2'} names {len(names)} classes, and "
            f"{bench.images.name} has {bench.classes}: both must be ImageNet's, in the order of "
            "their sorted WordNet ids. Give ImageNet with --data."
        )
    everything = open_source(root / "images", channels=bench.images.channels)
    if everything.labels is None:
        raise DataError(f"{root / 'images'} must hold one folder per class, as objectnet has them.")
    place = {name: number for number, name in enumerate(names)}
    folders = [name for name in everything.classes if labels.get(name) in overlap]
    right = torch.zeros(len(folders), len(names), dtype=torch.bool)
    for row, folder in enumerate(folders):
        for name in overlap[labels[folder]].split("; "):
            if name not in place:
                raise DataError(f"{mappings} disagree: no ImageNet class is called {name!r}.")
            right[row, place[name]] = True
    number = {name: row for row, name in enumerate(folders)}
    shared = [number.get(everything.classes[label], -1) for label in everything.labels]
    kept = everything.select(np.flatnonzero(np.array(shared) >= 0))
    targets = np.array([row for row in shared if row >= 0], dtype=np.int64)
    store = Borderless(kept.store, kept.channels)
    images = replace(kept, store=store, classes=tuple(folders), targets=targets)
    return ShiftedSet(images, right)


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


def _json(path: Path) -> Mapping[str, str]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise _no_mapping(path, error) from None


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except OSError as error:
        raise _no_mapping(path, error) from None


def _no_mapping(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path} can't be read ({error}). objectnet comes with images/ and mappings/, which say "
        "which of its folders are classes of ImageNet. Point --shifted.data to the folder of both."
    )
