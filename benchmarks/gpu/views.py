"""Two views of each image on one CUDA device: the kernels, and the reference in torch.

    python benchmarks/gpu/views.py [--paths triton,reference,compiled] [--seconds 40] [--write]
    python benchmarks/gpu/views.py --device cpu --quick

Small images lie on the device; of files, their crops do, as workers send them. Drawing the random
numbers on the host is counted; ten batches are asked for at once, so that the host runs ahead. On a
CPU it only shows that it runs.
"""

import argparse
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import side_by_side
import torch
from device import require
from side_by_side import Case, Section

from squint import presets
from squint.views import TwoViews

BATCHES = 10
SMALL, FILES = 512, 256
"""Images of a batch."""


def main() -> None:
    """Measure every recipe and print a table for each."""
    options = side_by_side.options(__doc__, device="cuda", paths="triton,reference")
    require(options)
    if options.device == "cpu":
        options.paths, options.seconds = "reference", 1.0
    for setting, files in (("cifar", False), ("folder", True)):
        for name in ("simclr", "byol"):
            section = compare(f"{name}@{setting}", options, files=files)
            side_by_side.report("gpu_views", [section], options)
            options.keep = True  # each table is written when it is there


def compare(name: str, options: argparse.Namespace, *, files: bool) -> Section:
    """One recipe's table."""
    config = presets.recipe(name).views
    images = (FILES if files else SMALL) if options.device == "cuda" else 8
    shape = (images, 2, 3, config.size, config.size) if files else (images, 3, 32, 32)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8).to(options.device)
    rows = torch.arange(images)

    def of(path: str) -> Callable[[], None]:
        views = TwoViews(config, seed=0, path=path, memory_format=torch.channels_last)  # pyright: ignore[reportArgumentType]
        epochs = itertools.count()

        def run() -> None:
            for epoch in itertools.islice(epochs, BATCHES):
                if files:
                    views.finish(pixels, rows, epoch)
                else:
                    views(pixels, rows, epoch)
            if options.device == "cuda":
                torch.cuda.synchronize()

        return run

    cases = [Case(path, of(path), items=BATCHES * images) for path in options.paths.split(",")]
    timings = side_by_side.measure(cases, seconds=options.seconds / 4)
    of_what = "crops" if files else "images in memory"
    title = f"{name}, {of_what} to views of {config.size} px, batch {images}, source images"
    return Section(title, timings, against="reference")


if __name__ == "__main__":
    main()
