"""How fast workers have been lately, and what held them up."""

import time
from collections import deque
from typing import NamedTuple

BATCHES = 50
"""Over how many of the last batches the pace is taken."""


class Lately(NamedTuple):
    """What the last batches took."""

    images_per_second: float
    cores: float
    """Busy ones on average: of this process and its workers."""
    working: float
    """Share of the workers' time, 0 to 1, in which the processor worked: the rest of the time they
    waited for a disk or a network, or for a core to be free."""


class Pace:
    """A record of the work of the last batches."""

    def __init__(self) -> None:
        self._images, self._seconds, self._cpu_seconds = 0, 0.0, 0.0
        self._marks: deque[tuple[float, ...]] = deque(maxlen=BATCHES + 1)

    def add(self, images: int, seconds: float, cpu_seconds: float) -> None:
        """Count a task of a worker, by how long it took and how long the processor worked."""
        self._images += images
        self._seconds += seconds
        self._cpu_seconds += cpu_seconds

    def mark(self) -> None:
        """Count a batch."""
        cores = time.process_time() + self._cpu_seconds
        totals = (self._images, cores, self._seconds, self._cpu_seconds)
        self._marks.append((time.perf_counter(), *totals))

    def lately(self) -> Lately | None:
        """Over the last batches; None if there are too few to tell."""
        if len(self._marks) < 2:
            return None
        time_, images, cores, seconds, cpu = (
            last - first for last, first in zip(self._marks[-1], self._marks[0], strict=True)
        )
        return Lately(images / time_, cores / time_, min(1.0, cpu / max(seconds, 1e-9)))
