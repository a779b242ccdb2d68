"""The training step against the bare encoder on one CUDA device, ResNet-18, ten methods.

    python benchmarks/gpu/steps.py [--recipes simclr@cifar] [--data SRC] [--minutes 8] [--write]
    python benchmarks/gpu/steps.py --device cpu --quick

The same measurement as benchmarks/step.py. Works in pieces: with --write --keep each call leaves
out what results/gpu_step.md has already, and begins no recipe when --minutes are up; call it until
it says that all is done. On a CPU it only shows that it runs.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import side_by_side
from device import require
from step import METHODS, compare

RECIPES = ",".join(f"{c}{name}@cifar" for name in METHODS for c in ("", "c-"))
CPU_RECIPES = "simclr@tiny,c-moco-v2@tiny"


def main() -> None:
    """Measure the recipes asked for until the time is up and print a table for each."""
    options = side_by_side.options(
        __doc__, recipes="", data="demo", batch_size=0, device="cuda", minutes=8.0
    )
    require(options)
    if options.device == "cpu":
        options.batch_size = options.batch_size or 64
        options.seconds = min(options.seconds, 2.0)
    default = CPU_RECIPES if options.device == "cpu" else RECIPES
    chosen: str = options.recipes or default
    end = time.monotonic() + 60 * options.minutes
    waiting = [
        name for name in chosen.split(",") if not (options.write and options.keep and written(name))
    ]
    while waiting and time.monotonic() < end:
        name = waiting.pop(0)
        side_by_side.report("gpu_step", [compare(name, options)], options)
    print(f"call again: {', '.join(waiting)}" if waiting else "all is done")


def written(name: str) -> bool:
    """Whether the results have a table of this recipe."""
    path = side_by_side.RESULTS / "gpu_step.md"
    return path.exists() and f"## {name}, " in path.read_text()


if __name__ == "__main__":
    main()
