"""Spatter: drops of water or mud on the lens, with the image operations that drops are made of.

Those follow OpenCV 3.4 (Canny, 5 x 5 distances, equalisation), which the released code used.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Shaped, UInt8

from squint.evaluate.corruptions.pixels import Bytes, correlate, gaussian_blur, to_bytes, unit

Plane = UInt8[np.ndarray, "h w"]
Planes = UInt8[np.ndarray, "n h w"]

_WATER = (175, 238, 238)
_MUD = (63, 42, 20)
_RELIEF = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], dtype=np.float64)
_FAR = 20  # pixels from an edge, beyond which drops are flat
_ONE = 1 << 16  # distances are integers in this fraction of a pixel
_DIAGONAL, _KNIGHT = round(1.4 * _ONE), round(2.1969 * _ONE)
_ABOVE = (  # rows up, columns right, cost of the step
    (1, -2, _KNIGHT),
    (1, -1, _DIAGONAL),
    (1, 0, _ONE),
    (1, 1, _DIAGONAL),
    (1, 2, _KNIGHT),
    (2, -1, _KNIGHT),
    (2, 1, _KNIGHT),
)


class Spatter(NamedTuple):
    """How drops form, beside the mean and spread of the noise they are made from."""

    sigma: float
    """Of the noise's blur, in pixels."""
    threshold: float
    """Least value of the blurred noise that is liquid."""
    strength: float
    """Of water; of mud, the blur of the drops in pixels."""
    kind: str
    """water or mud."""


def spatter(images: Bytes, noise: Float64[np.ndarray, "n s s"], how: Spatter) -> Bytes:
    """Covers the image with drops, where blurred noise exceeds a threshold."""
    liquid = gaussian_blur(noise, how.sigma)
    liquid = np.where(liquid < how.threshold, 0.0, liquid)
    x = unit(images).astype(np.float32)
    if how.kind == "mud":
        mud = gaussian_blur((liquid > how.threshold).astype(np.float32), how.strength)
        mud = np.where(mud < 0.8, 0.0, mud)[..., None]  # (n, s, s, 1)
        return to_bytes(x * (1 - mud) + mud * np.array(_MUD) / 255)
    water = _drops(liquid)[..., None] * how.strength
    return to_bytes(x + water * np.array(_WATER) / 255)


def _drops(liquid: Float64[np.ndarray, "n h w"]) -> Float64[np.ndarray, "n h w"]:
    """Relief of the drops, 0 to 1."""
    edge = canny((liquid * 255).astype(np.int64).astype(np.uint8), 50, 150)  # wraps above 1
    near = np.minimum(distance(edge), np.float32(_FAR))
    rounded = _mean3(near).astype(np.float32).astype(np.uint8)
    level = np.stack([equalise(plane) for plane in rounded])
    relief = np.clip(correlate(level.astype(np.float64), _RELIEF), 0, 255)
    drops = liquid * np.rint(_mean3(relief))
    # differs from the released code, which divides 0 by 0 where nothing is wet: a black image
    return drops / np.maximum(drops.max(axis=(1, 2), keepdims=True), 1e-12)


def _mean3(
    x: Float64[np.ndarray, "n h w"] | Float32[np.ndarray, "n h w"],
) -> Float64[np.ndarray, "n h w"]:
    return correlate(x.astype(np.float64), np.ones((3, 3))) * (1 / 9)


def canny(image: Planes, low: int, high: int) -> Bool[np.ndarray, "n h w"]:
    """Edges: ridges of the 3 x 3 Sobel gradient (sum of absolutes), with hysteresis.

    Args:
        image: Grey.
        low: Gradients above this may belong to an edge.
        high: Gradients above this start one.
    """
    p = _framed(image, 1, mode="edge").astype(np.int32)
    across = p[:, :-2] + 2 * p[:, 1:-1] + p[:, 2:]  # (n, h, w + 2)
    down = p[:, 2:] - p[:, :-2]
    gx = across[:, :, 2:] - across[:, :, :-2]
    gy = down[:, :, :-2] + 2 * down[:, :, 1:-1] + down[:, :, 2:]
    size = np.abs(gx) + np.abs(gy)
    ridge = (size > low) & _is_ridge(gx, gy, size)
    edge = ridge & (size > high)
    while True:  # edges grow along ridges, to all eight neighbours
        grown = _framed(edge, 1)
        grown = grown[:, :-2] | grown[:, 1:-1] | grown[:, 2:]
        grown = (grown[:, :, :-2] | grown[:, :, 1:-1] | grown[:, :, 2:]) & ridge
        if np.array_equal(grown, edge):
            return edge
        edge = grown


def _framed(
    x: Shaped[np.ndarray, "n h w"], width: int, **how: Any
) -> Shaped[np.ndarray, "n up across"]:
    """Planes with a frame of so many pixels, 0 or as `numpy.pad` is told."""
    return np.pad(x, [(0, 0), (width, width), (width, width)], **how)


def _is_ridge(
    gx: Int32[np.ndarray, "n h w"], gy: Int32[np.ndarray, "n h w"], size: Int32[np.ndarray, "n h w"]
) -> Bool[np.ndarray, "n h w"]:
    """Whether the gradient is largest across the edge; of equals, the one further on counts not."""
    height, width = size.shape[1:]
    p = _framed(size, 1)

    def at(down: int, right: int) -> Int32[np.ndarray, "n h w"]:
        return p[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]

    x, y = np.abs(gx).astype(np.int64), np.abs(gy).astype(np.int64) << 15
    flat = x * 13573  # tan(22.5 degrees) in 1/32768
    steep = flat + (x << 16)  # tan(67.5 degrees)
    across = (size > at(0, -1)) & (size >= at(0, 1))
    upright = (size > at(-1, 0)) & (size >= at(1, 0))
    falling = (size > at(-1, -1)) & (size > at(1, 1))
    rising = (size > at(-1, 1)) & (size > at(1, -1))
    slanted = np.where((gx ^ gy) < 0, rising, falling)
    return np.where(y < flat, across, np.where(y > steep, upright, slanted))


def distance(edge: Bool[np.ndarray, "n h w"]) -> Float32[np.ndarray, "n h w"]:
    """Pixels to the nearest edge, up to 20 exact; steps of 1, 1.4 and 2.1969 stand for the norm.

    Two sweeps over the rows, one down and one up, as Borgefors (1986) has them.
    """
    far = (_FAR + 1) * _ONE
    d = _framed(np.where(edge, 0, far).astype(np.int32), 2, constant_values=far)
    _sweep(d)
    _sweep(d[:, ::-1, ::-1])
    return (d[:, 2:-2, 2:-2] / _ONE).astype(np.float32)


def _sweep(d: Int32[np.ndarray, "n up across"]) -> None:
    """Lowers every row, from the second on, by the two rows above it and by what lies left."""
    width = d.shape[2] - 4
    ramp = np.arange(width, dtype=np.int32) * _ONE
    for row in range(2, d.shape[1] - 2):
        here = d[:, row, 2:-2]
        for up, right, cost in _ABOVE:
            there = d[:, row - up, 2 + right : 2 + right + width]
            np.minimum(here, there + cost, out=here)
        # a step to the right costs 1: the least of all that starts left, in one go
        np.minimum(here, np.minimum.accumulate(here - ramp, axis=1) + ramp, out=here)


def equalise(image: Plane) -> Plane:
    """Spreads grey levels so that their distribution function is about a line."""
    count = np.bincount(image.ravel(), minlength=256)
    first = int(np.flatnonzero(count)[0])
    rest = image.size - count[first]
    if rest == 0:
        return image
    below = np.cumsum(count) - count[first]
    scale = np.float32(255.0) / np.float32(rest)
    level = np.rint(below.astype(np.float32) * scale).clip(0, 255).astype(np.uint8)
    level[: first + 1] = 0
    return level[image]
