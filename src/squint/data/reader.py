"""From rows of a source to a batch: decoded, transformed, unreadable images replaced.

Runs in worker processes or in the training process, which makes no difference to the result.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from squint.data.decode import Unreadable
from squint.data.images import Images
from squint.data.picture import Picture
from squint.data.quarantine import Bad
from squint.shapes import Rows

Transform = Callable[..., Tensor]
"""From a picture, the image's row, the epoch, and what `Draw` gave if it was asked, to a tensor,
which has the same shape for every image."""

Draw = Callable[[Sequence[Picture], Sequence[int], int], Sequence[Any]]
"""From pictures, their rows and the epoch to what the transform would draw for each by itself."""

CHUNK = 64
"""Most images that are drawn for in one call; so many files lie in a worker's memory, encoded."""


class Item(NamedTuple):
    """One image of a batch."""

    row: int
    """Where it was found: an unreadable image is replaced by another."""
    data: Tensor | None
    """What the transform made of it; None if patience ended before a readable image was found."""
    bads: list[Bad]
    """The unreadable ones met on the way."""


@dataclass(frozen=True)
class Reader:
    """Reads images of one source; picklable."""

    images: Images
    transform: Transform
    draw: Draw | None
    patience: int
    """More unreadable images than this are over the limit anyway."""

    def fill(self, epoch: int, rows: Rows, data: Tensor) -> list[Bad]:
        """Read the images of `rows` into `data`, (n, ...), and put the rows of stand-ins in place.

        Returns:
            The unreadable images met. If they are more than `patience`, `data` is not all filled.

        Raises:
            ValueError: The transform's tensors are not all of one shape and type.
        """
        bads: list[Bad] = []
        for k, item in enumerate(self._items(epoch, rows.tolist())):
            rows[k] = item.row
            bads += item.bads
            if item.data is not None:
                _put(item.data, data[k])
        return bads

    def read(self, epoch: int, wanted: int) -> Item:
        """One image, or the first readable one of its `stand_ins`."""
        bads: list[Bad] = []
        for row in chain((wanted,), stand_ins(epoch, wanted, len(self.images))):
            try:
                # damage inside a file shows only when the transform looks there
                return Item(row, self.transform(self.images.picture(row), row, epoch), bads)
            except Unreadable as reason:
                bads.append(Bad(self.images.paths[row], str(reason)))
                if len(bads) > self.patience:
                    break
        # The limit that the training process applies to `bads` says plainly what is wrong.
        return Item(wanted, None, bads)

    def opened(self, epoch: int, row: int) -> Item | Picture:
        """A picture to decode later, or the item if keeping the pixels would take more memory."""
        try:
            picture = self.images.picture(row)
        except Unreadable:
            return self.read(epoch, row)
        return self._transformed(epoch, row, picture) if picture.whole else picture

    def _items(self, epoch: int, rows: Sequence[int]) -> Iterator[Item]:
        if self.draw is None:
            return (self.read(epoch, row) for row in rows)
        chunks = (rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK))
        return chain.from_iterable(self._chunk(epoch, chunk, self.draw) for chunk in chunks)

    def _chunk(self, epoch: int, rows: Sequence[int], draw: Draw) -> Iterator[Item]:
        opened = [self.opened(epoch, row) for row in rows]
        waiting = [(p, row) for p, row in zip(opened, rows, strict=True) if isinstance(p, Picture)]
        drawn = iter(draw([p for p, _ in waiting], [row for _, row in waiting], epoch))
        for found, row in zip(opened, rows, strict=True):
            if isinstance(found, Picture):
                yield self._transformed(epoch, row, found, next(drawn))
            else:
                yield found

    def _transformed(self, epoch: int, row: int, picture: Picture, *drawn: Any) -> Item:
        try:
            return Item(row, self.transform(picture, row, epoch, *drawn), [])
        except Unreadable:
            return self.read(epoch, row)


def stand_ins(epoch: int, wanted: int, count: int) -> Iterator[int]:
    """Every other row of `count` once, in an order that is a function of (epoch, wanted) alone.

    Unreadable images often lie side by side, in a folder that is lost. In the source's order one
    image would replace them all, and be its own negative.
    """
    start, stride = np.random.SeedSequence((epoch, wanted)).generate_state(2, np.uint64).tolist()
    while math.gcd(stride, count) > 1:  # or not every row would be met
        stride += 1
    rows = ((start + k * stride) % count for k in range(count))
    return (row for row in rows if row != wanted)


def _put(data: Tensor, place: Tensor) -> None:
    if data.shape != place.shape or data.dtype != place.dtype:
        raise ValueError(
            f"A transform gave a tensor of {tuple(data.shape)}, {data.dtype} after one of "
            f"{tuple(place.shape)}, {place.dtype}: all of a batch must be alike."
        )
    place.copy_(data)
