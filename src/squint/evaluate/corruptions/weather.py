"""Snow, frost and fog. Spatter, the fourth, has a file of its own."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from squint.evaluate.corruptions.blur import motion_blur
from squint.evaluate.corruptions.draws import Draws
from squint.evaluate.corruptions.pixels import (
    Bytes,
    enlarge,
    gaussian_blur,
    gaussian_taps,
    to_bytes,
    unit,
)

Layer = Float64[np.ndarray, "n s s"]
Texture = UInt8[np.ndarray, "height width 3"]


class Snow(NamedTuple):
    """How snow falls, beside the mean and spread of the noise it is made from."""

    zoom: float
    threshold: float
    """Least value of the noise that is a flake."""
    radius: int
    """Of the motion blur, in pixels."""
    sigma: float
    """Of the motion blur, in pixels."""
    weight: float
    """Of the image; the rest of it is whitened."""


def snow(images: Bytes, noise: Layer, angle: Float64[np.ndarray, " n"], how: Snow) -> Bytes:
    """Whitens the image and adds flakes: enlarged noise above a threshold, smeared.

    Args:
        images: What to corrupt.
        noise: Normal noise, one layer for all channels.
        angle: Direction of the fall, in degrees.
        how: Constants.
    """
    flakes = enlarge(noise, how.zoom)
    flakes = to_bytes(np.where(flakes < how.threshold, 0.0, flakes))
    layer = unit(motion_blur(flakes, angle, how.radius, how.sigma))[..., None]  # (n, s, s, 1)
    x = unit(images).astype(np.float32)
    gray = 0.299 * x[..., 0] + 0.587 * x[..., 1] + 0.114 * x[..., 2]  # (n, s, s)
    white = np.maximum(x, gray[..., None] * 1.5 + 0.5)
    return to_bytes(how.weight * x + (1 - how.weight) * white + layer + layer[:, ::-1, ::-1])


def frost(images: Bytes, crop: Bytes, image_weight: float, frost_weight: float) -> Bytes:
    """Adds a picture of frost to the image, each with its weight."""
    return np.clip(image_weight * images + frost_weight * crop, 0, 255).astype(np.uint8)


# What the released code picks among: it draws one of five photographs, two of which are the same.
# Mean colours of those photographs, measured; the photographs themselves are not shipped.
_FROST_COLOURS = (
    (78, 149, 166),
    (201, 205, 215),
    (201, 205, 215),
    (138, 153, 165),
    (112, 123, 135),
)
_FROST_SPREAD = (25.0, 23.0, 23.4)
# (standard deviation of a blur at 224 px, share of the variance): ice needles, feathers, drifts
_FROST_SCALES = ((0.7, 0.5), (4.0, 0.12), (16.0, 0.38))


def frost_texture(
    colour: Int64[np.ndarray, " n"],
    scales: Float64[np.ndarray, "n s s 3"],
    tint: Float64[np.ndarray, "n s s 3"],
    contrast: Float64[np.ndarray, " n"],
    zoom: float,
) -> Bytes:
    """Frost of our own: noise on several scales about the mean colour of one of five pictures.

    # differs from the released code, whose photographs we don't ship: mean, spread and
    correlations are about theirs, crystals are not to be seen.

    Args:
        colour: 0 to 4, which picture's mean colour.
        scales: Normal noise, one layer for each scale.
        tint: Normal noise, a little of which sets the channels apart.
        contrast: Factor of the spread, about 1.
        zoom: Pixels that show what one pixel of the photographs shows.
    """
    light = np.zeros(scales.shape[:3])
    for number, (sigma, share) in enumerate(_FROST_SCALES):
        sigma = sigma * zoom
        blurred = gaussian_blur(scales[..., number], sigma, border="wrap")
        # white noise of variance 1 has this standard deviation after two blurs of one axis
        left = float((gaussian_taps(sigma, int(4 * sigma + 0.5)) ** 2).sum())
        light += share**0.5 / left * blurred
    x = 0.98 * light[..., None] + 0.2 * tint  # (n, s, s, 3)
    mean = np.array(_FROST_COLOURS, dtype=np.float64)[colour, None, None]
    spread = contrast[:, None, None, None] * np.array(_FROST_SPREAD)  # (n, 1, 1, 3)
    return np.clip(mean + spread * x, 0, 255).astype(np.uint8)


def fog(images: Bytes, height: Layer, amount: float) -> Bytes:
    """Adds a height map and scales back to the brightest value the image had."""
    x = unit(images)
    most = x.max(axis=(1, 2, 3), keepdims=True)  # (n, 1, 1, 1)
    return to_bytes((x + amount * height[..., None]) * most / (most + amount))


def draw_plasma(draws: Draws, side: int, decay: float) -> list[list[Float64[np.ndarray, "n _ _"]]]:
    """Draws for `plasma`: per step the shifts of square centres, then of edge mid-points.

    The range of the draws is the width that they will be multiplied with again: the amplitude
    falls by decay squared from step to step, as in the released code.
    """
    steps: list[list[Float64[np.ndarray, "n _ _"]]] = []
    width, step = 100.0, side
    while step >= 2:
        count = side // step
        steps.append([width * draws.uniform(-width, width, count, count) for _ in range(3)])
        width, step = width / decay, step // 2
    return steps


def plasma(steps: list[list[Float64[np.ndarray, "n _ _"]]]) -> Layer:
    """A random height map on a torus, by diamonds and squares, scaled to 0 to 1.

    Args:
        steps: From `draw_plasma`: three arrays per step, the first of size 1, doubling.
    """
    side = 2 ** len(steps)
    x = np.zeros((steps[0][0].shape[0], side, side))
    step = side
    for squares, level, upright in steps:
        half = step // 2
        corner = x[:, ::step, ::step]
        rows = corner + np.roll(corner, -1, 1)
        centre = (rows + np.roll(rows, -1, 2)) / 4 + squares
        x[:, half::step, half::step] = centre
        above = centre + np.roll(centre, 1, 1)
        x[:, ::step, half::step] = (above + (corner + np.roll(corner, -1, 2))) / 4 + level
        beside = centre + np.roll(centre, 1, 2)
        x[:, half::step, ::step] = (beside + (corner + np.roll(corner, -1, 1))) / 4 + upright
        step = half
    x -= x.min(axis=(1, 2), keepdims=True)
    return x / x.max(axis=(1, 2), keepdims=True)
