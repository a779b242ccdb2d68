"""Views by the native kernels: the same numbers as `apply`, on CPU tensors of 8-bit pixels.

A kernel takes every image through all operations while it lies in the processor's cache. Threads
take a share of the batch each; there are as many as torch uses itself.
"""

import ctypes
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from squint import native
from squint.native.resize import pixels_of
from squint.native.threads import in_shares
from squint.shapes import Pixels
from squint.views.apply import blur_radius
from squint.views.draw import Look, Params
from squint.views.normalise import per_channel
from squint.views.recipes import Jitter, View, ViewsConfig

_LEAST_SHARE = 16  # images that are worth a thread


def apply(
    pixels: Pixels,
    params: Params,
    view: View,
    config: ViewsConfig,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Float[Tensor, "n c s s"]:
    """One normalised view of each image: crop, flip, jitter, grey, blur, solarize."""
    box, look = params
    images = _readable(pixels)
    keep: list[Any] = [images]
    arguments = (
        pixels_of(images),
        _Boxes(*(_array(side, torch.int64, keep) for side in box)),
        *_recipe(look, view, config, pixels.shape, config.size, keep),
    )
    return _run(native.demand().squint_apply, arguments, images, config.size, memory_format)


def apply_look(
    crops: Pixels,
    look: Look,
    view: View,
    config: ViewsConfig,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Float[Tensor, "n c s s"]:
    """`apply` after the crop, of crops of the recipe's size.

    Raises:
        ValueError: The crops are of another size.
    """
    size = config.size
    if crops.shape[2:] != (size, size):
        raise ValueError(f"crops of shape {tuple(crops.shape)} are not squares of {size} px")
    images = _readable(crops)
    keep: list[Any] = [images]
    arguments = (pixels_of(images), *_recipe(look, view, config, crops.shape, size, keep))
    return _run(native.demand().squint_apply_look, arguments, images, size, memory_format)


def _run(
    function: Any,
    arguments: tuple[Any, ...],
    images: Pixels,
    size: int,
    memory_format: torch.memory_format,
) -> Float[Tensor, "n c {size} {size}"]:
    n, channels = images.shape[:2]
    fresh = torch.empty(n, channels, size, size, memory_format=memory_format)
    views = native.ask_for_large_pages(fresh)
    pointers = [ctypes.byref(argument) for argument in arguments]
    pointers.append(ctypes.byref(_Views(views.data_ptr(), *views.stride())))

    def share(first: int, last: int) -> None:
        native.check(function(*pointers, ctypes.c_int64(first), ctypes.c_int64(last)))

    in_shares(n, share, least=_LEAST_SHARE)
    return views


class _Boxes(ctypes.Structure):
    _fields_ = tuple((side, ctypes.c_void_p) for side in ("top", "left", "height", "width"))


class _Looks(ctypes.Structure):
    """`Look`, as addresses; see look.h."""

    _fields_ = (
        ("flip", ctypes.c_void_p),
        ("jitter", ctypes.c_void_p),
        ("strength", ctypes.c_void_p * 4),
        ("order", ctypes.c_void_p),
        ("gray", ctypes.c_void_p),
        ("blur", ctypes.c_void_p),
        ("sigma", ctypes.c_void_p),
        ("solarize", ctypes.c_void_p),
    )


class _View(ctypes.Structure):
    """`View` and what all images share; see look.h."""

    _fields_ = (
        ("size", ctypes.c_int32),
        ("bicubic", ctypes.c_int32),
        ("add_brightness", ctypes.c_int32),
        ("tensorflow", ctypes.c_int32),
        ("has_effect", ctypes.c_int32 * 4),
        ("gray", ctypes.c_int32),
        ("blur", ctypes.c_int32),
        ("radius", ctypes.c_int32),
        ("solarize", ctypes.c_int32),
        ("mean", ctypes.c_void_p),
        ("std", ctypes.c_void_p),
    )


class _Views(ctypes.Structure):
    _fields_ = (
        ("pixels", ctypes.c_void_p),
        ("image_stride", ctypes.c_int64),
        ("channel_stride", ctypes.c_int64),
        ("row_stride", ctypes.c_int64),
        ("pixel_stride", ctypes.c_int64),
    )


def _recipe(
    look: Look, view: View, config: ViewsConfig, shape: torch.Size, size: int, keep: list[Any]
) -> tuple[_Looks, _View]:
    n, channels = shape[:2]
    if len(look.flip) != n:
        raise ValueError(f"{len(look.flip)} drawn looks do not fit {n} images")
    strengths = (look.brightness, look.contrast, look.saturation, look.hue)
    looks = _Looks(
        flip=_array(look.flip, torch.bool, keep),
        jitter=_array(look.jitter, torch.bool, keep),
        strength=(ctypes.c_void_p * 4)(*(_array(s, torch.float32, keep) for s in strengths)),
        order=_array(look.order, torch.int64, keep),
        gray=_array(look.gray, torch.bool, keep),
        blur=_array(look.blur, torch.bool, keep),
        sigma=_array(look.sigma, torch.float32, keep),
        solarize=_array(look.solarize, torch.bool, keep),
    )
    mean, std = zip(*per_channel(config, channels), strict=True)
    recipe = _View(
        size=size,
        bicubic=view.crop.interpolation == "bicubic",
        add_brightness=view.jitter.form == "byol",
        tensorflow=view.jitter.form != "torchvision",
        has_effect=(ctypes.c_int32 * 4)(*_has_effect(view.jitter)),
        gray=(2 if view.gray_before_jitter else 1) if view.gray > 0 else 0,
        blur={"zero": 1, "reflect": 2}[view.blur.padding] if view.blur.probability > 0 else 0,
        radius=blur_radius(size),
        solarize=view.solarize > 0,
        mean=_numbers(mean, keep),
        std=_numbers(std, keep),
    )
    return looks, recipe


def _has_effect(jitter: Jitter) -> tuple[bool, ...]:
    strengths = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    return tuple(jitter.probability > 0 and strength > 0 for strength in strengths)


def _readable(pixels: Pixels) -> Pixels:
    """The pixels where they lie, if the kernel can read them there; else a copy."""
    try:
        pixels_of(pixels)
    except ValueError:
        return pixels.contiguous()
    return pixels


def _array(tensor: Tensor, dtype: torch.dtype, keep: list[Any]) -> int:
    """Address of the tensor's numbers in a row; what holds them is added to `keep`."""
    numbers = tensor.to("cpu", dtype).contiguous()
    keep.append(numbers)
    return numbers.data_ptr()


def _numbers(values: tuple[float, ...], keep: list[Any]) -> int:
    return _array(torch.tensor(values), torch.float32, keep)
