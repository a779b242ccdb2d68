"""Minutes of training until 85 % kNN and 90 % linear accuracy on CIFAR-10, for each method.

    python benchmarks/gpu/time_to_accuracy.py --data cifar10.tar.gz --out runs/race [--minutes 8]
    python benchmarks/gpu/time_to_accuracy.py --device cpu --quick --out /tmp/race

Works in pieces: each call trains for at most --minutes, saves, and goes on where the last one
stopped; call it until it says that all is done. A run trains with its recipe's schedule, measures
kNN online at every tenth epoch, and is measured by linear probe when it has ended. Minutes are
those in which steps were taken, from metrics.jsonl: without start-up and evaluation. A schedule
that ends too early to reach the mark says so; --epochs makes it longer, in a new --out. On a CPU it
only shows that it runs: two small recipes, the built-in images, two epochs.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from squint import presets
from squint.evaluate.protocols import evaluate
from squint.runs import Run
from squint.train.pretrain import pretrain, resume

sys.path.insert(0, str(Path(__file__).parents[1]))
from device import require
from step import METHODS

KNN, LINEAR = 0.85, 0.90
RECIPES = ",".join(f"{c}{name}@cifar" for name in METHODS for c in ("", "c-"))
QUICK_RECIPES = "simclr@tiny,c-moco-v2@tiny"


def main() -> None:
    """Go on with the first run that has not ended, until the time is up; then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipes", default=RECIPES)
    parser.add_argument("--epochs", type=float, default=200.0)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="two epochs of two small recipes")
    options = parser.parse_args()
    require(options)
    if options.quick:
        options.recipes, options.data = QUICK_RECIPES, options.data or "demo"
        options.epochs, options.batch_size = 2.0, 128
    if options.data is None:
        parser.error("--data is required: where CIFAR-10 lies")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # while a run is still starting
    end = time.monotonic() + 60 * options.minutes
    recipes: str = options.recipes
    names = recipes.split(",")
    for name in names:
        left = end - time.monotonic()
        if left > 5 and not ended(options.out / name):
            go_on(name, options, left)
    print(table(options.out, names))
    waiting = [name for name in names if not ended(options.out / name)]
    print(f"call again: {', '.join(waiting)} have not ended" if waiting else "all is done")


def go_on(name: str, options: argparse.Namespace, seconds: float) -> None:
    """Train one recipe for at most so long; measure it if that was enough."""
    folder = options.out / name
    alarm = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM))
    alarm.daemon = True
    alarm.start()
    with contextlib.suppress(KeyboardInterrupt):
        if Run(folder).checkpoint.exists():
            resume(folder, device=options.device, quiet=True)
        else:
            recipe = presets.recipe(name).override(
                {
                    "train.epochs": options.epochs,
                    "train.batch_size": options.batch_size,
                    "train.device": options.device,
                }
            )
            pretrain(options.data, recipe=recipe, out=folder, overwrite=folder.exists(), quiet=True)
        alarm.cancel()
        evaluate(folder, data=options.data, protocols=("knn", "linear"))
    alarm.cancel()


def ended(folder: Path) -> bool:
    """Whether a run was trained and measured."""
    return (folder / "evaluation.json").exists()


def minutes_until(run: Run, knn: float) -> tuple[float, float]:
    """Minutes of steps until online kNN reached a mark (inf: never), and until the end."""
    spent, reached, before = 0.0, float("inf"), 0
    batch = run.recipe.train.batch_size
    for record in run.records():
        if "images_per_second" in record:
            spent += (record["step"] - before) * batch / record["images_per_second"] / 60
            before = record["step"]
        if record.get("knn_top1", 0.0) >= knn:
            reached = min(reached, spent)
    return reached, spent


def table(out: Path, names: list[str]) -> str:
    """What has been reached so far."""
    lines = [
        f"| recipe | minutes to {KNN:.0%} kNN | in all | kNN | linear | {LINEAR:.0%} linear |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for name in names:
        run = Run(out / name)
        if not run.checkpoint.exists():
            continue
        reached, spent = minutes_until(run, KNN)
        measured = json.loads((run.path / "evaluation.json").read_text()) if ended(run.path) else {}
        knn, linear = (_top1(measured, protocol) for protocol in ("knn", "linear"))
        lines.append(
            f"| {name} | {reached:.1f} | {spent:.1f} | {knn:.1%} | {linear:.1%} | "
            f"{'yes' if linear >= LINEAR else 'no'} |"
        )
    return "\n".join(lines)


def _top1(measured: dict[str, Any], protocol: str) -> float:
    """A number of evaluation.json; not a number if the run has not been measured."""
    return measured.get("results", {}).get(f"{protocol}_top1", {}).get("value", float("nan"))


if __name__ == "__main__":
    main()
