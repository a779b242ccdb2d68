"""Which code makes the views: the one place that picks. All paths give the same views.

`reference` is `apply`, in torch and everywhere; `native` is compiled C for pixels in memory of
the CPU; `compiled` is the reference through torch.compile, for a GPU. They are fed the same
drawn parameters and tested to be equal.
"""

from collections.abc import Callable
from functools import cache
from typing import Literal, NamedTuple

import torch

from squint import native
from squint.errors import RunError
from squint.shapes import Image, Pixels
from squint.views import apply as reference
from squint.views import kernel
from squint.views.draw import Look, Params
from squint.views.normalise import normalise
from squint.views.recipes import View, ViewsConfig

PathName = Literal["auto", "native", "compiled", "reference"]


class Path(NamedTuple):
    """Two functions from 8-bit pixels to normalised views."""

    name: Literal["native", "compiled", "reference"]
    why: str
    """In a few words, for people."""
    apply: Callable[[Pixels, Params, View, ViewsConfig, torch.memory_format], Image]
    apply_look: Callable[[Pixels, Look, View, ViewsConfig, torch.memory_format], Image]


def apply(
    pixels: Pixels,
    params: Params,
    view: View,
    config: ViewsConfig,
    memory_format: torch.memory_format,
) -> Image:
    """The reference: one normalised view of each image."""
    images = pixels.float().div_(255)
    views = normalise(reference.apply(images, params, view, config.size), config)
    return views.contiguous(memory_format=memory_format)


def apply_look(
    crops: Pixels, look: Look, view: View, config: ViewsConfig, memory_format: torch.memory_format
) -> Image:
    """The reference, after the crop."""
    images = crops.float().div_(255)
    views = normalise(reference.apply_look(images, look, view), config)
    return views.contiguous(memory_format=memory_format)


@cache
def pick(wanted: PathName, device: torch.device) -> Path:
    """The path to take on a device."""
    if wanted == "native" or (wanted == "auto" and device.type == "cpu" and native.library()):
        native.demand()
        return Path("native", "", kernel.apply, kernel.apply_look)
    return Path("reference", "", apply, apply_look)
