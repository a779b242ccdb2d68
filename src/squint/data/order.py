"""The order in which training meets the images: a pure function of seed and epoch."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count as count_from

import numpy as np

from squint.errors import DataError, RecipeError


def permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    """Permutation of range(count), int64; the same on every machine, rank and worker count.

    Sorts raw random words instead of calling numpy's own shuffle: the raw stream is promised
    never to change, the shuffle built on it is not.

    Args:
        seed: Of the run, 0 or above.
        epoch: From 0.
        count: Number of images.
    """
    words = np.random.PCG64(np.random.SeedSequence((seed, epoch))).random_raw(count)
    return np.argsort(words, kind="stable").astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Order:
    """Which images each step of a run shows on one rank.

    An epoch shows every image at most once; the images left over after the last whole batch wait
    for the next epoch's order.
    """

    images: int
    """Number of images in the source."""
    batch_size: int
    """Images per step over all ranks."""
    seed: int
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.batch_size > self.images:
            raise DataError(
                f"batch_size={self.batch_size} is larger than the source, which has {self.images} "
                "readable images. An epoch needs at least one whole batch. Lower --batch-size to "
                f"{self.images} or less, or add images."
            )
        if self.batch_size < 1 or self.batch_size % self.world_size:
            raise RecipeError(
                f"batch_size={self.batch_size} can't be split over {self.world_size} ranks: it is "
                "global and must be a positive multiple of their number. Choose "
                f"{max(1, round(self.batch_size / self.world_size)) * self.world_size}."
            )

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches per epoch."""
        return self.images // self.batch_size

    def epoch(self, step: int) -> int:
        """The epoch a step of the run belongs to, from 0."""
        return step // self.steps_per_epoch

    def steps(self, first_step: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        """Epoch and this rank's indices, (n,) int64, for `first_step` and every step after it."""
        share = self.batch_size // self.world_size
        first_epoch, skipped = divmod(first_step, self.steps_per_epoch)
        for epoch in count_from(first_epoch):
            shuffled = permutation(self.seed, epoch, self.images)  # (images,)
            for step in range(skipped, self.steps_per_epoch):
                first = step * self.batch_size + self.rank * share
                yield epoch, shuffled[first : first + share]
            skipped = 0
