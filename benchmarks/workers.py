"""Image files to crops for two views of 224 px: what a second worker brings.

    python benchmarks/workers.py --data SRC [--write]

SRC needs 100 images or more. Workers decode and crop; nothing else runs beside them.
"""

import argparse
import statistics
import time

import side_by_side
import torch

from squint import presets
from squint.data import Images, open_source
from squint.data.loader import FileLoader
from squint.views import TwoViews

BATCH, WARM, STEPS, ROUNDS = 50, 6, 24, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = open_source(options.data)
    rounds = [(images_per_second(images, 1), images_per_second(images, 2)) for _ in range(ROUNDS)]
    low, middle, high = statistics.quantiles([two / one for one, two in rounds], n=4)
    one, two = (statistics.median(column) for column in zip(*rounds, strict=True))
    text = (
        f"# workers\n\n{side_by_side.machine()}\n\n| workers | images per second | times one | "
        f"middle half of rounds |\n|---:|---:|---:|---:|\n| 1 | {one:,.0f} | 1 | |\n"
        f"| 2 | {two:,.0f} | {middle:.2f} | {low:.2f} to {high:.2f} |\n"
    )
    print(text)
    if options.write:
        (side_by_side.RESULTS / "workers.md").write_text(text)


def images_per_second(images: Images, workers: int) -> float:
    views = TwoViews(presets.recipe("simclr").views, seed=0)
    loader = FileLoader(
        images, views.crops_of, draw=views.boxes, workers=workers, batch_size=BATCH, seed=0
    )
    batches = iter(loader.batches(0))
    for _ in range(WARM):  # workers start and fill their queue
        next(batches)
    start = time.perf_counter()
    for _ in range(STEPS):
        next(batches)
    return STEPS * BATCH / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
