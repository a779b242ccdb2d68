"""The demo part of docs/compression.md: methods, betas and seeds on the built-in images.

    python benchmarks/compression_study.py --out runs/study [--method c-simclr] [--seeds 0 1 2]
    python benchmarks/compression_study.py --out runs/rising --method c-simclr --rising 0.1 0.3 1

Goes on where it stopped. One run takes six to eight minutes on one core, with its measures.
"""

import argparse
import dataclasses
from pathlib import Path

from squint import demo
from squint.sweep import sweep

BETAS: dict[str, tuple[str, ...]] = {
    "c-simclr": ("plain", "0", "0.01", "0.1", "0.3", "1"),
    "c-byol": ("plain", "0.01"),
    "c-moco-v2": ("plain", "0.1"),
    "c-moco-v3": ("plain", "0.1"),
}
EPOCHS = 60.0
PROTOCOLS = ("knn", "linear", "compression", "fitted", "nuisance", "lipschitz", "robustness")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--method", choices=BETAS, help="default: all, one after the other")
    parser.add_argument("--epochs", type=float, default=EPOCHS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rising", nargs="+", help="betas reached along a cosine, from 0")
    options = parser.parse_args()
    for method in [options.method] if options.method else BETAS:
        recipe = demo.recipe(method, epochs=options.epochs, seed=0, device="auto")
        if options.rising:
            rising = dataclasses.replace(recipe.compression, beta_schedule="cosine")
            recipe = recipe.replace(compression=rising)
        sweep(
            "demo",
            recipe=recipe,
            over="compression.beta",
            values=options.rising or BETAS[method],
            seeds=options.seeds,
            out=options.out / method,
            protocols=PROTOCOLS,
        )


if __name__ == "__main__":
    main()
