"""Crop and resize of one 8-bit image, compiled."""

import ctypes
from typing import Literal, NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor

from squint import native


class Window(NamedTuple):
    """Part of an image, in its pixels; fractions where it was decoded at a reduced scale."""

    top: float
    left: float
    height: float
    width: float


def crop_resize(
    image: UInt8[Tensor, "c h w"],
    window: Window,
    size: int,
    interpolation: Literal["bilinear", "bicubic"],
    *,
    flip: bool = False,
    out: UInt8[Tensor, "c {size} {size}"] | None = None,
) -> UInt8[Tensor, "c {size} {size}"]:
    """Cuts `window` out, resizes it to a square with antialiasing, flips it if asked.

    Rounded to whole grey levels once, at the end; torchvision also rounds between its two passes,
    and may differ by one level (by more where bicubic overshoots black or white in between).

    Args:
        image: Planar, or a permuted view of interleaved (h, w, c) memory: neither is copied.
        window: Pixels outside it are not read.
        size: Side of the square in pixels.
        interpolation: The filter; it is widened when the window shrinks.
        flip: Whether the result runs from right to left.
        out: Where to put it; anywhere in memory.

    Raises:
        RunError: The kernels were not built.
    """
    kernels = native.demand()
    source = pixels_of(image[None])
    crop = image.new_empty(image.shape[0], size, size) if out is None else out
    target = native.Crop(crop.data_ptr(), *crop.stride())
    code = kernels.squint_crop_resize(
        ctypes.byref(source),
        ctypes.byref(native.Window(*window)),
        ctypes.c_int32(flip),
        ctypes.c_int32(size),
        ctypes.c_int32(interpolation == "bicubic"),
        ctypes.byref(target),
    )
    native.check(code)
    return crop


def pixels_of(images: UInt8[Tensor, "n c h w"]) -> native.Images:
    """Where the pixels lie, for the kernels; the tensor must outlive their call.

    Raises:
        ValueError: Neighbouring pixels are neither planar nor interleaved in memory.
        TypeError: They are no bytes.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"The kernels read pixels of torch.uint8, these are {images.dtype}.")
    channels, height, width = images.shape[1:]
    _, of_channel, _, of_pixel = images.stride()
    planar = of_pixel == 1 or width == 1
    if not planar and not (of_pixel == channels and of_channel == 1):
        raise ValueError(
            f"Pixels of shape {tuple(images.shape)} and strides {images.stride()} are neither "
            "planar nor interleaved: make them contiguous."
        )
    strides = (*images.stride()[:3], 1 if planar else of_pixel)
    return native.Images(images.data_ptr(), *strides, channels, height, width)
