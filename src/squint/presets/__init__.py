"""Named recipes: METHOD[@SETTING], each with its source and the result to expect.

A setting is a module of this package with one function per method; a function returns a
`Preset`. Variants derive from each other with `dataclasses.replace`, so that a difference
between two recipes is a line of code.
"""

import difflib
import importlib
from collections.abc import Iterator
from typing import NamedTuple

from squint.errors import RecipeError
from squint.recipe import Recipe

METHODS = ("simclr", "c-simclr")
SETTINGS = {
    "folder": "your own images at 224 px (the default)",
    "tiny": "minutes to an hour on a laptop CPU, 32 px",
    "cifar": "ResNet-18 with the CIFAR stem, 32 px",
    "imagenet-300ep": "as published, 300 epochs",
    "imagenet-1000ep": "as published, 1000 epochs",
}


class Preset(NamedTuple):
    """A recipe and what is known of it."""

    recipe: Recipe
    source: str
    """Paper, table or code the numbers come from."""
    expected: str
    """The result to expect, where and how it was measured."""


def load(name: str) -> Preset:
    """The preset METHOD[@SETTING]; without a setting, @folder.

    Raises:
        RecipeError: unknown method or setting, with the nearest known one.
    """
    method, _, setting = name.partition("@")
    setting = setting or "folder"
    if method not in METHODS or setting not in SETTINGS:
        near = difflib.get_close_matches(f"{method}@{setting}", list(names()), n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise RecipeError(
            f"No recipe is called {name!r}.{hint} A recipe is METHOD[@SETTING] with METHOD one of "
            f"{', '.join(METHODS)} and SETTING one of {', '.join(SETTINGS)}. "
            "`squint recipes` shows them all."
        )
    room, _, variant = setting.partition("-")
    module = importlib.import_module(f"squint.presets.{room}")
    build = getattr(module, method.replace("-", "_"))
    return build(variant) if variant else build()


def names() -> Iterator[str]:
    """Every METHOD@SETTING there is."""
    return (f"{method}@{setting}" for setting in SETTINGS for method in METHODS)


def recipe(name: str) -> Recipe:
    """The recipe METHOD[@SETTING], ready to be changed with `.replace` or `.override`.

    Raises:
        RecipeError: unknown method or setting, with the nearest known one.
    """
    return load(name).recipe
