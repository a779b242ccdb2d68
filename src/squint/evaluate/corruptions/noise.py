"""Noise of single values: Gaussian, shot, impulse, speckle. Each channel has its own."""

import numpy as np
from jaxtyping import Float64, Int64

from squint.evaluate.corruptions.pixels import Bytes, to_bytes, unit

Noise = Float64[np.ndarray, "n h w 3"]


def gaussian_noise(images: Bytes, noise: Noise) -> Bytes:
    """Adds noise, given in units of full scale."""
    return to_bytes(unit(images) + noise)


def speckle_noise(images: Bytes, noise: Noise) -> Bytes:
    """Adds noise in proportion to each value."""
    x = unit(images)
    return to_bytes(x + x * noise)


def shot_noise(counts: Int64[np.ndarray, "n h w 3"], photons: float) -> Bytes:
    """Counted photons as an image: `photons` of them are full scale."""
    return to_bytes(counts / photons)


def impulse_noise(images: Bytes, hit: Noise, white: Noise, share: float) -> Bytes:
    """Replaces a share of the values by full scale or by 0.

    Args:
        images: What to corrupt.
        hit: Uniform in 0 to 1: where it is below `share`, the value is replaced.
        white: Uniform in 0 to 1: below a half means full scale.
        share: Of all values.
    """
    dots = np.where(white < 0.5, 255, 0).astype(np.uint8)
    return np.where(hit < share, dots, images)
