"""How much of the encoder's own speed is left when views, loss, optimizer and log are added?

    python benchmarks/step.py [--recipe simclr@tiny c-simclr@tiny] [--seconds 20] [--write]

`bare` is forward and backward of the encoder on ready-made tensors, in the same precision and
layout, both views in one pass. `step` is everything a training run does for a batch: order,
pixels, views, method, backward, finite check, optimizer, log. The two are run in turn; the ratio
is taken round by round, so a machine that slows down slows both.
"""

import argparse
import datetime
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from squint import methods, presets
from squint.data import open_source
from squint.recipe import Recipe
from squint.runs import Run, create
from squint.train import optim
from squint.train.feed import Feed, prepare
from squint.train.log import Log, Silent
from squint.train.loop import Events, Plan, fit
from squint.train.runtime import Runtime, start
from squint.train.signals import Stop

STEPS = 8
"""Steps of one round of either side."""


def main() -> None:
    """Measure the recipes asked for and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--recipe", nargs="+", default=["simclr@tiny", "c-simclr@tiny"])
    parser.add_argument("--data", default="demo")
    parser.add_argument("--seconds", type=float, default=60.0, help="per recipe")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/step.md")
    options = parser.parse_args()
    rows = [measure(name, options.data, options.seconds) for name in options.recipe]
    table = "\n".join([*heading(), *rows])
    print(table)
    if options.write:
        (Path(__file__).parent / "results" / "step.md").write_text(table + "\n")


def measure(name: str, data: str, seconds: float) -> str:
    """One row: images per second of both sides, and the median ratio with its range."""
    recipe = presets.recipe(name)
    with start(recipe.train) as runtime, tempfile.TemporaryDirectory() as folder:
        bare, step = (
            bare_steps(recipe, runtime),
            training_steps(recipe, runtime, data, Path(folder)),
        )
        bare()
        step()
        times: list[tuple[float, float]] = []
        end = time.monotonic() + seconds
        while time.monotonic() < end or len(times) < 3:
            times.append((timed(bare), timed(step)))
    images = STEPS * recipe.train.batch_size
    ratios = [alone / whole for alone, whole in times]
    alone, whole = (statistics.median(images / t[side] for t in times) for side in (0, 1))
    return (
        f"| {name} | {runtime.precision} | {alone:.0f} | {whole:.0f} | "
        f"{statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} | {len(times)} |"
    )


def bare_steps(recipe: Recipe, runtime: Runtime) -> Callable[[], None]:
    """Forward and backward of the encoder on ready-made tensors."""
    torch.manual_seed(0)
    encoder = runtime.place(methods.build(recipe).encoder).train()
    size, batch = recipe.views.size, recipe.train.batch_size
    images = torch.randn(2 * batch, recipe.encoder.in_channels, size, size, device=runtime.device)
    images = images.contiguous(memory_format=runtime.memory_format)

    def run() -> None:
        for _ in range(STEPS):
            with runtime.autocast():
                features = encoder(images)
            encoder.zero_grad(set_to_none=True)
            features.float().square().mean().backward()
        synchronise(runtime)

    return run


def training_steps(recipe: Recipe, runtime: Runtime, data: str, out: Path) -> Callable[[], None]:
    """The training loop itself, some steps at a time."""
    recipe = recipe.override({"train.knn_every_epochs": 0})
    readable = prepare(open_source(data, channels=recipe.encoder.in_channels), recipe)
    torch.manual_seed(0)
    method = methods.build(recipe)
    runtime.place(method)
    optimizer = optim.build(method, "sgd", lr=0.1, weight_decay=recipe.optim.weight_decay)
    run: Run = create(out / "run", recipe, source=data, derived={})
    log = Log(run, Silent(), first_step=0)
    feed = Feed(readable, recipe, runtime)
    batches = feed.batches(0)
    whole = Plan.of(recipe, len(readable.images))
    done = 0

    def go() -> None:
        nonlocal done
        plan = Plan(
            steps_per_epoch=whole.steps_per_epoch * 10**6,  # no epoch ends: no checkpoints
            total_steps=done + STEPS,
            warmup_steps=0,
            lr=whole.lr,
        )
        done = fit(
            method,
            optimizer,
            batches,
            first_step=done,
            recipe=recipe,
            plan=plan,
            runtime=runtime,
            log=log,
            events=Events(save=lambda step: None, online_knn=None),
            stop=Stop(),
        )
        synchronise(runtime)

    return go


def synchronise(runtime: Runtime) -> None:
    """Wait for the device."""
    if runtime.device.type == "cuda":
        torch.cuda.synchronize()


def timed(run: Callable[[], None]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def heading() -> list[str]:
    """Where and when, and the head of the table."""
    return [
        "# Training step against the bare encoder",
        "",
        f"{datetime.date.today()}, {platform.processor() or platform.machine()}, "
        f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, torch "
        f"{torch.__version__}. Images per second are source images (two views each), medians of "
        "rounds run in turn; ratio = step / bare.",
        "",
        "    python benchmarks/step.py --write",
        "",
        "| recipe | precision | bare img/s | step img/s | ratio | range | rounds |",
        "|---|---|---:|---:|---:|---|---:|",
    ]


if __name__ == "__main__":
    main()
