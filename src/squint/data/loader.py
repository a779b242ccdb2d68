"""Batches for training, in an order that is a pure function of (seed, epoch).

Step s of a run always shows the same images, for any number of workers, however often the run was
interrupted; over several ranks the global batch is the same and split by rank. A loader therefore
has no state to save: `batches(first_step)` starts anywhere without reading what came before.

Over 300 lines because the loader of files and the reader in its worker processes agree on one
format, and are read together.
"""

import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from squint.data.decode import Unreadable
from squint.data.images import Images
from squint.data.order import Plan
from squint.data.picture import Picture
from squint.data.quarantine import Bad, Quarantine, allowed
from squint.shapes import Pixels, Rows


class PackedBatch(NamedTuple):
    """This rank's part of a global batch."""

    rows: Rows
    pixels: Pixels


class FileBatch(NamedTuple):
    """This rank's part of a global batch, transformed."""

    rows: Rows
    """Of the images that were read: an unreadable one is replaced."""
    data: Any
    """What the transform returned, collated: tensors gain a first axis n."""


Transform = Callable[..., Any]
"""From a picture, the image's row, the epoch, and what `Draw` gave if it was asked, to a tree of
tensors. The same tree without the last."""

Draw = Callable[[Sequence[Picture], Sequence[int], int], Sequence[Any]]
"""From pictures, their rows and the epoch to what the transform would draw for each by itself."""

CHUNK = 64
"""Most images that are drawn for in one call; so many files lie in a worker's memory, encoded."""


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
            batch = PackedBatch(_sent(torch.from_numpy(rows), self._device), self._gathered(rows))
            self.wait_seconds = time.perf_counter() - start
            yield batch
            start = time.perf_counter()

    def _gathered(self, rows: np.ndarray) -> Pixels:
        pixels = _sent(torch.from_numpy(self._pixels[rows]), self._device)  # (n, h, w, c)
        return pixels.permute(0, 3, 1, 2).contiguous()  # (n, c, h, w)


class FileLoader:
    """Batches of images that are decoded and transformed by worker processes.

    An image that can't be read is replaced by the next readable one in the source's order, so that
    batches do not depend on who met it; it is recorded in `quarantine`, whose limit applies.

    Attributes:
        plan: Which images each step shows.
        quarantine: The unreadable images this rank has met.
        wait_seconds: Time the last batch took; the training step stood still for it.
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
        prefetch: int = 2,
    ) -> None:
        """Plan batches of `images`.

        Args:
            images: The source.
            transform: Runs in the worker; must pickle on platforms that do not fork.
            draw: Draws for many pictures in one call what the transform draws slowly for one.
            batch_size: Images per step over all ranks.
            seed: Of the order.
            workers: Processes that decode and transform; 0 does it in this process.
            rank: Of this process.
            world_size: Number of ranks.
            device: Where tensors are put; for CUDA through pinned memory.
            max_unreadable_percent: Stop if more of the images can't be read.
            prefetch: Batches each worker prepares ahead.

        Raises:
            DataError, RecipeError: As `Plan` does.
        """
        self.plan = Plan(
            images=len(images), batch_size=batch_size, seed=seed, rank=rank, world_size=world_size
        )
        self.quarantine = Quarantine(images.name, len(images), max_unreadable_percent)
        self.wait_seconds = 0.0
        patience = allowed(len(images), max_unreadable_percent)
        self._reader = _Reader(images, transform, draw, patience)
        self._workers = workers
        self._prefetch = prefetch
        self._device = torch.device(device)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches per epoch."""
        return self.plan.steps_per_epoch

    def batches(self, first_step: int = 0) -> Iterator[FileBatch]:
        """The batches of `first_step` and every step after it, without end.

        Workers live as long as the iterator, across epochs.

        Raises:
            DataError: If too many images can't be read.
        """
        loader = DataLoader(
            self._reader,
            batch_sampler=_Keys(self.plan, first_step),  # pyright: ignore[reportArgumentType]
            collate_fn=_collated,
            num_workers=self._workers,
            worker_init_fn=_quieten,
            prefetch_factor=self._prefetch if self._workers else None,
            pin_memory=self._device.type == "cuda",
        )
        start = time.perf_counter()
        for rows, data, bads in loader:
            self.quarantine.add(bads)
            batch = FileBatch(_sent(rows, self._device), _sent(data, self._device))
            self.wait_seconds = time.perf_counter() - start
            yield batch
            start = time.perf_counter()


_Key = tuple[int, int]
"""Epoch and row of an image that is asked for."""


@dataclass(frozen=True)
class _Keys:
    """What workers are asked for, batch by batch; a batch is of one epoch."""

    plan: Plan
    first_step: int

    def __iter__(self) -> Iterator[list[_Key]]:
        for epoch, rows in self.plan.steps(self.first_step):
            yield [(epoch, row) for row in rows.tolist()]


class _Item(NamedTuple):
    row: int
    data: Any
    """None if patience ended before a readable image was found."""
    bads: list[Bad]


@dataclass(frozen=True)
class _Reader(Dataset[_Item]):
    images: Images
    transform: Transform
    draw: Draw | None
    patience: int
    """More unreadable images than this are over the limit anyway."""

    def __getitems__(self, keys: Sequence[_Key]) -> list[_Item]:
        """A whole batch; torch's loader asks for it like this."""
        if self.draw is None:
            return [self[key] for key in keys]
        chunks = (keys[start : start + CHUNK] for start in range(0, len(keys), CHUNK))
        return [item for chunk in chunks for item in self._chunk(chunk, self.draw)]

    def _chunk(self, keys: Sequence[_Key], draw: Draw) -> list[_Item]:
        opened = [self._opened(key) for key in keys]
        waiting = {k: found for k, found in enumerate(opened) if isinstance(found, Picture)}
        drawn = draw(list(waiting.values()), [keys[k][1] for k in waiting], keys[0][0])
        items = {
            k: self._transformed(keys[k], picture, its_own)
            for (k, picture), its_own in zip(waiting.items(), drawn, strict=True)
        }
        return [f if isinstance(f, _Item) else items[k] for k, f in enumerate(opened)]

    def _opened(self, key: _Key) -> _Item | Picture:
        """A picture to decode later, or the item if keeping the pixels would take more memory."""
        try:
            picture = self.images.picture(key[1])
        except Unreadable:
            return self[key]
        return self._transformed(key, picture) if picture.whole else picture

    def _transformed(self, key: _Key, picture: Picture, *drawn: Any) -> _Item:
        epoch, row = key
        try:
            return _Item(row, self.transform(picture, row, epoch, *drawn), [])
        except Unreadable:
            return self[key]

    def __getitem__(self, key: _Key) -> _Item:
        epoch, wanted = key
        bads: list[Bad] = []
        for row in chain(range(wanted, len(self.images)), range(wanted)):
            try:
                # damage inside a file shows only when the transform looks there
                return _Item(row, self.transform(self.images.picture(row), row, epoch), bads)
            except Unreadable as reason:
                bads.append(Bad(self.images.paths[row], str(reason)))
                if len(bads) > self.patience:
                    break
        # An error raised here would reach the user wrapped in a worker's traceback; the limit
        # that the main process applies to `bads` says the same plainly.
        return _Item(wanted, None, bads)


def _collated(items: Sequence[_Item]) -> tuple[Tensor, Any, list[Bad]]:
    bads = [bad for item in items for bad in item.bads]
    rows = torch.tensor([item.row for item in items])  # (n,)
    whole = all(item.data is not None for item in items)
    return rows, default_collate([item.data for item in items]) if whole else None, bads


def _quieten(_worker: int) -> None:
    """Let only the main process speak when a run is interrupted."""
    # Ctrl-C reaches every process of the terminal; only the main one answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # If that cuts short the hand-over of a batch, the thread that serves it finds its line dead.
    # What goes wrong with an image or a transform does not come this way.
    sys.excepthook = _not_lost_connections


def _not_lost_connections(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)


def _sent(tree: Any, device: torch.device) -> Any:
    """Tensors of a tree on `device`, CUDA copies running while the host goes on."""
    if isinstance(tree, Tensor):
        if device.type == "cuda" and not tree.is_pinned():
            tree = tree.pin_memory()
        return tree.to(device, non_blocking=True)
    if isinstance(tree, dict):
        return {key: _sent(value, device) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        # Named tuples are built by `_make`: their constructor takes the fields one by one.
        make = getattr(type(tree), "_make", type(tree))
        return make(_sent(value, device) for value in tree)
    return tree
