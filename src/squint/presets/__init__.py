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

METHODS = (
    "simclr",
    "c-simclr",
    "moco-v1",
    "c-moco-v1",
    "moco-v2",
    "c-moco-v2",
    "moco-v3",
    "c-moco-v3",
    "byol",
    "c-byol",
)
SETTINGS = {
    "folder": "your own images at 224 px (the default)",
    "tiny": "minutes to an hour on a laptop CPU, images of about 32 px, views of 16",
    "cifar": "ResNet-18 with the CIFAR stem, 32 px: SimCLR's own, others by solo-learn",
    "cifar-solo": "the same, as in solo-learn",
    "cifar-lightly": "the same, as in lightly's benchmark",
    "imagenet-40ep": "as published, 40 epochs",
    "imagenet-100ep": "as published, 100 epochs",
    "imagenet-200ep": "as published, 200 epochs",
    "imagenet-300ep": "as published, 300 epochs",
    "imagenet-800ep": "as published, 800 epochs",
    "imagenet-1000ep": "as published, 1000 epochs",
    "imagenet-cvr-300ep": "BYOL as the baseline of C-BYOL, 300 epochs",
    "imagenet-cvr-1000ep": "BYOL as the baseline of C-BYOL, 1000 epochs",
    "imagenet-vit-s": "MoCo v3's ViT-S, 300 epochs",
    "imagenet-vit-b": "MoCo v3's ViT-B, 300 epochs",
}
_SOME = {
    "cifar-solo": ("simclr", "moco-v2", "moco-v3", "byol"),
    "cifar-lightly": ("simclr", "moco-v2", "byol"),
    "imagenet-40ep": ("byol",),
    "imagenet-100ep": ("simclr", "moco-v3", "c-moco-v3", "byol"),
    "imagenet-200ep": ("moco-v1", "c-moco-v1", "moco-v2", "c-moco-v2"),
    "imagenet-300ep": ("simclr", "c-simclr", "moco-v3", "c-moco-v3", "byol", "c-byol"),
    "imagenet-800ep": ("moco-v2", "c-moco-v2"),
    "imagenet-1000ep": ("simclr", "c-simclr", "moco-v3", "c-moco-v3", "byol", "c-byol"),
    "imagenet-cvr-300ep": ("byol",),
    "imagenet-cvr-1000ep": ("byol",),
    "imagenet-vit-s": ("moco-v3", "c-moco-v3"),
    "imagenet-vit-b": ("moco-v3", "c-moco-v3"),
}
"""Methods of the settings that not every method has."""


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
    method, at, setting = name.partition("@")
    setting = setting if at else "folder"
    if f"{method}@{setting}" not in names():
        near = _nearest(method.lower(), setting.lower())
        hint = f" Did you mean {near if at else near.removesuffix('@folder')}?" if near else ""
        if method in METHODS:
            own = [other for other in SETTINGS if f"{method}@{other}" in names()]
            hint += f" {method} exists @{', @'.join(own)}."
        raise RecipeError(
            f"No recipe is called {name!r}.{hint} A recipe is METHOD[@SETTING] with METHOD one of "
            f"{', '.join(METHODS)} and SETTING one of {', '.join(SETTINGS)}. "
            "`squint recipes` shows them all."
        )
    room, _, variant = setting.partition("-")
    build = getattr(importlib.import_module(f"squint.presets.{room}"), method.replace("-", "_"))
    return build(variant) if variant else build()


def _nearest(method: str, setting: str) -> str:
    """The recipe that was meant, if both its parts are nearly as written; "" if there is none."""
    for meant in difflib.get_close_matches(method, METHODS, n=3):
        own = [name.partition("@")[2] for name in names() if name.startswith(f"{meant}@")]
        for place in difflib.get_close_matches(setting, own, n=1):
            return f"{meant}@{place}"
    return ""


def names() -> Iterator[str]:
    """Every METHOD@SETTING there is."""
    for setting in SETTINGS:
        for method in _SOME.get(setting, METHODS):
            yield f"{method}@{setting}"


def recipe(name: str) -> Recipe:
    """The recipe METHOD[@SETTING], ready to be changed with `.replace` or `.override`.

    Raises:
        RecipeError: unknown method or setting, with the nearest known one.
    """
    return load(name).recipe
