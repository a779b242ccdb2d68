"""Processes that work off tasks: whichever is free takes the next one.

A crew never outlives its main process, and leaves nothing behind: workers end when their tasks can
no longer come, and are killed when the crew is closed. They own nothing that a kill could damage.
"""

import contextlib
import multiprocessing
import pickle
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import util
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Lock
from typing import Any, NamedTuple

import torch

from squint.errors import RunError

MOST_HANDED_OUT = 256
"""Tasks that workers may have before them. More would fill the line to them, and waiting there for
workers that wait for their answers to be taken would never end."""


class Answer(NamedTuple):
    """What came of a task."""

    task: Any
    value: Any
    """What the work returned."""
    error: Exception | None
    """What it raised instead."""
    seconds: float
    """From beginning to end."""
    cpu_seconds: float
    """Of them, what the processor worked; the rest was spent waiting for it, or for a disk."""


class Crew:
    """So many processes, and the lines to them."""

    def __init__(self, work: Callable[[Any], Any], count: int) -> None:
        """Start them.

        Args:
            work: done in a worker with each task; pickles where processes are not forked.
            count: of processes.

        Raises:
            OSError: No more processes may be started.
        """
        context = multiprocessing.get_context()
        to_do, self._tasks = context.Pipe(duplex=False)
        self._turn = context.Lock()  # kept: what is not forked finds it by its name
        self._waiting: deque[Any] = deque()
        self._handed_out = 0
        self._workers: dict[Connection, BaseProcess] = {}
        # Runs when the crew is dropped, and at exit before multiprocessing waits for its children.
        self.close = util.Finalize(self, _end, (self._workers, self._tasks), exitpriority=10)
        try:
            with _no_interrupts(), to_do:
                for number in range(count):
                    answers, own = context.Pipe(duplex=False)
                    foreign = (self._tasks, *self._workers, answers)
                    worker = context.Process(
                        target=_serve,
                        args=(work, to_do, self._turn, own, foreign),
                        name=f"loader worker {number}",
                        daemon=True,
                    )
                    with own:  # the worker has its own copy: the line is dead when it is
                        worker.start()
                    self._workers[answers] = worker
        except BaseException:
            self.close()
            raise

    def give(self, task: Any) -> None:
        """Put a task at the end of the queue."""
        self._waiting.append(task)
        self._hand_out()

    def _hand_out(self) -> None:
        with contextlib.suppress(ConnectionError):  # all are dead: `answers` says so
            while self._waiting and self._handed_out < MOST_HANDED_OUT:
                self._tasks.send(self._waiting.popleft())
                self._handed_out += 1

    def answers(self, *, patient: bool) -> list[Answer]:
        """All that has come from the workers; if patient, at least one answer is waited for.

        Raises:
            RunError: A worker is dead.
            Exception: What a task raised.
        """
        found: list[Answer] = []
        # a line that is ready has one answer or more: they are taken one by one
        while lines := wait(list(self._workers), None if patient and not found else 0):
            found += [self._received(line) for line in lines]  # pyright: ignore[reportArgumentType]
            self._hand_out()
        return found

    def _received(self, line: Connection) -> Answer:
        try:
            answer = line.recv()
        except (EOFError, ConnectionError):
            raise _dead(self._workers[line]) from None
        self._handed_out -= 1
        if answer.error is not None:
            raise answer.error
        return answer


def _serve(
    work: Callable[[Any], Any],
    to_do: Connection,
    turn: Lock,
    own: Connection,
    foreign: Sequence[Connection],
) -> None:
    """A worker's life."""
    for line in foreign:  # once the main process has let go of these ends too, the lines are dead
        line.close()
    torch.set_num_threads(1)  # as many workers as cores; and a forked thread pool hangs
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            with turn:
                task = to_do.recv()
            own.send(_answered(work, task))


def _answered(work: Callable[[Any], Any], task: Any) -> Answer:
    start, cpu_start = time.perf_counter(), time.process_time()
    value = problem = None
    try:
        value = work(task)
    except Exception as error:
        problem = _that_travels(error)
    spent, worked = time.perf_counter() - start, time.process_time() - cpu_start
    return Answer(task, value, problem, spent, worked)


def _that_travels(error: Exception) -> Exception:
    """The error, with the place it comes from as a note, if it can be sent; else what it says."""
    place = "".join(traceback.format_exception(error))
    error.add_note(f"In a loader worker:\n{place}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class makes of pickling
        return RuntimeError(f"In a loader worker:\n{place}")
    return error


def _dead(worker: BaseProcess) -> RunError:
    worker.join()
    code = worker.exitcode or 0
    how = f"ended with status {code}"
    if code < 0:
        how = f"was killed by {signal.Signals(-code).name}"
    return RunError(
        f"A loader worker {how}. Workers must live as long as the run; most often the machine ran "
        "out of memory, and sometimes an image breaks a decoder. The last checkpoint stands: go on "
        "with squint resume, with fewer --workers if memory is short (0 needs no processes)."
    )


@contextlib.contextmanager
def _no_interrupts() -> Iterator[None]:
    """Processes started inside never see what stops all of a terminal or job: Ctrl-C and others.

    Only the main process answers them, and then ends its workers when it no longer needs them.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    for_training = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, for_training)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(workers: dict[Connection, BaseProcess], tasks: Connection) -> None:
    for worker in workers.values():
        worker.kill()
    for line, worker in workers.items():
        worker.join()
        worker.close()
        line.close()
    tasks.close()
