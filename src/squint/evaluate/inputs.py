"""Images of a source as batches of encoder inputs, with their labels."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from squint.data import Images, Packed, Unreadable, pack
from squint.errors import DataError

Transform = Callable[[Tensor], Tensor]

HELD_OUT = 0.2
"""Share of the images that is tested where the source has no test split."""

_THREADS = 8
_TEST_SPLITS = ("test", "val", "valid", "validation")


class Halves(NamedTuple):
    """What is learned from and what is tested, and how they were told apart."""

    train: Images
    test: Images
    note: str


def halves(images: Images, *, seed: int = 0) -> Halves:
    """The source's own train and test splits, or a random fifth of all images as the test part.

    Raises:
        DataError: the source has no labels.
    """
    if "train" in images.splits and (names := [n for n in _TEST_SPLITS if n in images.splits]):
        parts = Halves(images.split("train"), images.split(names[0]), f"{names[0]} split")
    else:
        shuffled = np.random.default_rng(seed).permutation(len(images))
        cut = max(1, round(HELD_OUT * len(images)))
        note = (
            f"{HELD_OUT:.0%} of all images, chosen at random (seed {seed}); the source has no test "
            "split, so pretraining may have seen them, without labels"
        )
        parts = Halves(
            images.select(np.sort(shuffled[cut:])), images.select(np.sort(shuffled[:cut])), note
        )
    for part in parts[:2]:
        if part.labels is None:
            raise DataError(
                f"{part.name} has no labels, and accuracy needs them. Arrange the images in one "
                "folder per class, or give a labelled source with --data."
            )
    return parts


class Inputs:
    """One part of a source, ready to be fed to an encoder; unreadable images are left out."""

    def __init__(self, images: Images, *, max_unreadable_percent: float = 1.0) -> None:
        self._packed: Packed | None = pack(images, max_unreadable_percent=max_unreadable_percent)
        self.images = self._packed.images if self._packed else images
        """Those that are fed; after `batches` has run through, exactly those."""

    @property
    def labels(self) -> Tensor:
        """(n,) label of each image."""
        labels = self.images.labels
        assert labels is not None, "halves() has checked that there are labels"
        return torch.from_numpy(labels)

    def pixels(self, transform: Transform, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of (index (n,), transformed images); all of them, in order."""
        if self._packed is not None:
            yield from self._from_memory(transform, size)
        else:
            yield from self._from_files(transform, size)

    def _from_memory(self, transform: Transform, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        assert self._packed is not None, "only called on packed images"
        for first in range(0, len(self.images), size):
            chunk = np.ascontiguousarray(self._packed.pixels[first : first + size])  # (n, h, w, c)
            pixels = torch.from_numpy(chunk).permute(0, 3, 1, 2)  # (n, c, h, w)
            yield torch.arange(first, first + len(chunk)), transform(pixels)

    def _from_files(self, transform: Transform, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        def read(index: int) -> Tensor | None:
            try:
                pixels = self.images.read(index)  # (h, w, c)
            except Unreadable:
                return None
            return transform(torch.from_numpy(pixels.copy()).permute(2, 0, 1))  # (c, s, s)

        kept: list[int] = []
        with ThreadPoolExecutor(_THREADS) as threads:
            for start in range(0, len(self.images), size):
                group = range(start, min(start + size, len(self.images)))
                read_ones = [
                    (index, image)
                    for index, image in zip(group, threads.map(read, group), strict=True)
                    if image is not None
                ]
                if read_ones:
                    first = len(kept)
                    kept.extend(index for index, _ in read_ones)
                    yield (
                        torch.arange(first, len(kept)),
                        torch.stack([image for _, image in read_ones]),  # (n, c, s, s)
                    )
        self.images = self.images.select(kept)
