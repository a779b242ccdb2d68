"""Ctrl-C, SIGTERM and a closed terminal end a run at the next step, with a checkpoint."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop and has saved; says how to go on."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.signal = number


class Stop:
    """Whether someone has asked the run to stop, and how."""

    def __init__(self) -> None:
        self.signal: int = 0

    @property
    def asked(self) -> bool:
        """Whether to stop after this step."""
        return self.signal != 0


def _stopping() -> list[signal.Signals]:
    """What stops a run; a terminal may close if `nohup` said so, and Windows closes none."""
    hangups = [signal.Signals[name] for name in ("SIGHUP",) if hasattr(signal, name)]
    heard = [number for number in hangups if signal.getsignal(number) != signal.SIG_IGN]
    return [signal.SIGINT, signal.SIGTERM, *heard]


@contextmanager
def watch() -> Iterator[Stop]:
    """Note these signals instead of dying from them; a second one takes effect at once."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may handle signals
        return

    def note(number: int, frame: FrameType | None) -> None:
        stop.signal = number
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.getsignal(number) for number in _stopping()}
    for number in before:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
