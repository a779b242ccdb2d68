"""What a library feeds the architectures it names: size, crop, normalisation."""

import dataclasses
import importlib
from typing import Any, Literal

from squint.configs import EncoderConfig
from squint.nn import encoders
from squint.views.recipes import (
    CIFAR_MEAN,
    CIFAR_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    EvalView,
    Interpolation,
    ViewsConfig,
)


def own_input(config: EncoderConfig, *, size: int | Literal["own"] = "own") -> ViewsConfig:
    """The evaluation input of an architecture by its name, at its own size or another.

    timm's: the data config of the name's default weights. torchvision's: the transforms of its
    default weights. Ours: ImageNet's normalisation, 224 of 256 px, bilinear (torchvision's); with
    the cifar stem CIFAR's, 32 px, whole.

    # differs from timm: interpolations other than bilinear are bicubic, images are cropped square
    # (not squashed) before they are resized.
    """
    views = _own_input(config)
    if size == "own":
        return views
    shown = dataclasses.replace(views.evaluation, size=size)
    return dataclasses.replace(views, size=size, evaluation=shown)


def _own_input(config: EncoderConfig) -> ViewsConfig:
    if config.stem == "cifar":
        return _views(CIFAR_MEAN, CIFAR_STD, 32, 1.0, "bicubic")
    library, name = encoders.library_of(config.name), config.name.rpartition("/")[2]
    if library == "timm":
        timm: Any = importlib.import_module("timm")
        data = timm.get_pretrained_cfg(name)
        if data is not None:
            return _views(
                data.mean, data.std, data.input_size[-1], data.crop_pct, data.interpolation
            )
    if library == "torchvision":
        models: Any = importlib.import_module("torchvision.models")
        shown = models.get_model_weights(name).DEFAULT.transforms()
        size = shown.crop_size[0]
        crop = size / shown.resize_size[0]
        return _views(shown.mean, shown.std, size, min(crop, 1.0), shown.interpolation.value)
    return _views(IMAGENET_MEAN, IMAGENET_STD, 224, 0.875, "bilinear")


def _views(mean: Any, std: Any, size: int, crop: float, interpolation: str) -> ViewsConfig:
    known: Interpolation = "bilinear" if interpolation == "bilinear" else "bicubic"
    return ViewsConfig(
        size=size,
        evaluation=EvalView(size=size, crop=float(crop), interpolation=known),
        mean=tuple(float(number) for number in mean),
        std=tuple(float(number) for number in std),
    )
