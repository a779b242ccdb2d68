"""Triton kernels of crops and colours; imported only where they run.

`colour` has a program per image, so that the operations of its jitter happen in its own order and
no others do; the mean that contrast stretches about takes a pass of its own. The blur that may come
after it is in `blur_triton_kernels`.
"""

# pyright: basic, reportCallIssue=false, reportArgumentType=false, reportGeneralTypeIssues=false

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from squint.views.crop_triton_kernels import COLUMNS, ROWS, resized
from squint.views.draw import Box, Look

PIXELS = 1024
"""Pixels that a program holds at once."""


class Flags(NamedTuple):
    """What a recipe's colours may need; each combination is compiled by itself."""

    GRAY_FIRST: bool
    GRAY_LAST: bool
    BRIGHTNESS: bool
    CONTRAST: bool
    SATURATION: bool
    HUE: bool
    ADD: bool
    """Brightness is added, not multiplied by."""
    TENSORFLOW: bool
    """Contrast is per channel, saturation that of HSV."""


class Finish(NamedTuple):
    """The end of every view."""

    solarize: bool
    scale: tuple[float, float, float, float, float, float]
    """Mean of each channel, then the standard deviations."""


def crop(pixels: Tensor, box: Box, flip: Tensor, size: int, *, bicubic: bool) -> Tensor:
    """A box of each image, resized and flipped: (n, 3, size, size) float32 in 0..1."""
    n, channels, height, width = pixels.shape
    crops = torch.empty(n, channels, size, size, device=pixels.device)
    tiles = triton.cdiv(size, ROWS) * triton.cdiv(size, COLUMNS)
    _crop[(n * channels * tiles,)](
        pixels, *(side.contiguous() for side in box), flip, crops, channels, height, width, size,
        tiles, int(bicubic),
        ROWS=ROWS, COLUMNS=COLUMNS,
    )  # fmt: skip
    return crops


def colour(
    images: Tensor, look: Look, out: Tensor, flags: Flags, finish: Finish | None, *, flip: bool
) -> None:
    """Flip, jitter and grey of (n, 3, s, s) images into `out`, of any strides.

    Args:
        images: float32 in 0..1, or uint8; rows contiguous.
        look: What happens to each.
        out: float32, in 0..1 or, with `finish`, finished.
        flags: What the recipe may need.
        finish: The end of the views, if nothing comes in between.
        flip: Whether to flip as `look` says.
    """
    size = images.shape[-1]
    _colour[(len(images),)](
        images, *images.stride()[:2], look.flip, look.jitter, look.brightness, look.contrast,
        look.saturation, look.hue, look.order, look.gray, look.solarize, out, *out.stride(),
        *(finish.scale if finish else (0.0, 0.0, 0.0, 1.0, 1.0, 1.0)), size,
        **flags._asdict(), BYTES=images.dtype == torch.uint8, FLIP=flip,
        FINISH=finish is not None, SOLARIZE=finish is not None and finish.solarize, PIXELS=PIXELS,
    )  # fmt: skip


@triton.jit(do_not_specialize=["bicubic"])
def _crop(
    pixels, top, left, height, width, flip, crops, channels, image_height, image_width, size,
    tiles, bicubic,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    plane, tile = program // tiles, program % tiles
    image = plane // channels
    across = tl.cdiv(size, COLUMNS)
    i = (tile // across) * ROWS + tl.arange(0, ROWS)
    j = (tile % across) * COLUMNS + tl.arange(0, COLUMNS)
    y, x = tl.load(top + image), tl.load(left + image)
    corner = pixels + (plane.to(tl.int64) * image_height + y) * image_width + x
    h, w = tl.load(height + image).to(tl.int32), tl.load(width + image).to(tl.int32)
    wanted = tl.where(tl.load(flip + image) != 0, size - 1 - j, j)
    grey = resized(corner, image_width, h, w, size, i, wanted, bicubic, ROWS, COLUMNS)
    at = (plane.to(tl.int64) * size + i[:, None]) * size + j[None, :]
    inside = (i < size)[:, None] & (j < size)[None, :]
    tl.store(crops + at, clip(grey / 255.0), mask=inside)


@triton.jit
def clip(x):
    """Into 0..1."""
    return tl.minimum(tl.maximum(x, 0.0), 1.0)


@triton.jit
def _towards(start, end, share):
    return start + share * (end - start)


@triton.jit
def _luma(r, g, b):
    return 0.2989 * r + 0.587 * g + 0.114 * b


@triton.jit
def _below(angle):
    """Share of its chroma by which a channel lies below V: see `color.hue`."""
    sixths = (angle - tl.floor(angle)) * 6.0
    return clip(2.0 - tl.abs(sixths - 2.0))


@triton.jit
def _turned(r, g, b, turns):
    value = tl.maximum(tl.maximum(r, g), b)
    chroma = value - tl.minimum(tl.minimum(r, g), b)
    divisor = tl.maximum(chroma, 1e-12)
    behind = tl.where(value == g, (b - r) / divisor + 2.0, (r - g) / divisor + 4.0)
    sixths = tl.where(value == r, (g - b) / divisor, behind)
    angle = sixths / 6.0 + turns + 2.0
    r = clip(value - chroma * _below(angle + 5.0 / 6.0))
    g = clip(value - chroma * _below(angle + 0.5))
    b = clip(value - chroma * _below(angle + 1.0 / 6.0))
    return r, g, b


@triton.jit
def _saturated(r, g, b, factor, TENSORFLOW: tl.constexpr):
    if TENSORFLOW:
        origin = tl.maximum(tl.maximum(r, g), b)
        chroma = origin - tl.minimum(tl.minimum(r, g), b)
        factor = tl.minimum(tl.maximum(factor, 0.0), origin / tl.maximum(chroma, 1e-12))
    else:
        origin = _luma(r, g, b)
    r = clip(_towards(origin, r, factor))
    g = clip(_towards(origin, g, factor))
    b = clip(_towards(origin, b, factor))
    return r, g, b


@triton.jit
def _at(TURN: tl.constexpr, first, second, third, last):
    """Which operation comes at a turn, 0 to 3."""
    operation = first
    if TURN == 1:
        operation = second
    if TURN == 2:
        operation = third
    if TURN == 3:
        operation = last
    return operation


@triton.jit
def _operate(
    operation, r, g, b, brightness, contrast, saturation, hue, mean_r, mean_g, mean_b,
    BRIGHTNESS: tl.constexpr, CONTRAST: tl.constexpr, SATURATION: tl.constexpr,
    HUE: tl.constexpr, ADD: tl.constexpr, TENSORFLOW: tl.constexpr,
):  # fmt: skip
    """One of the four operations; one that the recipe has not does nothing."""
    if BRIGHTNESS:
        if operation == 0:
            if ADD:
                r, g, b = clip(r + brightness), clip(g + brightness), clip(b + brightness)
            else:
                r, g, b = clip(r * brightness), clip(g * brightness), clip(b * brightness)
    if CONTRAST:
        if operation == 1:
            r = clip(_towards(mean_r, r, contrast))
            g = clip(_towards(mean_g, g, contrast))
            b = clip(_towards(mean_b, b, contrast))
    if SATURATION:
        if operation == 2:
            r, g, b = _saturated(r, g, b, saturation, TENSORFLOW)
    if HUE:
        if operation == 3:
            r, g, b = _turned(r, g, b, hue)
    return r, g, b


@triton.jit
def _load(image, down, p, size, flip, gray, BYTES: tl.constexpr, GRAY_FIRST: tl.constexpr):
    """Pixels number p of an image, flipped and, if that comes first, without colour."""
    y, x = p // size, p % size
    place = y * size + tl.where(flip, size - 1 - x, x)
    inside = p < size * size
    r = tl.load(image + place, mask=inside, other=0).to(tl.float32)
    g = tl.load(image + down + place, mask=inside, other=0).to(tl.float32)
    b = tl.load(image + 2 * down + place, mask=inside, other=0).to(tl.float32)
    if BYTES:
        r, g, b = r / 255.0, g / 255.0, b / 255.0
    if GRAY_FIRST:
        luma = _luma(r, g, b)
        r, g, b = tl.where(gray, luma, r), tl.where(gray, luma, g), tl.where(gray, luma, b)
    return r, g, b


@triton.jit
def finished(x, solarize, mean, std, SOLARIZE: tl.constexpr):
    """The end of a view: solarize and normalise."""
    if SOLARIZE:
        x = tl.where(solarize & (x >= 0.5), 1.0 - x, x)
    return (x - mean) / std


@triton.jit
def _colour(
    images, image_stride, channel_stride, flips, jitters, brightnesses, contrasts, saturations,
    hues, order, grays, solarizes, out, out_n, out_c, out_y, out_x,
    mean_r, mean_g, mean_b, std_r, std_g, std_b, size,
    GRAY_FIRST: tl.constexpr, GRAY_LAST: tl.constexpr, BRIGHTNESS: tl.constexpr,
    CONTRAST: tl.constexpr, SATURATION: tl.constexpr, HUE: tl.constexpr, ADD: tl.constexpr,
    TENSORFLOW: tl.constexpr, BYTES: tl.constexpr, FLIP: tl.constexpr, FINISH: tl.constexpr,
    SOLARIZE: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0).to(tl.int64)
    image, place = images + n * image_stride, out + n * out_n
    jitter, gray = tl.load(jitters + n) != 0, tl.load(grays + n) != 0
    solarize = tl.load(solarizes + n) != 0
    flip = (tl.load(flips + n) != 0) & FLIP
    brightness, contrast = tl.load(brightnesses + n), tl.load(contrasts + n)
    saturation, hue = tl.load(saturations + n), tl.load(hues + n)
    first, second = tl.load(order + 4 * n).to(tl.int32), tl.load(order + 4 * n + 1).to(tl.int32)
    third, last = tl.load(order + 4 * n + 2).to(tl.int32), tl.load(order + 4 * n + 3).to(tl.int32)
    first, second = tl.where(jitter, first, 4), tl.where(jitter, second, 4)  # 4: none
    third, last = tl.where(jitter, third, 4), tl.where(jitter, last, 4)

    about_r, about_g, about_b = contrast * 0.0, contrast * 0.0, contrast * 0.0
    if CONTRAST:
        if jitter:
            # up to contrast; what comes later has, for this pass, no number
            second_now = tl.where(first == 1, 4, second)
            third_now = tl.where((first == 1) | (second == 1), 4, third)
            last_now = tl.where(last == 1, last, 4)
            sum_r, sum_g, sum_b = (
                tl.zeros((PIXELS,), tl.float32),
                tl.zeros((PIXELS,), tl.float32),
                tl.zeros((PIXELS,), tl.float32),
            )
            for start in range(0, size * size, PIXELS):
                p = start + tl.arange(0, PIXELS)
                r, g, b = _load(image, channel_stride, p, size, flip, gray, BYTES, GRAY_FIRST)
                for turn in tl.static_range(4):
                    now = _at(turn, first, second_now, third_now, last_now)
                    r, g, b = _operate(
                        now, r, g, b, brightness, contrast, saturation, hue, 0.0, 0.0, 0.0,
                        BRIGHTNESS, False, SATURATION, HUE, ADD, TENSORFLOW,
                    )  # fmt: skip
                inside = p < size * size
                if TENSORFLOW:
                    sum_r += tl.where(inside, r, 0.0)
                    sum_g += tl.where(inside, g, 0.0)
                    sum_b += tl.where(inside, b, 0.0)
                else:
                    sum_r += tl.where(inside, _luma(r, g, b), 0.0)
            pixels = size * size
            about_r = tl.sum(sum_r, 0) / pixels
            if TENSORFLOW:
                about_g, about_b = tl.sum(sum_g, 0) / pixels, tl.sum(sum_b, 0) / pixels
            else:
                about_g, about_b = about_r, about_r

    for start in range(0, size * size, PIXELS):
        p = start + tl.arange(0, PIXELS)
        r, g, b = _load(image, channel_stride, p, size, flip, gray, BYTES, GRAY_FIRST)
        for turn in tl.static_range(4):
            now = _at(turn, first, second, third, last)
            r, g, b = _operate(
                now, r, g, b, brightness, contrast, saturation, hue, about_r, about_g, about_b,
                BRIGHTNESS, CONTRAST, SATURATION, HUE, ADD, TENSORFLOW,
            )  # fmt: skip
        if GRAY_LAST:
            luma = _luma(r, g, b)
            r, g, b = tl.where(gray, luma, r), tl.where(gray, luma, g), tl.where(gray, luma, b)
        if FINISH:
            r = finished(r, solarize, mean_r, std_r, SOLARIZE)
            g = finished(g, solarize, mean_g, std_g, SOLARIZE)
            b = finished(b, solarize, mean_b, std_b, SOLARIZE)
        inside = p < size * size
        at = place + (p // size) * out_y + (p % size) * out_x
        tl.store(at, r, mask=inside)
        tl.store(at + out_c, g, mask=inside)
        tl.store(at + 2 * out_c, b, mask=inside)
