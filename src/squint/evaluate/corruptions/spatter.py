"""Spatter: drops of water or mud on the lens, with the image operations that drops are made of.

Those follow OpenCV 3.4 (Canny, 5 x 5 distances, equalisation), which the released code used.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8

from squint.evaluate.corruptions.pixels import Bytes, correlate, gaussian_blur, to_bytes, unit

Plane = UInt8[np.ndarray, "h w"]

_WATER = (175, 238, 238)
_MUD = (63, 42, 20)
_RELIEF = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], dtype=np.float64)
_FAR = 20  # pixels from an edge, beyond which drops are flat
_ONE = 1 << 16  # distances are integers in this fraction of a pixel
_CHAMFER = {(0, 1): _ONE, (1, 1): round(1.4 * _ONE), (1, 2): round(2.1969 * _ONE)}


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
    water = np.stack([_drops(each) for each in liquid])[..., None] * how.strength
    return to_bytes(x + water * np.array(_WATER) / 255)


def _drops(liquid: Float64[np.ndarray, "h w"]) -> Float64[np.ndarray, "h w"]:
    """Relief of the drops, 0 to 1."""
    edge = canny((liquid * 255).astype(np.int64).astype(np.uint8), 50, 150)  # wraps above 1
    near = np.minimum(distance(edge), np.float32(_FAR))
    level = equalise(_mean3(near).astype(np.float32).astype(np.uint8))
    relief = np.clip(correlate(level[None].astype(np.float64), _RELIEF)[0], 0, 255)
    drops = liquid * np.rint(_mean3(relief))
    # differs from the released code, which divides 0 by 0 where nothing is wet: a black image
    return drops / max(float(drops.max()), 1e-12)


def _mean3(
    x: Float64[np.ndarray, "h w"] | Float32[np.ndarray, "h w"],
) -> Float64[np.ndarray, "h w"]:
    return correlate(x[None].astype(np.float64), np.ones((3, 3)))[0] * (1 / 9)


def canny(image: Plane, low: int, high: int) -> Bool[np.ndarray, "h w"]:
    """Edges: ridges of the 3 x 3 Sobel gradient (sum of absolutes), with hysteresis.

    Args:
        image: Grey.
        low: Gradients above this may belong to an edge.
        high: Gradients above this start one.
    """
    p = np.pad(image, 1, mode="edge").astype(np.int64)
    gx = (p[:-2, 2:] - p[:-2, :-2]) + 2 * (p[1:-1, 2:] - p[1:-1, :-2]) + (p[2:, 2:] - p[2:, :-2])
    gy = (p[2:, :-2] - p[:-2, :-2]) + 2 * (p[2:, 1:-1] - p[:-2, 1:-1]) + (p[2:, 2:] - p[:-2, 2:])
    size = np.abs(gx) + np.abs(gy)
    ridge = (size > low) & _is_ridge(gx, gy, size)
    edge = ridge & (size > high)
    while True:  # edges grow along ridges, to all eight neighbours
        grown = np.pad(edge, 1)
        grown = grown[:-2] | grown[1:-1] | grown[2:]
        grown = (grown[:, :-2] | grown[:, 1:-1] | grown[:, 2:]) & ridge
        if np.array_equal(grown, edge):
            return edge
        edge = grown


def _is_ridge(
    gx: Int64[np.ndarray, "h w"], gy: Int64[np.ndarray, "h w"], size: Int64[np.ndarray, "h w"]
) -> Bool[np.ndarray, "h w"]:
    """Whether the gradient is largest across the edge; of equals, the one further on counts not."""
    height, width = size.shape
    p = np.pad(size, 1)

    def at(down: int, right: int) -> Int64[np.ndarray, "h w"]:
        return p[1 + down : 1 + down + height, 1 + right : 1 + right + width]

    x, y = np.abs(gx), np.abs(gy) << 15
    flat = x * 13573  # tan(22.5 degrees) in 1/32768
    steep = flat + (x << 16)  # tan(67.5 degrees)
    across = (size > at(0, -1)) & (size >= at(0, 1))
    upright = (size > at(-1, 0)) & (size >= at(1, 0))
    falling = (size > at(-1, -1)) & (size > at(1, 1))
    rising = (size > at(-1, 1)) & (size > at(1, -1))
    slanted = np.where((gx ^ gy) < 0, rising, falling)
    return np.where(y < flat, across, np.where(y > steep, upright, slanted))


def distance(edge: Bool[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Pixels to the nearest edge, up to 20 exact; steps of 1, 1.4 and 2.1969 stand for the norm."""
    height, width = edge.shape
    far = (_FAR + 1) * _ONE
    d = np.where(edge, 0, far)
    moves = {
        (sign_y * each[0], sign_x * each[1]): cost
        for (a, b), cost in _CHAMFER.items()
        for each in ((a, b), (b, a))
        for sign_y in (1, -1)
        for sign_x in (1, -1)
    }
    while True:
        p = np.pad(d, 2, constant_values=far)
        nearer = d
        for (down, right), cost in moves.items():
            there = p[2 + down : 2 + down + height, 2 + right : 2 + right + width]
            nearer = np.minimum(nearer, there + cost)
        if np.array_equal(nearer, d):
            return (d / _ONE).astype(np.float32)
        d = nearer


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
