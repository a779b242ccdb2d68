"""Images per second while training SimCLR: squint's run against lightly under Lightning's Trainer.

    python benchmarks/step_peers.py --data DIR [--recipe simclr@tiny] [--size 32] [--rounds 3]
        [--steps 4] [--warm-up 6] [--bf16 no] [--threads 2] [--write] [--keep]
        [--device cpu] [--workers 2] [--batches 20]

DIR is a folder of image files in class folders, or an archive of one. Both sides get the same
--batches' worth of them, the same encoder with the same head, batch and temperature.

Ours is `squint.pretrain` as it stands. Theirs is lightly's own example: LightlyDataset,
SimCLRTransform, a DataLoader of --workers, NTXentLoss, SGD, Trainer with its defaults (float32,
logger, checkpoints, progress bar). Each side has a row in float32 and one in bfloat16 (--bf16 no
leaves out those that are not a side's default); their defaults are what the ratios compare with.

A round starts every side anew and counts its steps after the first --warm-up, so neither start-up
nor the decoding of all images that ours begins with is in the figure; six are more than the batches
that two workers have ready. With two workers and two threads per process, give it two cores. On a
GPU: --device cuda --workers 8 --batches 60 --warm-up 20 --steps 40 --out gpu_step_peers.
"""

# pyright: reportMissingImports=false
# what is compared with need not be installed

import argparse
import contextlib
import importlib
import importlib.util
import io
import logging
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import side_by_side
import torch
from PIL import Image
from side_by_side import Section, Timing
from torch import nn

import squint
from squint import presets
from squint.configs import SimCLRConfig
from squint.data import open_source
from squint.nn import encoders
from squint.recipe import Recipe

OTHERS_CALLBACKS = (
    "lightning.pytorch.trainer.connectors.callback_connector._load_external_callbacks"
)
"""Other packages that happen to be installed may hook theirs into every Trainer."""

Side = Callable[[Path, Recipe, str, argparse.Namespace], float]
"""Seconds per step of a training on a folder of images, in a precision, after the warm-up."""


def main() -> None:
    """Measure both sides in turn and print the table."""
    options = side_by_side.options(
        __doc__,
        data="demo",
        recipe="simclr@tiny",
        size=0,
        rounds=3,
        steps=4,
        warm_up=6,
        bf16="yes",
        device="cpu",
        workers=2,
        batches=20,
        out="step_peers",
    )
    if importlib.util.find_spec("lightly") is None or importlib.util.find_spec("lightning") is None:
        print("step_peers: skipped, lightly and lightning are not both installed")
        return
    if options.quick:
        options.rounds = 2
    recipe = presets.recipe(options.recipe).override(
        {"train.batch_size": 256, "train.knn_every_epochs": 0, "train.device": options.device}
    )
    if options.size:
        recipe = recipe.override({"views.size": options.size})
    title = f"{options.recipe} at {recipe.views.size} px, batch 256, source images"
    section = Section(title, compare(recipe, options), against=LIGHTLY)
    side_by_side.report(options.out, [section], options)


LIGHTLY = "lightly, Lightning's defaults (float32)"


def compare(recipe: Recipe, options: argparse.Namespace) -> list[Timing]:
    """Every side once a round, in a new order each time."""
    sides: dict[str, tuple[Side, str]] = {LIGHTLY: (theirs, "32-true")}
    if options.bf16 == "yes":
        sides["lightly, bf16-mixed"] = theirs, "bf16-mixed"
        sides["squint, float32"] = ours, "float32"
    sides["squint, its defaults"] = ours, "auto"
    taken: dict[str, list[float]] = {name: [] for name in sides}
    order, shuffle = list(sides), random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        write_images(options.data, images, options.batches * recipe.train.batch_size)
        for _ in range(max(2, options.rounds)):
            shuffle.shuffle(order)
            for name in order:
                run, precision = sides[name]
                taken[name].append(run(images, recipe, precision, options))
    batch = recipe.train.batch_size
    return [Timing(name, batch, tuple(seconds)) for name, seconds in taken.items()]


def write_images(source: str, folder: Path, count: int) -> None:
    """So many images of a source as JPEG files in class folders."""
    images = open_source(source)
    images = images.split("train") if "train" in images.splits else images
    for number in range(count):
        index = number % len(images)  # the built-in source is small
        path = folder / f"class{number % 10}" / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images.read(index)).save(path, quality=95)


def ours(folder: Path, recipe: Recipe, precision: str, options: argparse.Namespace) -> float:
    """squint.pretrain on the folder; its own record says how fast it went."""
    epochs = (options.warm_up + options.steps) / options.batches
    every = 10 if options.device == "cuda" else 1  # a line of the log waits for the device
    chosen = recipe.override(
        {
            "train.epochs": epochs,
            "train.precision": precision,
            "train.log_every_steps": every,
            "optim.warmup_epochs": 0.0,
        }
    )
    with tempfile.TemporaryDirectory() as out:
        run = squint.pretrain(folder, recipe=chosen, out=Path(out) / "run", quiet=True)
        late = [record for record in run.records() if record["step"] > options.warm_up]
    return statistics.mean(recipe.train.batch_size / record["images_per_second"] for record in late)


def theirs(folder: Path, recipe: Recipe, precision: str, options: argparse.Namespace) -> float:
    """The same training as lightly's examples write it."""
    lightning, data = (importlib.import_module(name) for name in ("lightning", "lightly.data"))
    transforms = importlib.import_module("lightly.transforms")
    view = transforms.SimCLRTransform(input_size=recipe.views.size)
    loader = torch.utils.data.DataLoader(
        data.LightlyDataset(str(folder), transform=view),
        batch_size=recipe.train.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=options.workers,
    )
    ends: list[float] = []
    silence = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with (
        tempfile.TemporaryDirectory() as out,
        silence[0],
        silence[1],
        warnings.catch_warnings(),
        patch(OTHERS_CALLBACKS, return_value=[]),
    ):
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            accelerator="gpu" if options.device == "cuda" else options.device,
            precision=precision,
            max_steps=options.warm_up + options.steps,
            default_root_dir=out,
            callbacks=[_stopwatch(lightning, ends)],
        )
        trainer.fit(_module(lightning, recipe), loader)
    return (ends[-1] - ends[options.warm_up - 1]) / options.steps


def _stopwatch(lightning: Any, ends: list[float]) -> Any:
    class Stopwatch(lightning.Callback):
        def on_train_batch_end(self, *_: object) -> None:
            ends.append(time.perf_counter())

    return Stopwatch()


def _module(lightning: Any, recipe: Recipe) -> Any:
    """The SimCLR of lightly's examples around our encoder."""
    losses = importlib.import_module("lightly.loss")
    heads = importlib.import_module("lightly.models.modules")
    config = recipe.method
    assert isinstance(config, SimCLRConfig), "both sides train SimCLR"
    encoder = encoders.build(
        recipe.encoder.name, stem=recipe.encoder.stem, width=recipe.encoder.width
    )
    hidden = config.projector.hidden_dim
    width = encoder.dim if hidden == "features" else hidden

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.encoder: nn.Module = encoder
            self.head = heads.SimCLRProjectionHead(encoder.dim, width, config.projector.out_dim)
            self.criterion = losses.NTXentLoss(temperature=config.temperature)

        def training_step(self, batch: Any, _: int) -> Any:
            first, second = batch[0]
            codes = [self.head(self.encoder(view)) for view in (first, second)]
            return self.criterion(*codes)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.06)

    return Module()


if __name__ == "__main__":
    main()
