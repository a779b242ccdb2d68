"""Image files to crops for two views of 224 px: what workers and batches ahead bring, and cost.

    python benchmarks/workers.py --data SRC [--write]

SRC needs 100 images or more. Workers decode and crop; nothing else runs beside them in the first
table. In the second, one worker feeds steps of which every tenth is long, as if it saved.

Memory is what the loader adds: this process and its workers, a page they share counted once (PSS).
Linux only.
"""

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import side_by_side
import torch

from squint import presets
from squint.data import Images, open_source, prefetch
from squint.data.loader import FileLoader
from squint.views import TwoViews

BATCH, WARM, STEPS, ROUNDS = 50, 6, 24, 5
WORKERS = (0, 1, 2, 3)
DEPTHS: tuple[tuple[int, int], ...] = ((2, 2), (4, 4), (8, 8), (2, 16))
"""Least and most batches ahead; where they differ, the loader adapts."""
SHORT, LONG, EVERY = 0.05, 0.4, 10
"""Seconds of steps, of which every tenth is long."""


class Measured(NamedTuple):
    """One run over some batches."""

    images_per_second: float
    waiting: float
    """Share of the time."""
    mebibytes: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = open_source(options.data)
    text = f"# workers\n\n{side_by_side.machine()}\n\n{by_workers(images)}\n\n{by_depth(images)}\n"
    print(text)
    if options.write:
        (side_by_side.RESULTS / "workers.md").write_text(text)


def by_workers(images: Images) -> str:
    """Speed and memory against the number of workers."""
    rounds = [[measured(images, workers, lambda _: None) for workers in WORKERS]
              for _ in range(ROUNDS)]  # fmt: skip
    one = [each[WORKERS.index(1)].images_per_second for each in rounds]
    lines = [
        f"## By workers, batches of {BATCH}",
        "",
        "| workers | images per second | times one | middle half of rounds | memory, MiB |",
        "|---:|---:|---:|---:|---:|",
    ]
    for workers, column in zip(WORKERS, zip(*rounds, strict=True), strict=True):
        ratios = [m.images_per_second / o for m, o in zip(column, one, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        speed, memory = (statistics.median(m[k] for m in column) for k in (0, 2))
        lines.append(
            f"| {workers} | {speed:,.0f} | {middle:.2f} | {low:.2f} to {high:.2f} | {memory:,.0f} |"
        )
    return "\n".join(lines)


def by_depth(images: Images) -> str:
    """Speed, waiting and memory against the number of batches that are read ahead."""
    lines = [
        f"## By batches ahead, one worker, steps of {SHORT:g} s and every {EVERY}th of {LONG:g} s",
        "",
        "| batches ahead | images per second | time spent waiting | memory, MiB |",
        "|---:|---:|---:|---:|",
    ]
    usual = prefetch.LEAST_AHEAD, prefetch.MOST_AHEAD
    for least, most in DEPTHS:
        prefetch.LEAST_AHEAD, prefetch.MOST_AHEAD = least, most
        found = [measured(images, 1, unevenly, steps=6 * EVERY) for _ in range(2)]
        speed, waiting, memory = (statistics.mean(column) for column in zip(*found, strict=True))
        name = str(least) if least == most else f"{least} to {most}, as it adapts"
        lines.append(f"| {name} | {speed:,.0f} | {waiting:.1%} | {memory:,.0f} |")
    prefetch.LEAST_AHEAD, prefetch.MOST_AHEAD = usual
    return "\n".join(lines)


def unevenly(step: int) -> None:
    """A training step that leaves the core to the worker."""
    time.sleep(SHORT if step % EVERY else LONG)


def measured(
    images: Images, workers: int, train: Callable[[int], None], steps: int = STEPS
) -> Measured:
    """Batches taken one after the other, `train` between them."""
    before = mebibytes([os.getpid()])
    views = TwoViews(presets.recipe("simclr").views, seed=0)
    loader = FileLoader(
        images,
        views.crops_of_picture,
        draw=views.boxes_of_pictures,
        workers=workers,
        batch_size=BATCH,
        seed=0,
    )
    batches = loader.batches(0)
    for step in range(WARM):  # workers start and read ahead
        next(batches)
        train(step + 1)
    start, waited = time.perf_counter(), 0.0
    for step in range(steps):
        next(batches)
        waited += loader.wait_seconds
        train(step + 1)
    took = time.perf_counter() - start
    memory = max(_in_use(batches) for _ in range(5)) - before
    return Measured(steps * BATCH / took, waited / took, memory)


def _in_use(batches: Iterator[object]) -> float:
    next(batches)
    return mebibytes([os.getpid(), *(child.pid for child in multiprocessing.active_children())])


def mebibytes(processes: list[int | None]) -> float:
    """Memory of processes, each page shared out among those that use it."""
    total = 0
    for process in processes:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


if __name__ == "__main__":
    main()
