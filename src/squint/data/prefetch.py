"""Batches read ahead by worker processes, into memory that is shared with them.

A batch is cut into tasks, so that all workers make the next one that is needed; batches come out in
the order of the steps. How many are read ahead adapts to the training steps: that moves when images
are read, never which, or what is made of them.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch

from squint.data.crew import Crew
from squint.data.order import Order
from squint.data.pace import Pace
from squint.data.quarantine import Bad
from squint.data.reader import CHUNK, Reader
from squint.data.ring import Batch, Layout, Ring

LEAST_AHEAD = 2
"""Batches that are read ahead at least: one that is ready, and one in the making."""

MOST_AHEAD = 16
"""Batches that are read ahead at most, however small they are."""

AHEAD_MIB = 1024
"""Memory for batches, of one rank, up to which more than `LEAST_AHEAD` may be read ahead."""

CALM = 64
"""Steps in a row with a batch to spare, after which one less is read ahead."""


class Depth:
    """How many batches to read ahead.

    More help only where steps wait although workers had to stop before, for want of room: then
    their speeds vary. Workers that are too slow on average never stop, and more room is no help.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.ahead = min(LEAST_AHEAD, most)
        self._stopped, self._calm = False, 0

    def step(self, ready: int, coming: int) -> None:
        """Count a step that asked for its batch when `ready` of `coming` were there."""
        if ready == 0 and self._stopped:
            self.ahead = min(self.most, self.ahead + 1)
        self._stopped = ready > 0 and (ready == coming or self._stopped)
        self._calm = self._calm + 1 if ready >= LEAST_AHEAD else 0
        if self._calm == CALM:
            self.ahead, self._calm = max(LEAST_AHEAD, self.ahead - 1), 0


class _Task(NamedTuple):
    slot: int
    epoch: int
    first: int
    last: int
    """Not itself of the task."""


@dataclass
class _Coming:
    slot: int
    missing: int
    """Tasks that are not done yet."""
    bads: dict[int, list[Bad]] = field(default_factory=dict)
    """Met by the task that begins there."""


class Prefetch:
    """The batches of a run from a step on, to iterate over once; `close` it afterwards.

    Attributes:
        depth: How many are read ahead.
        pace: What the workers have been doing lately.
    """

    def __init__(
        self,
        reader: Reader,
        order: Order,
        first_step: int,
        layout: Layout,
        *,
        workers: int,
        pinned: bool = False,
    ) -> None:
        """Take memory and start the workers.

        Args:
            reader: What they do.
            order: Which images each step shows.
            first_step: Where to start.
            layout: Of a batch.
            workers: Number of processes, 1 or more.
            pinned: Whether batches lie in memory that is pinned for CUDA.

        Raises:
            OSError: There is not enough memory, or no more processes may be started.
        """
        fitting = (AHEAD_MIB << 20) // layout.slot_bytes - 1  # 1: the batch of the present step
        self.depth, self.pace = Depth(min(MOST_AHEAD, max(LEAST_AHEAD, fitting))), Pace()
        self._steps = order.steps(first_step)
        self._share = min(CHUNK, -(-layout.count // workers))
        self._coming: deque[_Coming] = deque()
        self._free = set(range(1 + self.depth.most))
        self._ring = Ring(layout, len(self._free), pinned=pinned)
        try:
            for slot in range(1 + self.depth.ahead):
                self._ring.open(slot)
            self._crew = Crew(partial(_read, reader, self._ring), workers)
        except BaseException:
            self._ring.end()
            raise

    def __iter__(self) -> Iterator[tuple[Batch, list[Bad]]]:
        """Each batch, and the unreadable images met; the batch is overwritten after the next.

        Raises:
            RunError: A worker died.
        """
        while True:
            self._ask_ahead()
            self._gather(patient=False)
            ready = sum(not batch.missing for batch in self._coming)
            self.depth.step(ready, len(self._coming))
            while self._coming[0].missing:
                self._gather(patient=True)
            batch = self._coming.popleft()
            self._ask_ahead()  # for the time of the step
            self.pace.mark()
            bads = [bad for _, met in sorted(batch.bads.items()) for bad in met]
            yield self._ring[batch.slot], bads
            self._give_back(batch.slot)

    def close(self) -> None:
        """End the workers and let go of the memory."""
        self._crew.close()
        self._ring.end()

    def _ask_ahead(self) -> None:
        """Ask for as many batches as are to be read ahead."""
        while len(self._coming) < self.depth.ahead:
            slot = min(self._free)
            try:
                self._ring.open(slot)
            except OSError:  # no memory for one more: what there is has to do
                self.depth.most = self.depth.ahead = len(self._coming)
                return
            self._free.remove(slot)
            self._ask_for(slot)

    def _ask_for(self, slot: int) -> None:
        epoch, rows = next(self._steps)
        self._ring[slot].rows.copy_(torch.from_numpy(rows))
        firsts = range(0, len(rows), self._share)
        for first in firsts:
            self._crew.give(_Task(slot, epoch, first, min(first + self._share, len(rows))))
        self._coming.append(_Coming(slot, len(firsts)))

    def _gather(self, *, patient: bool) -> None:
        """Note what workers have done."""
        for answer in self._crew.answers(patient=patient):
            task: _Task = answer.task
            batch = next(batch for batch in self._coming if batch.slot == task.slot)
            batch.missing -= 1
            batch.bads[task.first] = answer.value
            self.pace.add(task.last - task.first, answer.seconds, answer.cpu_seconds)

    def _give_back(self, slot: int) -> None:
        """Take a slot back; memory for more batches than are read ahead now is let go."""
        self._free.add(slot)
        for spare in self._free:
            if spare > self.depth.ahead:
                self._ring.close(spare)


def _read(reader: Reader, ring: Ring, task: _Task) -> list[Bad]:
    """What a worker does: read its part of a batch."""
    part, batch = slice(task.first, task.last), ring[task.slot]
    return reader.fill(task.epoch, batch.rows[part], batch.data[part])
