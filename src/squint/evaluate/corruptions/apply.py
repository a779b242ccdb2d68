"""Draws what a corruption needs, in the order of the released code, and applies it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from squint.errors import DataError
from squint.evaluate.corruptions import blur, digital, noise, weather
from squint.evaluate.corruptions.constants import size_class
from squint.evaluate.corruptions.draws import Draws
from squint.evaluate.corruptions.pixels import Bytes
from squint.evaluate.corruptions.spatter import Spatter, spatter

Square = UInt8[np.ndarray, "n s s 3"]


def apply(
    images: Square,
    name: str,
    strength: tuple[Any, ...],
    draws: Draws,
    textures: Sequence[weather.Texture] = (),
) -> Square:
    """Corrupts images.

    Args:
        images: What to corrupt.
        name: Of the corruption.
        strength: Its constants.
        draws: Where random numbers come from.
        textures: Pictures of frost; without any, frost is made of noise.

    Raises:
        DataError: A texture is too small to take crops of.
    """
    side = images.shape[1]
    match name:
        case "gaussian_noise":
            return noise.gaussian_noise(images, draws.normal(0.0, strength[0], side, side, 3))
        case "speckle_noise":
            return noise.speckle_noise(images, draws.normal(0.0, strength[0], side, side, 3))
        case "shot_noise":
            return noise.shot_noise(draws.poisson(images, strength[0]), strength[0])
        case "impulse_noise":
            hit, white = (draws.uniform(0.0, 1.0, side, side, 3) for _ in range(2))
            return noise.impulse_noise(images, hit, white, strength[0])
        case "glass_blur":
            sigma, reach, passes = strength
            visits = side - 2 * reach
            offsets = draws.integers(-reach, reach, passes, visits, visits, 2)
            return blur.glass_blur(images, offsets, sigma, reach)
        case "motion_blur":
            return blur.motion_blur(images, draws.uniform(-45.0, 45.0), *strength)
        case "snow":
            mean, std, *rest = strength
            flakes = draws.normal(mean, std, side, side)
            angle = draws.uniform(-135.0, -45.0)
            return weather.snow(images, flakes, angle, weather.Snow(*rest))
        case "frost":
            return weather.frost(images, _frost_crop(draws, images, textures), *strength)
        case "fog":
            amount, decay = strength
            heights = weather.plasma(weather.draw_plasma(draws, _power_of_two(side), decay))
            return weather.fog(images, heights[:, :side, :side], amount)
        case "elastic_transform":
            amplitude, sigma, most = strength
            jitter = draws.uniform(-most, most, 3, 2)
            along_x, along_y = (draws.uniform(-1.0, 1.0, side, side) for _ in range(2))
            return digital.elastic_transform(images, jitter, along_x, along_y, amplitude, sigma)
        case "spatter":
            mean, std, *rest = strength
            return spatter(images, draws.normal(mean, std, side, side), Spatter(*rest))
        case _:
            return _DETERMINISTIC[name](images, *strength)


_DETERMINISTIC = {
    "defocus_blur": blur.defocus_blur,
    "zoom_blur": blur.zoom_blur,
    "gaussian_blur": blur.gaussian_blur,
    "brightness": digital.brightness,
    "contrast": digital.contrast,
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg_compression,
    "saturate": digital.saturate,
}


def _power_of_two(side: int) -> int:
    return 1 << (side - 1).bit_length()


def _frost_crop(draws: Draws, images: Bytes, textures: Sequence[weather.Texture]) -> Bytes:
    """A piece of a given picture, or of frost made of noise, for each image.

    # differs from the released code in that all pictures given are drawn from: it draws from the
    first five of six, of which the second and the third are the same.
    """
    side = images.shape[1]
    # small images are meant to show as much frost as the photographs shrunk to a fifth
    zoom = side / 224 if size_class(side) == 224 else side / 32 / 5
    if not textures:
        colour = draws.integers(0, 5)
        scales, tint = (draws.normal(0.0, 1.0, side, side, 3) for _ in range(2))
        contrast = draws.uniform(0.5, 1.5)
        return weather.frost_texture(colour, scales, tint, contrast, zoom)
    shrunk = [_shrunk(texture, max(1, round(1 / zoom)), side) for texture in textures]
    which = draws.integers(0, len(textures))
    room = np.array([shrunk[k].shape[:2] for k in which]) - side  # (n, 2)
    rows, cols = (draws.integers(0, room[:, axis]) for axis in (0, 1))
    places = zip(which, rows, cols, strict=True)
    return np.stack([shrunk[k][row : row + side, col : col + side] for k, row, col in places])


def _shrunk(texture: weather.Texture, times: int, side: int) -> UInt8[np.ndarray, "high wide 3"]:
    """Every so many-th pixel: what bilinear sampling without anti-aliasing amounts to."""
    small = texture[times // 2 :: times, times // 2 :: times]
    if texture.ndim != 3 or texture.shape[2] != 3 or min(small.shape[:2]) <= side:
        raise DataError(
            f"A frost texture has shape {texture.shape}, but must be height x width x 3 with both "
            f"sides above {times * (side + 1)}: crops of {side} px are taken of one pixel in "
            f"{times}. Enlarge it."
        )
    return small
