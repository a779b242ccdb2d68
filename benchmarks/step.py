"""How much of the encoder's own speed is left when views, loss, optimizer and log are added?

    python benchmarks/step.py [--recipes simclr@tiny,byol@tiny] [--data SRC] [--quick] [--write]
    python benchmarks/step.py --recipes moco-v2@cifar --batch-size 256 --out step_resnet18 --write

`bare` is the encoder's own passes for one batch on ready-made tensors, in the same precision,
layout and number: forward and backward for what is trained, forward without a graph for what a
target computes. `step` is everything a run does for a batch: order, pixels, views, method,
backward, finite check, optimizer, target, log. A third case has ready-made views instead; --quick
goes without it. On a GPU a call is ten steps, so that the host runs ahead of it as in training.
"""

import argparse
import contextlib
import itertools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import side_by_side
import torch
from side_by_side import Case, Section
from torch import Tensor

from squint import methods, presets
from squint.data import open_source
from squint.methods import Method
from squint.recipe import Recipe
from squint.runs import create
from squint.train.feed import Batch, Feed, prepare
from squint.train.log import Log, Silent
from squint.train.loop import Events, fit
from squint.train.roofline import passes, synchronise
from squint.train.runtime import Runtime, start
from squint.train.schedule import Plan
from squint.train.setup import optimizer_of
from squint.train.signals import Stop

METHODS = ("simclr", "moco-v1", "moco-v2", "moco-v3", "byol")
ALL_TINY = ",".join(f"{c}{name}@tiny" for name in METHODS for c in ("", "c-"))


def main() -> None:
    """Measure the recipes asked for and print a table for each."""
    options = side_by_side.options(
        __doc__, recipes=ALL_TINY, data="demo", batch_size=0, device="auto", out="step"
    )
    sections = [compare(name, options) for name in options.recipes.split(",")]
    side_by_side.report(options.out, sections, options)


def compare(name: str, options: argparse.Namespace) -> Section:
    """One recipe's table."""
    changes = {"train.knn_every_epochs": 0, "train.device": options.device}
    recipe = presets.recipe(name).override(changes)
    if options.batch_size:
        recipe = recipe.override({"train.batch_size": options.batch_size})
    with contextlib.ExitStack() as stack:
        runtime = stack.enter_context(start(recipe.train))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        readable = prepare(open_source(options.data, channels=recipe.encoder.in_channels), recipe)
        batches = Feed(readable, recipe, runtime).batches(0)
        ready = next(batches)
        steps = 10 if runtime.device.type == "cuda" else 1
        whole = training_step(recipe, runtime, batches, folder / "whole", steps)
        images = recipe.train.batch_size
        cases = [
            Case("bare", bare(recipe, runtime, ready, steps), items=steps * images),
            Case("step", whole, items=steps * images),
        ]
        if not options.quick:
            again = itertools.repeat(ready)
            apart = training_step(recipe, runtime, again, folder / "ready", steps)
            cases.insert(1, Case("step on ready-made views", apart, items=steps * images))
        timings = side_by_side.measure(cases, seconds=options.seconds)
    title = f"{name}, batch {images}, {runtime.precision}, source images"
    return Section(title, timings, against="bare")


def bare(recipe: Recipe, runtime: Runtime, batch: Batch, steps: int) -> Callable[[], None]:
    """The encoder's passes of so many steps of a method, on one batch of views."""
    torch.manual_seed(0)
    method = methods.build(recipe)
    encoder = runtime.place(method).encoder.train()  # pyright: ignore
    trained, followed = passes(recipe, batch, runtime)

    def passed() -> None:
        features: list[Tensor] = []
        with runtime.autocast():
            features += [encoder(images) for images in trained]
            with torch.no_grad():
                for images in followed:
                    encoder(images)
        torch.stack([f.float().square().mean() for f in features]).sum().backward()
        encoder.zero_grad(set_to_none=True)

    def run() -> None:
        for _ in range(steps):
            passed()
        synchronise(runtime)

    return run


def training_step(
    recipe: Recipe, runtime: Runtime, batches: Iterator[Batch], out: Path, steps: int
) -> Callable[[], None]:
    """The training loop itself, so many steps at a time."""
    torch.manual_seed(0)
    method: Method = methods.build(recipe)
    runtime.place(method)
    optimizer = optimizer_of(method, recipe)
    log = Log(create(out, recipe, source="demo", derived={}), Silent(), first_step=0)
    done = 0
    plan = Plan(steps_per_epoch=10**9, total_steps=10**9, warmup_steps=0, lr=1e-3)
    config = replace(recipe.train, log_every_steps=10)

    def go() -> None:
        nonlocal done
        done = fit(
            method,
            optimizer,
            itertools.islice(batches, steps),
            first_step=done,
            recipe=recipe.replace(train=config),
            plan=plan,
            runtime=runtime,
            log=log,
            events=Events(save=lambda step: None, online_knn=None),
            stop=Stop(),
        )
        synchronise(runtime)

    return go


if __name__ == "__main__":
    main()
