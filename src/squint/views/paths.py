"""Which code makes the views: the one place that picks. All paths give the same views.

`reference` is `apply`, in torch, and runs everywhere. `native` is compiled C for pixels in the
CPU's memory, `triton` the same for CUDA. `compiled` is the reference through torch.compile: its
first batch takes half a minute, and on a CPU later ones take longer than the reference's. All are
fed the same drawn parameters and tested to be equal.
"""

import os
import shutil
import warnings
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple

import torch

from squint import native, trial
from squint.errors import RunError
from squint.shapes import Pixels
from squint.views import apply as reference
from squint.views import kernel, look_triton
from squint.views.draw import Look, Params
from squint.views.normalise import Square, normalise
from squint.views.recipes import View, ViewsConfig

PathName = Literal["auto", "native", "triton", "compiled", "reference"]


class Backend(NamedTuple):
    """One path: its name, and its two functions from 8-bit pixels to normalised views."""

    name: Literal["native", "triton", "compiled", "reference"]
    description: str
    """In a few words, for people."""
    apply: Callable[[Pixels, Params, View, ViewsConfig, torch.memory_format], Square]
    apply_look: Callable[[Pixels, Look, View, ViewsConfig, torch.memory_format], Square]


def pick(wanted: PathName, device: torch.device) -> Backend:
    """The path to take for pixels on a device; auto takes the fastest that is there.

    Raises:
        RunError: The path asked for is not there.
    """
    if wanted == "auto":
        wanted = _fastest(device)
    if wanted == "native":
        return _native(device)
    if wanted == "triton":
        return _triton(device)
    if wanted == "compiled":
        return _compiled(device)
    absent = device.type == "cpu" and native.library() is None
    hint = " (the native kernels, which are faster, are not built)" if absent else ""
    return Backend("reference", f"reference in torch{hint}", apply, apply_look)


def apply(
    pixels: Pixels,
    params: Params,
    view: View,
    config: ViewsConfig,
    memory_format: torch.memory_format,
) -> Square:
    """The reference: one normalised view of each image."""
    images = pixels.float().div_(255)
    views = normalise(reference.apply(images, params, view, config.size), config)
    return views.contiguous(memory_format=memory_format)


def apply_look(
    crops: Pixels, look: Look, view: View, config: ViewsConfig, memory_format: torch.memory_format
) -> Square:
    """The reference, after the crop."""
    images = crops.float().div_(255)
    views = normalise(reference.apply_look(images, look, view), config)
    return views.contiguous(memory_format=memory_format)


class Compiled:
    """A function through torch.compile; where that fails, itself, and one warning."""

    def __init__(self, function: Callable[..., Any]):
        self._function = function
        self._compiled: Callable[..., Any] | None = torch.compile(function, dynamic=False)

    def __call__(self, *arguments: Any) -> Any:
        """The function's value."""
        if self._compiled is None:
            return self._function(*arguments)
        try:
            with warnings.catch_warnings():  # views are exact: no TensorFloat32, whoever advises it
                warnings.filterwarnings("ignore", "TensorFloat32 tensor cores")
                return self._compiled(*arguments)
        except Exception as error:  # compilers fail in many ways; what is ours comes up again below
            views = self._function(*arguments)
            self._compiled = None
            first_line = str(error).strip().partition("\n")[0]
            warnings.warn(
                f"torch.compile could not compile the views ({type(error).__name__}: {first_line}):"
                " they are made uncompiled, which is slower and gives the same.",
                stacklevel=2,
            )
            return views


def _fastest(device: torch.device) -> Literal["native", "triton", "reference"]:
    if device.type == "cpu" and native.library() is not None:
        return "native"
    if device.type == "cuda" and not trial.absent(device):
        return "triton"
    return "reference"


def _native(device: torch.device) -> Backend:
    if device.type != "cpu":
        raise RunError(
            f"train.views_path=native makes views in the CPU's memory, the images are on {device}. "
            "Use train.views_path auto, compiled or reference, or --device cpu."
        )
    native.demand()
    return Backend("native", "native kernels", kernel.apply, kernel.apply_look)


def _triton(device: torch.device) -> Backend:
    if why := trial.absent(device):
        raise RunError(
            f"train.views_path=triton can't be taken: {why}. Use train.views_path auto, or train "
            "on a CUDA device with Triton installed."
        )
    return Backend(
        "triton",
        "Triton kernels",
        _or_compiled(look_triton.apply, apply, cropped=False),
        _or_compiled(look_triton.apply_look, apply_look, cropped=True),
    )


def _or_compiled(
    kernels: Callable[..., Square], function: Callable[..., Square], *, cropped: bool
) -> Callable[..., Square]:
    """The kernels for the views that suit them, the compiled function for others."""

    def run(images: Pixels, drawn: Any, view: View, config: ViewsConfig, layout: Any) -> Square:
        suit = look_triton.suit(images, view, config, cropped=cropped)
        make = kernels if suit else _compile(function)
        return make(images, drawn, view, config, layout)

    return run


def _compiled(device: torch.device) -> Backend:
    if missing := _missing_compiler(device):
        raise RunError(
            f"train.views_path=compiled needs {missing}, which is not there. Install it, or use "
            "train.views_path auto or reference."
        )
    return Backend(
        "compiled",
        "compiled by torch; the first batch waits for it",
        _compile(apply),
        _compile(apply_look),
    )


@cache
def _compile(function: Callable[..., Square]) -> Compiled:
    return Compiled(function)


def _missing_compiler(device: torch.device) -> str:
    """What torch.compile lacks for a device; empty if nothing."""
    if device.type == "cuda":
        return "" if find_spec("triton") else "Triton (pip install triton)"
    compilers = (os.environ.get("CXX", "g++"), "clang++")
    return "" if any(map(shutil.which, compilers)) else "a C++ compiler (g++ or clang++)"
