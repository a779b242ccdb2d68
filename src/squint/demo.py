"""`squint demo`: SimCLR and C-SimCLR side by side on built-in images, from nothing to a page."""

import dataclasses
from pathlib import Path

from squint import presets
from squint.data import open_source
from squint.errors import RunError
from squint.evaluate.protocols import evaluate
from squint.evaluate.table import side_by_side
from squint.recipe import Recipe
from squint.report import report
from squint.runs import Run
from squint.train.pretrain import pretrain, train_or_resume
from squint.views.recipes import Blur, Crop, EvalView, Jitter, View

_METHODS = ("simclr", "c-simclr")
_PROTOCOLS = ("knn", "linear", "compression")


def main(out: Path, *, epochs: float, seed: int, device: str, overwrite: bool = False) -> None:
    """Train both methods on the built-in images, measure them on its test split, show the results.

    A finished run with the same recipe is measured again, an unfinished one is continued.

    Args:
        out: folder of the two run folders.
        epochs: passes over the images, for each run.
        seed: of every draw.
        device: as in `TrainConfig`.
        overwrite: replace runs of other recipes that are there.

    Raises:
        RunError: a folder holds a run of another recipe, before anything is trained; or there are
            fewer epochs than the learning rate's warm-up takes.
    """
    warmup = presets.recipe("simclr@tiny").optim.warmup_epochs
    if epochs < warmup:
        raise RunError(
            f"--epochs {epochs:g} is shorter than the warm-up of the learning rate. Give at least "
            f"{warmup:g}."
        )
    recipes = {
        method: recipe(method, epochs=epochs, seed=seed, device=device) for method in _METHODS
    }
    if not overwrite:
        for method, wanted in recipes.items():
            _check_same(out / method, wanted)
    print(
        "Ten shapes in any colour, texture, place, size, turn and light; no labels in training.\n"
        "The label (which shape) is used only to measure.\n"
    )
    images = open_source("demo")
    tables = []
    for method, wanted in recipes.items():
        folder = out / method
        run = train_or_resume(images, recipe=wanted, out=folder)
        run = run or pretrain(images, recipe=wanted, out=folder, overwrite=True)
        tables.append(evaluate(run, data=images, protocols=_PROTOCOLS, device=device))
        print()
    side_by_side(dict(zip(_METHODS, tables, strict=True)))
    page = report([out / method for method in _METHODS], out=out / "report.html", overwrite=True)
    print(f"\nCurves, recipes, every number with its protocol, on one page: {page}")


def _check_same(folder: Path, wanted: Recipe) -> None:
    if (folder / "recipe.json").exists() and Run(folder).recipe != wanted:
        raise RunError(
            f"{folder} holds a run of another recipe, which is never overwritten unasked. Give the "
            "epochs, seed and device it was trained with, another --out, or add --overwrite to "
            "delete it."
        )


def recipe(method: str, *, epochs: float, seed: int, device: str) -> Recipe:
    """The method's @tiny recipe, for few images in which colour says nothing about content.

    Views change every hue and lose little of the shape: what they share is what is to be kept.
    """
    tiny = presets.recipe(f"{method}@tiny")
    view = View(
        crop=Crop(area=(0.5, 1.0), interpolation="bilinear"),
        jitter=Jitter(brightness=0.6, contrast=0.6, saturation=0.8, hue=0.5),
        gray=0.3,
        blur=Blur(probability=0.0),
    )
    return tiny.replace(
        encoder=dataclasses.replace(tiny.encoder, width=0.25),
        views=dataclasses.replace(
            tiny.views,
            size=24,
            first=view,
            second=view,
            evaluation=EvalView(size=32, crop=1.0),
        ),
        train=dataclasses.replace(
            tiny.train, epochs=epochs, batch_size=128, seed=seed, device=device, knn_every_epochs=5
        ),
    )
