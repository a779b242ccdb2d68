"""Batches for training, in an order that is a pure function of (seed, epoch).

Step s of a run always shows the same images, for any number of workers, however often the run was
interrupted; over several ranks the global batch is the same and split by rank. A loader therefore
has no state to save: `batches(first_step)` starts anywhere without reading what came before.
"""

import contextlib
import time
import warnings
from collections.abc import Generator, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from squint.data.images import Images
from squint.data.order import Order
from squint.data.pace import Lately, Pace
from squint.data.prefetch import Prefetch
from squint.data.quarantine import Bad, Quarantine, allowed
from squint.data.reader import Draw, Reader, Transform
from squint.data.ring import Batch, Layout
from squint.shapes import Pixels, Rows


class PackedBatch(NamedTuple):
    """This rank's part of a global batch."""

    rows: Rows
    """On the CPU, where random numbers that depend on them are cheapest to draw."""
    pixels: Pixels


class FileBatch(NamedTuple):
    """This rank's part of a global batch, transformed."""

    rows: Rows
    """On the CPU, of the images that were read: an unreadable one is replaced."""
    data: Tensor
    """(n, ...) what the transform returned. On the CPU it is overwritten when the next batch is
    asked for: keep what is computed from it, or a copy."""


class PackedLoader:
    """Batches of decoded images, from memory or a memory map.

    Attributes:
        order: Which images each step shows.
        wait_seconds: How long the training step waited for the last batch.
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
        """Batches of `pixels`, (N, h, w, c) uint8.

        Raises:
            DataError: If the global batch is larger than the source.
            RecipeError: If the global batch can't be split evenly over the ranks.
        """
        self.order = Order(
            images=len(pixels),
            batch_size=batch_size,
            seed=seed,
            rank=rank,
            world_size=world_size,
        )
        self.wait_seconds = 0.0
        # The plain view of a memory map indexes several times faster than np.memmap itself.
        self._pixels = np.asarray(pixels)
        self._send = _Sender(device)

    def batches(self, first_step: int = 0) -> Iterator[PackedBatch]:
        """The batches of `first_step` and every step after it, without end."""
        start = time.perf_counter()
        for _, rows in self.order.steps(first_step):
            batch = PackedBatch(torch.from_numpy(rows), self._gathered(rows))
            self.wait_seconds = time.perf_counter() - start
            yield batch
            start = time.perf_counter()

    def _gathered(self, rows: np.ndarray) -> Pixels:
        pixels = self._send(torch.from_numpy(self._pixels[rows]))  # (n, h, w, c)
        return pixels.permute(0, 3, 1, 2)  # (n, c, h, w), as the kernels read it where it lies


class FileLoader:
    """Batches of images that are decoded and transformed by worker processes.

    An image that can't be read is replaced by another one, chosen by (epoch, image), so that
    batches do not depend on who met it; it is recorded in `quarantine`, whose limit applies.

    Attributes:
        order: Which images each step shows.
        quarantine: The unreadable images this rank has met.
        wait_seconds: How long the training step waited for the last batch.
    """

    def __init__(
        self,
        images: Images,
        transform: Transform,
        *,
        draw: Draw | None = None,
        batch_size: int,
        seed: int,
        workers: int,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
        max_unreadable_percent: float = 1.0,
    ) -> None:
        """Batches of `images`.

        Args:
            images: The source.
            transform: Runs in the worker; must pickle on platforms that do not fork.
            draw: Draws for many pictures in one call what the transform draws slowly for one.
            batch_size: Images per step over all ranks.
            seed: Of the order.
            workers: Processes that decode and transform; 0 does it in this process.
            rank: Of this process.
            world_size: Number of ranks.
            device: Where tensors are put; for CUDA out of pinned memory.
            max_unreadable_percent: Stop if more of the images can't be read.

        Raises:
            DataError, RecipeError: As `Order` does.
        """
        self.order = Order(
            images=len(images), batch_size=batch_size, seed=seed, rank=rank, world_size=world_size
        )
        self.quarantine = Quarantine(images.name, len(images), max_unreadable_percent)
        self.wait_seconds = 0.0
        patience = allowed(len(images), max_unreadable_percent)
        self._reader = Reader(images, transform, draw, patience)
        self._workers = workers
        self._pace = Pace()
        self._send = _Sender(device)

    def lately(self) -> Lately | None:
        """What the workers have been doing; None if there are none, or too little is known."""
        return self._pace.lately()

    def batches(self, first_step: int = 0) -> Iterator[FileBatch]:
        """The batches of `first_step` and every step after it, without end.

        Workers live as long as the iterator, across epochs.

        Raises:
            DataError: If too many images can't be read.
            RunError: If a worker dies.
        """
        read = self._read_ahead if self._workers else self._read_here
        start = time.perf_counter()
        with contextlib.closing(read(first_step, self._layout(first_step))) as batches:
            for batch, bads in batches:
                self.quarantine.add(bads)
                sent = FileBatch(batch.rows.clone(), self._send(batch.data))
                self.wait_seconds = time.perf_counter() - start
                yield sent
                start = time.perf_counter()
                self._send.finish()

    def _layout(self, first_step: int) -> Layout:
        """What batches look like, from their first image."""
        epoch, rows = next(self.order.steps(first_step))
        item = self._reader.read(epoch, int(rows[0]))
        self.quarantine.add(item.bads)
        assert item.data is not None, "or the quarantine would have been over its limit"
        return Layout(len(rows), tuple(item.data.shape), item.data.dtype)

    def _read_ahead(self, first_step: int, layout: Layout) -> "_Batches":
        workers = {"workers": self._workers, "pinned": self._send.is_cuda}
        try:
            ahead = Prefetch(self._reader, self.order, first_step, layout, **workers)
        except OSError as error:
            warnings.warn(
                f"No loader workers ({error.strerror or error}): images are read between steps, "
                f"which is slower. Batches take {layout.slot_bytes >> 20} MiB each, of which "
                "workers need room for three.",
                stacklevel=2,
            )
            yield from self._read_here(first_step, layout)
            return
        self._pace = ahead.pace
        with contextlib.closing(ahead):
            yield from ahead

    def _read_here(self, first_step: int, layout: Layout) -> "_Batches":
        shape = (layout.count, *layout.shape)
        data = torch.empty(shape, dtype=layout.dtype, pin_memory=self._send.is_cuda)
        for epoch, wanted in self.order.steps(first_step):
            rows = torch.from_numpy(wanted)
            bads = self._reader.fill(epoch, rows, data)
            yield Batch(rows, data), bads


_Batches = Generator[tuple[Batch, list[Bad]], None, None]


class _Sender:
    """Copies tensors to a device; to a GPU in a stream of its own, so that nothing waits for it."""

    def __init__(self, device: torch.device | str) -> None:
        self._device = torch.device(device)
        self.is_cuda = self._device.type == "cuda"
        self._stream = torch.cuda.Stream(self._device) if self.is_cuda else None

    def __call__(self, tensor: Tensor) -> Tensor:
        """The tensor on the device; what uses it there waits for the copy by itself."""
        if self._stream is None:
            return tensor.to(self._device)
        source = tensor if tensor.is_pinned() else tensor.pin_memory()
        with torch.cuda.stream(self._stream):
            copy = source.to(self._device, non_blocking=True)
        work = torch.cuda.current_stream(self._device)
        work.wait_stream(self._stream)
        copy.record_stream(work)  # or its memory could be another's while it is still read
        return copy

    def finish(self) -> None:
        """Wait until what was copied from may be overwritten."""
        if self._stream is not None:
            self._stream.synchronize()
