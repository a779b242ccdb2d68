"""How fast training goes, and when its next checkpoint is due."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

SAVING_SHARE = 0.02
"""Share of the time that checkpoints at the ends of epochs may take; epochs can be short."""


class Clock:
    """Speed and waiting since the last `take`, and when a checkpoint is due."""

    def __init__(self, batch_size: int, save_every_minutes: float) -> None:
        self._batch_size = batch_size
        self._save_seconds = save_every_minutes * 60
        self._saved, self._saving_took = time.monotonic(), 0.0
        self._restart()

    def step(self, wait_seconds: float) -> None:
        """Count one step."""
        self._steps += 1
        self._waited += wait_seconds

    def take(self) -> dict[str, float]:
        """Images per second and the share of time spent waiting for data."""
        elapsed = max(time.monotonic() - self._since, 1e-9)
        speed = {
            "images_per_second": self._steps * self._batch_size / elapsed,
            "data_wait": min(1.0, self._waited / elapsed),
        }
        self._restart()
        return speed

    def pause(self) -> None:
        """Leave what has happened since the last `take` out of the speed."""
        self._restart()

    def save_is_due(self, *, epoch_end: bool) -> bool:
        """Whether a checkpoint should be written now: they are apart in time, and cost little."""
        since = time.monotonic() - self._saved
        cheap = since * SAVING_SHARE >= self._saving_took
        return (epoch_end and cheap) or since >= self._save_seconds > 0

    @contextmanager
    def saving(self) -> Iterator[None]:
        """A checkpoint is written; the time to the next one starts when it is there."""
        began = time.monotonic()
        yield
        self._saved = time.monotonic()
        self._saving_took = self._saved - began

    def _restart(self) -> None:
        self._since, self._steps, self._waited = time.monotonic(), 0, 0.0
