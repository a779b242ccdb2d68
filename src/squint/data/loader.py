"""Batches for training, in an order that is a pure function of (seed, epoch).

Step s of a run always shows the same images, for any number of workers, however often the run was
interrupted; over several ranks the global batch is the same and split by rank. A loader therefore
has no state to save: `batches(first_step)` starts anywhere without reading what came before.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from squint.data.order import order
from squint.errors import DataError, RecipeError
from squint.shapes import Pixels, Rows


class PackedBatch(NamedTuple):
    """This rank's part of a global batch."""

    rows: Rows
    pixels: Pixels


@dataclass(frozen=True, kw_only=True)
class Plan:
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
        first_epoch, step = divmod(first_step, self.steps_per_epoch)
        for epoch in count(first_epoch):
            shuffled = order(self.seed, epoch, self.images)  # (images,)
            for k in range(step, self.steps_per_epoch):
                first = k * self.batch_size + self.rank * share
                yield epoch, shuffled[first : first + share]
            step = 0


class PackedLoader:
    """Batches of decoded images, from memory or a memory map.

    Attributes:
        plan: Which images each step shows.
        wait_seconds: Time the last batch took; the training step stood still for it.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        """Plan batches of `pixels`, (N, h, w, c) uint8.

        Raises:
            DataError: If the global batch is larger than the source.
            RecipeError: If the global batch can't be split evenly over the ranks.
        """
        self.plan = Plan(
            images=len(pixels),
            batch_size=batch_size,
            seed=seed,
            rank=rank,
            world_size=world_size,
        )
        self.wait_seconds = 0.0
        # The plain view of a memory map indexes several times faster than np.memmap itself.
        self._pixels = np.asarray(pixels)
        self._device = torch.device(device)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches per epoch."""
        return self.plan.steps_per_epoch

    def batches(self, first_step: int = 0) -> Iterator[PackedBatch]:
        """The batches of `first_step` and every step after it, without end."""
        start = time.perf_counter()
        for _, rows in self.plan.steps(first_step):
            batch = PackedBatch(self._sent(torch.from_numpy(rows)), self._gathered(rows))
            self.wait_seconds = time.perf_counter() - start
            yield batch
            start = time.perf_counter()

    def _gathered(self, rows: np.ndarray) -> Pixels:
        pixels = self._sent(torch.from_numpy(self._pixels[rows]))  # (n, h, w, c)
        return pixels.permute(0, 3, 1, 2).contiguous()  # (n, c, h, w)

    def _sent(self, tensor: Tensor) -> Tensor:
        if self._device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self._device, non_blocking=True)
