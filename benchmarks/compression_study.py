"""The demo part of docs/compression.md: methods, betas and seeds on the built-in images.

    python benchmarks/compression_study.py --out runs/study [--method c-simclr] [--epochs 20]

Goes on where it stopped. One run takes two to four minutes on one core.
"""

import argparse
from pathlib import Path

from squint import demo
from squint.sweep import sweep

BETAS: dict[str, tuple[str, ...]] = {
    "c-simclr": ("plain", "0", "0.01", "0.1", "0.3", "1"),
    "c-byol": ("plain", "0.01"),
    "c-moco-v2": ("plain", "0.1"),
    "c-moco-v3": ("plain", "0.1"),
}
PROTOCOLS = ("knn", "linear", "compression", "fitted", "nuisance", "lipschitz", "robustness")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--method", choices=BETAS, help="default: all, one after the other")
    parser.add_argument("--epochs", type=float, default=demo.EPOCHS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    for method in [options.method] if options.method else BETAS:
        sweep(
            "demo",
            recipe=demo.recipe(method, epochs=options.epochs, seed=0, device="auto"),
            over="compression.beta",
            values=BETAS[method],
            seeds=options.seeds,
            out=options.out / method,
            protocols=PROTOCOLS,
        )


if __name__ == "__main__":
    main()
