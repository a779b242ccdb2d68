"""Several ways to do the same thing, timed in turn in one process, reported as ratios.

A shared machine slows down and speeds up by tens of per cent within seconds. So every round runs
each case once, in a new order, and ratios are taken within rounds: what slows one slows all. The
table has the median over rounds and the range that holds the middle half of them.

    options = side_by_side.options(__doc__)
    timings = side_by_side.measure([Case("ours", ours, items=512), ...], seconds=options.seconds)
    side_by_side.report("views_small", [Section("32 px", timings, against="lightly")], options)
"""

import argparse
import contextlib
import datetime
import importlib
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"

TURN_SECONDS = 0.2
"""A turn repeats a case until about this long, so that the clock's own error does not count."""

LEAST_ROUNDS = 5
LONG_SECONDS = 2.0
"""A call that takes longer is tried once, not twice, and has three rounds."""


_clock = time.perf_counter
"""time.process_time under --cpu-time: on a shared machine it leaves out the turns of others. For
cases of one thread that wait for nothing."""


@dataclass(frozen=True)
class Case:
    """One way to do it: a call without arguments that leaves nothing undone when it returns."""

    name: str
    run: Callable[[], object]
    items: float = 1
    """What one call works on: images, samples. 1: the table gives milliseconds per call."""


@dataclass(frozen=True)
class Timing:
    """Seconds per call of one case, one number per round; none if it could not run."""

    name: str
    items: float
    seconds: tuple[float, ...] = ()
    failure: str = ""


@dataclass(frozen=True)
class Section:
    """One table: cases of one comparison, and the case that all others are compared with."""

    title: str
    timings: Sequence[Timing]
    against: str
    notes: dict[str, str] = field(default_factory=dict)
    """By case name, for a last column."""


def options(description: str | None, **more: object) -> argparse.Namespace:
    """The flags all benchmarks share; `more` are further flags with their default values."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a minute instead of a good figure")
    parser.add_argument("--seconds", type=float, help="time per comparison; default 60, quick 8")
    parser.add_argument("--threads", type=int, default=1, help="torch threads; default 1")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/NAME.md")
    parser.add_argument(
        "--keep", action="store_true", help="with --write: leave the file's other tables standing"
    )
    parser.add_argument(
        "--cpu-time", action="store_true", help="count the processor's seconds, not the clock's"
    )
    for name, default in more.items():
        kind = type(default)
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default)
    chosen = parser.parse_args()
    if chosen.seconds is None:
        chosen.seconds = 8.0 if chosen.quick else 60.0
    _set_threads(chosen.threads)
    if chosen.cpu_time:
        global _clock
        _clock = time.process_time
    return chosen


def peer(name: str) -> Any:
    """A module of a library to compare with: type checkers see none of it, installed or not."""
    return importlib.import_module(name)


def measure(cases: Sequence[Case], *, seconds: float) -> list[Timing]:
    """Time the cases in turn for about so many seconds, at least five rounds, three of long calls.

    A case that raises is reported as such and left out of the rounds.
    """
    repeats, failures, least = {}, {}, 3
    for case in cases:
        try:
            first = seconds_of(case)  # caches, compilers and allocators warm up
            again = seconds_of(case) if first < LONG_SECONDS else first
            repeats[case.name] = max(1, round(TURN_SECONDS / again))
            least = LEAST_ROUNDS if again < LONG_SECONDS else least
        except Exception as error:  # a peer may fail in any way; the others still count
            failures[case.name] = f"{type(error).__name__}: {error}".splitlines()[0][:100]
    running = [case for case in cases if case.name in repeats]
    taken: dict[str, list[float]] = {case.name: [] for case in running}
    order, shuffle = list(running), random.Random(0)
    end = time.perf_counter() + seconds
    rounds = 0
    while running and (rounds < least or time.perf_counter() < end):
        shuffle.shuffle(order)
        for case in order:
            taken[case.name].append(seconds_of(case, repeats[case.name]))
        rounds += 1
    return [
        Timing(case.name, case.items, tuple(taken.get(case.name, ())), failures.get(case.name, ""))
        for case in cases
    ]


def ratio(timings: Sequence[Timing], name: str, against: str) -> tuple[float, float, float]:
    """How many times faster `name` is than `against` per item: median, and the middle half."""
    by_name = {timing.name: timing for timing in timings}
    ours, theirs = by_name[name], by_name[against]
    factors = [
        (slow / theirs.items) / (fast / ours.items)
        for fast, slow in zip(ours.seconds, theirs.seconds, strict=True)
    ]
    low, middle, high = statistics.quantiles(factors, n=4)
    return middle, low, high


def peak_mebibytes(code: str) -> float:
    """Memory a piece of Python adds to its process at its worst, in MiB, measured in a new process.

    Linux only.

    Args:
        code: two parts divided by a line `# ---`: what is there before, and what is measured.
    """
    before, measured = code.split("# ---\n")
    done = subprocess.run(
        [sys.executable, "-c", f"{before}\n{_FORGET_PEAK}\n{measured}\n{_PRINT_GROWTH}"],
        cwd=Path(__file__).parent,  # it may import the benchmark that asks
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout.split()[-1]) / 1024


# ru_maxrss would not do: a process starts with the peak of the one that started it
_FORGET_PEAK = """
def _kibibytes(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))
open("/proc/self/clear_refs", "w").write("5")
_first = _kibibytes("VmRSS:")
"""
_PRINT_GROWTH = "print(_kibibytes('VmHWM:') - _first)"


def report(
    name: str, sections: Sequence[Section], chosen: argparse.Namespace, more: str = ""
) -> None:
    """Print the tables, then `more`; if asked, write them to benchmarks/results/NAME.md."""
    tables = [*(table(section) for section in sections), *([more] if more else [])]
    text = "\n\n".join([f"# {name}", machine(), *tables]) + "\n"
    print(text)
    if chosen.write:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{name}.md"
        path.write_text(_joined(path, name, tables) if chosen.keep else text)


def _joined(path: Path, name: str, tables: Sequence[str]) -> str:
    """The file's tables with the new ones in place of those of the same title, or after them.

    Each table then says for itself where its figures come from.
    """
    head, *old = path.read_text().split("\n## ") if path.exists() else [""]
    origin = head.partition("\n")[2].strip()  # of all tables of a file that was written at once
    kept: dict[str, str] = {}
    for part in old:
        title, _, rest = part.strip().partition("\n\n")
        kept[title] = f"{origin}\n\n{rest}" if origin else rest
    for part in tables:
        title, _, rest = part.removeprefix("## ").partition("\n\n")
        kept[title] = f"{machine()}\n\n{rest}"
    return "\n\n".join([f"# {name}", *(f"## {title}\n\n{kept[title]}" for title in kept)]) + "\n"


def table(section: Section) -> str:
    """One comparison as a Markdown table."""
    per_item = any(timing.items != 1 for timing in section.timings)
    unit = "per second" if per_item else "ms"
    lines = [
        f"## {section.title}",
        "",
        f"| | {unit} | times {section.against} | middle half of rounds | |",
        "|---|---:|---:|---:|---|",
    ]
    for timing in section.timings:
        note = section.notes.get(timing.name, "")
        if not timing.seconds:
            lines.append(f"| {timing.name} | – | – | – | {timing.failure or 'not run'} |")
            continue
        typical = statistics.median(timing.seconds)
        value = f"{timing.items / typical:,.0f}" if per_item else f"{1e3 * typical:,.2f}"
        with contextlib.suppress(KeyError, ValueError):
            middle, low, high = ratio(section.timings, timing.name, section.against)
            note = f"| {middle:.2f} | {low:.2f} to {high:.2f} | {note}"
        lines.append(f"| {timing.name} | {value} {note or '| – | – | '} |")
    return "\n".join(lines)


def machine() -> str:
    """Date, processor, cores, versions and command: where the figures come from."""
    import torch

    command = " ".join(
        ["python", *(Path(part).name if i == 0 else part for i, part in enumerate(sys.argv))]
    )
    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_initialized() else ""
    return (
        f"{datetime.date.today()}, {gpu}{_processor()}, {len(os.sched_getaffinity(0))} cores, "
        f"{torch.get_num_threads()} torch threads, torch {torch.__version__}, "
        f"Python {platform.python_version()}; `{command}`"
    )


def seconds_of(case: Case, repeats: int = 1) -> float:
    """Seconds per call, mean over so many calls in a row."""
    start = _clock()
    for _ in range(repeats):
        case.run()
    return (_clock() - start) / repeats


def _set_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
