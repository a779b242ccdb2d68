"""Runs an iterator in a thread, a little ahead of whoever uses what it gives."""

import queue
import threading
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Generic, TypeVar

from squint.errors import RunError

_PATIENCE_S = 5.0
"""Seconds `close` waits for the thread to finish what it is doing."""
_LOOK_S = 0.1
"""Seconds between two looks at whether the other side is still there."""

Given = TypeVar("Given")


class Ahead(Generic[Given]):
    """What a generator gives, in order, to iterate over once; `close` it afterwards.

    The generator runs and is closed in the thread. Nothing waits for it without end, and the
    process ends although it runs.
    """

    def __init__(self, make: Callable[[], Generator[Given, None, None]], ahead: int) -> None:
        """Start the thread.

        Args:
            make: Makes the generator.
            ahead: Most that is ready or in the making beyond what was taken.
        """
        self._made: queue.Queue[tuple[Given] | BaseException | None] = queue.Queue(
            max(1, ahead - 1)
        )
        stop = threading.Event()
        self._thread = threading.Thread(
            target=_run, args=(make, self._made, stop), name="squint-ahead", daemon=True
        )
        self._end = weakref.finalize(self, _end, self._thread, stop)  # also when Python ends
        self._thread.start()

    def __iter__(self) -> Iterator[Given]:
        """Each thing given.

        Raises:
            BaseException: What the generator raised, where it was to give the next.
            RunError: The thread is gone.
        """
        while True:
            try:
                found = self._made.get(timeout=_LOOK_S)
            except queue.Empty:
                if self._thread.is_alive() or not self._made.empty():
                    continue
                raise RunError(
                    "The thread that reads images has ended without a word. It must not while "
                    "images are wanted. Start again, with --train.decode workers if it recurs."
                ) from None
            if found is None:
                return
            if isinstance(found, BaseException):
                raise found
            yield found[0]

    def close(self) -> None:
        """End the thread, or leave it to end by itself if it is slow."""
        self._end()


def _run(
    make: Callable[[], Generator[Given, None, None]],
    made: "queue.Queue[tuple[Given] | BaseException | None]",
    stop: threading.Event,
) -> None:
    def give(found: tuple[Given] | BaseException | None) -> bool:
        while not stop.is_set():
            try:
                made.put(found, timeout=_LOOK_S)
            except queue.Full:
                continue
            return True
        return False

    try:
        with closing(make()) as generator:
            for item in generator:
                if not give((item,)):
                    return
                del item  # or it would lie in memory until the next is there
        give(None)
    except BaseException as error:
        give(error)


def _end(thread: threading.Thread, stop: threading.Event) -> None:
    stop.set()
    if thread is not threading.current_thread():
        thread.join(_PATIENCE_S)
