"""Corrupted test images: made here, or read from a folder as the benchmarks are published.

CIFAR-10-C, CIFAR-100-C: NAME.npy, uint8 (5 k, 32, 32, 3), severity 1 first, and labels.npy (5 k,).
ImageNet-C: NAME/SEVERITY/CLASS/*.JPEG, NAME perhaps within noise/, blur/, weather/ and so on. Its
files are the central 224 px of images whose shorter side was resized to 256 px.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from squint.data import Images, Unreadable, open_source, permutation
from squint.errors import DataError
from squint.evaluate.bench import Bench
from squint.evaluate.corruptions import COMMON, NAMES, corrupt
from squint.evaluate.inputs import BATCH, labelled_squares
from squint.evaluate.labels import Classes
from squint.evaluate.mce import CLEAN
from squint.evaluate.parts import tested_split
from squint.shapes import Pixels, Rows
from squint.views.recipes import ViewsConfig
from squint.views.two_views import EvaluationView

_LUMA = (0.299, 0.587, 0.114)
_CUT, _BEFORE_CUT = 224, 256
"""Side of a file of ImageNet-C, and shorter side of the image it was cut from, in pixels."""


class Piece(NamedTuple):
    """Test images under one corruption, as the encoder would see them, not normalised."""

    name: str
    """Of the corruption, or `CLEAN`."""
    severity: int
    """1 to 5; 0 for clean images."""
    pixels: Pixels
    labels: Classes


def corrupted_here(bench: Bench) -> Iterator[Piece]:
    """Clean images of the test part, and all their corruptions, a few hundred at a time."""
    options = bench.options.robustness
    names = NAMES if options.extra else COMMON
    limit = options.images or None
    for numbers, pixels, labels in labelled_squares(bench.parts.test, bench.views, limit=limit):
        yield Piece(CLEAN, 0, pixels, labels)
        for name in names:
            for severity in range(1, 6):
                worse = _corrupt(pixels, name, severity, numbers, options.seed)
                yield Piece(name, severity, worse, labels)


def _corrupt(pixels: Pixels, name: str, severity: int, numbers: Rows, seed: int) -> Pixels:
    """Grey images become RGB for it, and grey again by luminance."""
    if pixels.shape[1] == 3:
        return corrupt(pixels, name, severity, rows=numbers, seed=seed)
    rgb = pixels.expand(-1, 3, -1, -1)
    worse = corrupt(rgb, name, severity, rows=numbers, seed=seed).float()
    grey = sum(weight * worse[:, k] for k, weight in enumerate(_LUMA))  # (n, h, w)
    return torch.as_tensor(grey).round().to(torch.uint8)[:, None]


def corrupted_in(bench: Bench, folder: Path) -> Iterator[Piece]:
    """Clean images of the test part, then those of a folder, a few hundred at a time.

    Raises:
        DataError: the folder is of neither layout, or of other classes or labels, or the source
            has no train and test splits.
    """
    if tested_split(bench.images) is None:
        raise DataError(
            f"{bench.images.name} has no train and test splits, so the probe would be fitted on a "
            "random part of it, and the corrupted images are of all. Give the data set with both "
            "splits with --data, or leave --robustness.data out: test images are corrupted here."
        )
    limit = bench.options.robustness.images or None
    for _, pixels, labels in labelled_squares(bench.parts.test, bench.views, limit=limit):
        yield Piece(CLEAN, 0, pixels, labels)
    if (folder / "labels.npy").exists():
        yield from _from_arrays(bench, folder, limit)
    else:
        yield from _from_folders(bench, folder, limit)


def _from_arrays(bench: Bench, folder: Path, limit: int | None) -> Iterator[Piece]:
    labels = np.array(_array(folder / "labels.npy")).ravel()
    _check_labels(bench, folder, labels, limit)
    classes = torch.from_numpy(labels.astype(np.int64))
    count = len(labels) // 5
    chosen = np.sort(permutation(0, 0, count)[: limit or count])
    view = EvaluationView(bench.views)
    for name in NAMES:
        path = folder / f"{name}.npy"
        if not path.exists():
            continue
        images = _array(path)
        if images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(labels):
            raise DataError(
                f"{path} has shape {images.shape} and type {images.dtype}, but must be uint8, "
                f"{len(labels)} x h x w x 3, like labels.npy. Get it again."
            )
        for severity in range(1, 6):
            for start in range(0, len(chosen), BATCH):
                rows = (severity - 1) * count + chosen[start : start + BATCH]
                pixels = torch.from_numpy(images[rows]).permute(0, 3, 1, 2).contiguous()
                yield Piece(name, severity, view.square(pixels), classes[rows])


def _array(path: Path) -> np.ndarray:
    """The array of a .npy file, mapped into memory.

    Raises:
        DataError: the file is damaged.
    """
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{path} can't be read as a numpy array ({error}). It must be whole and hold plain "
            "numbers. Get it again."
        ) from error


def _check_labels(bench: Bench, folder: Path, labels: np.ndarray, limit: int | None) -> None:
    if labels.dtype.kind not in "iu" or len(labels) % 5 or not len(labels):
        raise DataError(
            f"{folder / 'labels.npy'} has {len(labels)} labels of type {labels.dtype}, but must "
            "have whole numbers, as many for each of 5 severities. Get it again."
        )
    if labels.max() + 1 != bench.classes:
        raise DataError(
            f"{folder / 'labels.npy'} has {labels.max() + 1} classes, {bench.images.name} has "
            f"{bench.classes}: the probe must know the classes, in the same order. Give the clean "
            "images of the same data set with --data."
        )
    test, severities = bench.parts.test.labels, np.split(labels, 5)
    if test is None or any(not np.array_equal(np.sort(part), np.sort(test)) for part in severities):
        raise DataError(
            f"{folder / 'labels.npy'} has {len(labels) // 5} labels for each of 5 severities, and "
            f"{bench.parts.test.name} has {len(bench.parts.test)} images: they must be the same "
            "images with the same labels. Give the clean images of the same data set with --data."
        )
    some = limit is not None and limit < len(test)
    if some and any(not np.array_equal(part, test) for part in severities):
        raise DataError(
            f"{folder / 'labels.npy'} has the images of {bench.parts.test.name} in another order, "
            f"so {limit} of them would not be the same, clean and corrupted. Give "
            "--robustness.images 0 (all), or --data with the data set in its own order "
            "(torchvision:CIFAR10)."
        )


def _from_folders(bench: Bench, folder: Path, limit: int | None) -> Iterator[Piece]:
    for name, place in _places(folder):
        for severity in range(1, 6):
            images = open_source(place / str(severity), channels=bench.images.channels)
            numbers = classes_of(images, bench.images.classes)
            views = uncut(bench.views) if _is_cut(images) else bench.views
            for _, pixels, labels in labelled_squares(images, views, limit=limit):
                yield Piece(name, severity, pixels, numbers[labels])


def describe(bench: Bench, folder: Path) -> str:
    """The folder in words, and what of its images is shown."""
    if (folder / "labels.npy").exists():
        return str(folder)
    _, place = _places(folder)[0]
    if not _is_cut(open_source(place / "1", channels=bench.images.channels)):
        return str(folder)
    return (
        f"{folder}, files of {_CUT} px that were cut from {_BEFORE_CUT} px, of which the central "
        f"{100 * uncut(bench.views).evaluation.crop:.4g} % are shown"
    )


def uncut(views: ViewsConfig) -> ViewsConfig:
    """Views that show of a file of ImageNet-C what `views` show of the image it was cut from.

    All of the file where they would show more than it has.
    """
    crop = min(1.0, views.evaluation.crop * _BEFORE_CUT / _CUT)
    return replace(views, evaluation=replace(views.evaluation, crop=crop))


def _is_cut(images: Images) -> bool:
    """Whether the first image that can be read has the size of ImageNet-C's."""
    for row in range(len(images)):
        try:
            picture = images.picture(row)
        except Unreadable:
            continue
        return picture.height == picture.width == _CUT
    return False


def _places(folder: Path) -> list[tuple[str, Path]]:
    """The corruptions of a folder, and where their severities are.

    Raises:
        DataError: there are none.
    """
    places = [(name, place) for name in NAMES if (place := _place(folder, name)) is not None]
    if not places:
        raise DataError(
            f"{folder} holds no corrupted images: there must be NAME.npy and labels.npy (as in "
            "CIFAR-10-C) or NAME/SEVERITY/CLASS/*.JPEG (as in ImageNet-C), NAME one of "
            f"{', '.join(NAMES)}. Point to the folder that holds them."
        )
    return places


def _place(folder: Path, name: str) -> Path | None:
    """Where a corruption's severities are: in the folder itself or one level down."""
    found = [folder / name, *sorted(folder.glob(f"*/{name}"))]
    return next((place for place in found if (place / "1").is_dir()), None)


def classes_of(images: Images, known: tuple[str, ...]) -> Int[Tensor, " classes"]:
    """Number among the known classes of each class of `images`, by its name.

    Raises:
        DataError: a class is unknown, or there are none.
    """
    place = {name: number for number, name in enumerate(known)}
    strange = [name for name in images.classes if name not in place]
    if images.labels is None:
        raise DataError(
            f"{images.name} has no class folders, or images beside them, and the folders say what "
            "is right. Give the folder that holds one folder per class and nothing else."
        )
    if strange:
        raise DataError(
            f"{images.name} has {len(strange)} of {len(images.classes)} class folders that the "
            f"train images lack ({', '.join(strange[:5])}): the probe knows only theirs. Give the "
            "clean images of the same data set with --data."
        )
    return torch.tensor([place[name] for name in images.classes])
