"""The training step against the bare encoder on one CUDA device: ResNet-18 and ResNet-50.

    python benchmarks/gpu/steps.py --data SRC [--quick] [--write]

The same measurement as benchmarks/step.py, under recipes worth a GPU; --recipes and --batch-size
make it small enough to try on a CPU. SRC holds at least a batch of images.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import side_by_side
from step import METHODS, compare

RECIPES = ",".join(f"{c}{name}@cifar" for name in METHODS for c in ("", "c-"))


def main() -> None:
    """Measure the recipes asked for and print a table for each."""
    options = side_by_side.options(__doc__, recipes=RECIPES, data="demo", batch_size=0)
    sections = [compare(name, options) for name in options.recipes.split(",")]
    side_by_side.report("gpu_step", sections, options)


if __name__ == "__main__":
    main()
