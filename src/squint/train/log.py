"""Where a run's numbers go: metrics.jsonl, TensorBoard and the terminal."""

import abc
import contextlib
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from squint import runs
from squint.errors import RunError
from squint.runs import Run
from squint.train.runtime import Runtime
from squint.train.trackers import Trackers
from squint.train.verdict import ILL, Health

PLAIN_LINE_SECONDS = 30.0
"""Seconds between lines where there is no terminal to redraw."""

LONG_WAIT = 0.2
"""Share of the time that steps may wait for their images before the log says what helps."""

SIGN = "effective_rank"
"""A record that has it has all signs of health."""

OFTEN = 3
"""Lines in a row with a longer wait, before it says so."""


class Meter:
    """Means of scalars since the last `take`, summed on their device so that nothing waits."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, scalars: Mapping[str, Tensor]) -> None:
        """Add one step's scalars; every step has the same names."""
        for name, value in scalars.items():
            value = value.detach().float()
            self._sums[name] = self._sums[name] + value if self._count else value
        self._count += 1

    def take(self, runtime: Runtime) -> dict[str, float]:
        """The means over steps and ranks, and a fresh start. Here the device is waited for."""
        names = list(self._sums)
        means = runtime.mean(torch.stack([self._sums[name] for name in names]) / self._count)
        self._sums, self._count = {}, 0
        return dict(zip(names, means.tolist(), strict=True))


class Display(abc.ABC):
    """What shows progress to a person."""

    @abc.abstractmethod
    def update(self, step: int, record: Mapping[str, Any]) -> None:
        """Show the newest record."""

    @abc.abstractmethod
    def say(self, text: str) -> None:
        """Print a line that stays."""

    @abc.abstractmethod
    def close(self) -> None:
        """Leave the terminal tidy."""


class Silent(Display):
    """Shows nothing: ranks other than the first, and tests."""

    def update(self, step: int, record: Mapping[str, Any]) -> None:
        """Do nothing."""

    def say(self, text: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Plain(Display):
    """One line now and then, for files and pipes."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._last = float("-inf")

    def update(self, step: int, record: Mapping[str, Any]) -> None:
        """Print the record, at most every `PLAIN_LINE_SECONDS` and at the end."""
        now = time.monotonic()
        if now - self._last >= PLAIN_LINE_SECONDS or step == self._total:
            self._last = now
            self.say(f"step {step}/{self._total}  {_summary(record)}")

    def say(self, text: str) -> None:
        """Print a line."""
        print(text, flush=True)

    def close(self) -> None:
        """Nothing to tidy."""


class Bar(Display):
    """A progress bar with the newest numbers and the time left."""

    def __init__(self, total: int, done: int, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.completed}/{task.total}"),
            BarColumn(bar_width=6),
            TextColumn("{task.fields[summary]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
        )
        self._task = self._progress.add_task("", total=total, completed=done, summary="starting")
        self._progress.start()

    def update(self, step: int, record: Mapping[str, Any]) -> None:
        """Redraw with the newest record."""
        left_out = ("epoch", "health") if record.get("health") == "healthy" else ("epoch",)
        shown = {k: v for k, v in record.items() if k not in left_out}  # 80 columns
        self._progress.update(self._task, completed=step, summary=_summary(shown))

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._progress.stop()


def display(total: int, done: int) -> Display:
    """A bar on a terminal, plain lines elsewhere."""
    console = Console(file=sys.stdout)
    return Bar(total, done, console) if console.is_terminal else Plain(total)


class Log:
    """A run's record: every line goes to metrics.jsonl, TensorBoard and the display.

    On resume, lines beyond the checkpoint are dropped first, so that no step stands twice.
    `advice` says why steps wait for their images and what helps; asked once, if they do. `health`
    adds its word to records with signs; what an illness calls for is said when it shows. `trackers`
    get the numbers too.
    """

    def __init__(
        self,
        run: Run,
        screen: Display,
        *,
        first_step: int,
        advice: Callable[[], str] | None = None,
        health: Health | None = None,
        trackers: Trackers | None = None,
    ) -> None:
        kept = [record for record in run.records() if record["step"] <= first_step]
        self._health, self._word = health, ""
        for record in kept:
            if health and SIGN in record:
                self._word = health.judge(record)
        with runs.replacing(run.metrics) as temporary:
            temporary.write_text(
                "".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8"
            )
        self._file = run.metrics.open("a", encoding="utf-8")
        self._run, self._first_step = run, first_step
        self._screen = screen
        self._newest: dict[str, Any] = {}
        self._advice, self._under_way = advice, False
        self._waits: deque[float] = deque(maxlen=OFTEN)
        self._trackers = trackers

    def write(self, record: Mapping[str, Any]) -> None:
        """Add one record; it has a `step`.

        Raises:
            RunError: it can't be written; the last checkpoint stands.
        """
        record = self._judged(record)
        try:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
            numbers = {k: v for k, v in record.items() if k not in ("step", "epoch", "health")}
            self._board.write(record["step"], numbers)
        except OSError as error:
            if not self._run.path.exists():
                raise RunError(
                    f"{self._run.path} is gone: the run folder was moved or deleted while it was "
                    "trained. Move it back, then go on with squint resume."
                ) from error
            raise RunError(
                f"{self._run.metrics} could not be written: {error.strerror or error}. Make room "
                f"or change permissions, then go on with: squint resume {self._run.quoted}"
            ) from error
        if self._trackers:
            for failed in self._trackers.write(record["step"], numbers):
                self.say(f"  {failed}")
        self._newest |= record  # kNN comes rarely; the display keeps the last one
        self._screen.update(record["step"], self._newest)
        if "data_wait" in record:
            self._advise(record["data_wait"])

    def _judged(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """The record with its word, if it has signs; a new illness is told."""
        if self._health is None or SIGN not in record:
            return record
        word = self._health.judge(record)
        advice = self._health.advice(word)
        if advice and self._word not in ILL:  # one collapse may go by several words
            self.say(f"  {advice}")
        self._word = word
        return {**record, "health": word}

    def _advise(self, data_wait: float) -> None:
        # the first interval has the start of the workers in it
        if self._under_way:
            self._waits.append(data_wait)
        self._under_way = True
        if self._advice and len(self._waits) == OFTEN and min(self._waits) > LONG_WAIT:
            share = sum(self._waits) / OFTEN
            self.say(f"  {share:.0%} of the time went into waiting for images: {self._advice()}.")
            self._advice = None

    def say(self, text: str) -> None:
        """Tell the user something."""
        self._screen.say(text)

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        """Flush and close everything; what a full disk does not take then is lost."""
        for failed in self._trackers.close() if self._trackers else ():
            self.say(f"  {failed}")
        self._screen.close()
        with contextlib.suppress(OSError):
            if "_board" in vars(self):
                self._board.close()
        with contextlib.suppress(OSError):
            self._file.close()

    @cached_property
    def _board(self) -> Any:
        """TensorBoard's file; its package is loaded with the first record, not before a step."""
        from squint.train.board import Board

        return Board(self._run.path, first_step=self._first_step + 1)


def _summary(record: Mapping[str, Any]) -> str:
    """One line of the numbers a person watches."""
    parts = (
        ("epoch", "epoch {:.1f}"),
        ("loss", "loss {:.3f}"),
        ("rate_nats", "rate {:.1f}"),
        ("knn_top1", "kNN {:.1%}"),
        ("images_per_second", "{:.0f} img/s"),
        ("data_wait", "wait {:.0%}"),
        ("health", "{}"),
    )
    return "  ".join(form.format(record[name]) for name, form in parts if name in record)
