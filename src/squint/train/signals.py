"""Ctrl-C, SIGTERM and a closed terminal end a run at the next step, with a checkpoint."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from squint.runs import Run

ECHO_SECONDS = 1.0
"""A signal repeated within this time is the same one: a process group and its leader both pass it
on."""


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop; says what is saved and how to go on."""

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
def watch(run: Run, *, quiet: bool) -> Iterator[Stop]:
    """Note these signals instead of dying from them, and say so; a second one takes effect at once.

    Raises:
        Interrupted: there was a second one.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may handle signals
        return
    asked_at = 0.0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal asked_at
        now = time.monotonic()
        if not stop.asked:
            asked_at, stop.signal = now, number
            if not quiet:
                _say("stopping after this step, and saving; once more stops at once, unsaved")
        elif now - asked_at > ECHO_SECONDS:
            saved = run.checkpoint.exists()
            lost = "what came after the last checkpoint is lost" if saved else "nothing was saved"
            go_on = f" Go on with: squint resume {run.quoted}" if saved else ""
            raise Interrupted(f"stopped at once: {lost}.{go_on}", number)

    before = {number: signal.getsignal(number) for number in _stopping()}
    for number in before:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    """Print a line from a signal handler, which may have interrupted any other printing."""
    with suppress(OSError):  # the terminal may be what was closed
        os.write(2, f"\n{text}\n".encode())
