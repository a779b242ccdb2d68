"""Triton kernels of the blur, along rows and along columns; imported only where they run.

The second pass finishes all views, also those that are not blurred.
"""

# pyright: basic, reportCallIssue=false, reportArgumentType=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from squint.views.draw import Look
from squint.views.look_triton_kernels import PIXELS, Finish, clip, finished


def blurred(
    images: Tensor, look: Look, out: Tensor, finish: Finish, *, radius: int, reflect: bool
) -> None:
    """Blur of (n, 3, s, s) float32 images where `look` says so, and the end of all of them."""
    size = images.shape[-1]
    tiles = triton.cdiv(size * size, PIXELS)
    grid = (3 * len(images) * tiles,)
    across = torch.empty_like(images)
    _blur_across[grid](
        images, look.blur, look.sigma, across, size, tiles, radius, REFLECT=reflect, PIXELS=PIXELS
    )
    _blur_down[grid](
        images, across, look.blur, look.sigma, look.solarize, out, *out.stride(), *finish.scale,
        size, tiles, radius, REFLECT=reflect, SOLARIZE=finish.solarize, PIXELS=PIXELS,
    )  # fmt: skip


@triton.jit
def _weight(tap, radius, sigma):
    share = (tap - radius).to(tl.float32) / sigma
    return tl.exp(-0.5 * share * share)


@triton.jit
def _mixed(source, along, step, rest, inside, sigma, size, radius, REFLECT: tl.constexpr):
    """Pixels mixed with their neighbours: those at `along` + tap on one axis, `rest` on the other.

    `step` lies between neighbours. A place beyond an edge is seen in the edge's pixel as in a
    mirror, or is black.
    """
    total = 0.0
    for tap in range(2 * radius + 1):
        total += _weight(tap, radius, sigma)
    mix = tl.zeros(along.shape, tl.float32)
    for tap in range(2 * radius + 1):
        at = along + tap - radius
        there = inside
        if REFLECT:
            at = tl.abs(at)
            at = tl.where(at >= size, 2 * size - 2 - at, at)
        else:
            there = inside & (at >= 0) & (at < size)
        pixel = tl.load(source + at * step + rest, mask=there, other=0.0)
        mix += _weight(tap, radius, sigma) / total * pixel
    return mix


@triton.jit
def _blur_across(
    images, blurs, sigmas, across, size, tiles, radius,
    REFLECT: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    plane, tile = (program // tiles).to(tl.int64), program % tiles
    if tl.load(blurs + plane // 3) != 0:
        p = tile * PIXELS + tl.arange(0, PIXELS)
        inside = p < size * size
        y, x = p // size, p % size
        sigma, first = tl.load(sigmas + plane // 3), plane * size * size
        mix = _mixed(images + first, x, 1, y * size, inside, sigma, size, radius, REFLECT)
        tl.store(across + first + p, mix, mask=inside)


@triton.jit
def _blur_down(
    images, across, blurs, sigmas, solarizes, out, out_n, out_c, out_y, out_x,
    mean_r, mean_g, mean_b, std_r, std_g, std_b, size, tiles, radius,
    REFLECT: tl.constexpr, SOLARIZE: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    plane, tile = (program // tiles).to(tl.int64), program % tiles
    n, channel, first = plane // 3, plane % 3, plane * size * size
    p = tile * PIXELS + tl.arange(0, PIXELS)
    inside = p < size * size
    y, x = p // size, p % size
    if tl.load(blurs + n) != 0:
        sigma = tl.load(sigmas + n)
        view = clip(_mixed(across + first, y, size, x, inside, sigma, size, radius, REFLECT))
    else:
        view = tl.load(images + first + p, mask=inside, other=0.0)
    mean = tl.where(channel == 0, mean_r, tl.where(channel == 1, mean_g, mean_b))
    std = tl.where(channel == 0, std_r, tl.where(channel == 1, std_g, std_b))
    view = finished(view, tl.load(solarizes + n) != 0, mean, std, SOLARIZE)
    tl.store(out + n * out_n + channel * out_c + y * out_y + x * out_x, view, mask=inside)
