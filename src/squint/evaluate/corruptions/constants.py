"""Strengths of the corruptions at severities 1 to 5, for 32 px and 224 px.

From the code released with Hendrycks & Dietterich 2019 (arXiv 1903.12261),
ImageNet-C/create_c/make_cifar_c.py and make_imagenet_c.py. What each number means is said by the
function that takes it, in the order written here.
"""

from collections.abc import Callable
from typing import Any, Literal

SizeClass = Literal[32, 224]
"""Side in pixels of the images that constants were chosen for: CIFAR's, ImageNet's."""

LEAST_SIDE = 16
"""Pixels; the constants mean nothing on smaller images."""

Strength = tuple[Any, ...]
"""Constants of one corruption at one severity, in the order in which its function takes them."""


def size_class(side: int) -> SizeClass:
    """Whose constants images of `side` pixels get: those of the size nearer in ratio."""
    return 32 if side * side < 32 * 224 else 224


def strength(name: str, severity: int, side: int) -> Strength:
    """Constants for square images of `side` pixels: the table's at 32 and 224 px.

    # differs from the released code, which has no other sizes: lengths in pixels grow with the
    side, all else stays. Strengths that are no lengths (noise, contrast) are those of the nearer
    table and jump at the border between the two, at 85 px. The authors' table for 64 px
    (make_tinyimagenet_c.py) is not used.

    Args:
        name: One of `NAMES`.
        severity: 1 to 5.
        side: Of the images, in pixels.
    """
    nearest = size_class(side)
    constants = CONSTANTS[nearest][name][severity - 1]
    if side == nearest or name not in _LENGTHS:
        return constants
    return _LENGTHS[name](side / nearest, *constants)


def _snow(
    s: float, mean: float, std: float, zoom: float, threshold: float, radius: int, *rest: float
) -> Strength:
    sigma, weight = rest
    return mean, std, max(1.0, zoom * s), threshold, _whole(radius * s), sigma * s, weight


def _spatter(
    s: float, mean: float, std: float, sigma: float, threshold: float, strength: float, kind: str
) -> Strength:
    # a blur of s times the sigma leaves 1/s of the noise's spread
    return mean, std * s, sigma * s, threshold, strength * (s if kind == "mud" else 1), kind


def _whole(pixels: float) -> int:
    return max(1, round(pixels))


_LENGTHS: dict[str, Callable[..., Strength]] = {
    "gaussian_blur": lambda s, sigma: (sigma * s,),
    "glass_blur": lambda s, sigma, reach, passes: (sigma * s, _whole(reach * s), passes),
    "defocus_blur": lambda s, radius, sigma: (radius * s, sigma),
    "motion_blur": lambda s, radius, sigma: (_whole(radius * s), sigma * s),
    "snow": _snow,
    # smoothing white noise divides it by about its sigma: displacements grow with s, not s * s
    "elastic_transform": lambda s, amplitude, sigma, jitter: (
        amplitude * s * s,
        sigma * s,
        jitter * s,
    ),
    "spatter": _spatter,
}

COMMON = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
"""The 15 that the benchmark averages over."""

EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""The 4 that the authors keep for choosing hyperparameters."""

NAMES = COMMON + EXTRA
"""All 19. Append only: the place of a name is part of what its random numbers are made of."""

Strengths = tuple[Strength, ...]

CIFAR: dict[str, Strengths] = {
    "gaussian_noise": ((0.04,), (0.06,), (0.08,), (0.09,), (0.10,)),
    "shot_noise": ((500.0,), (250.0,), (100.0,), (75.0,), (50.0,)),
    "impulse_noise": ((0.01,), (0.02,), (0.03,), (0.05,), (0.07,)),
    "speckle_noise": ((0.06,), (0.1,), (0.12,), (0.16,), (0.2,)),
    "gaussian_blur": ((0.4,), (0.6,), (0.7,), (0.8,), (1.0,)),
    "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)),
    "motion_blur": ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5)),
    "zoom_blur": ((0.01, 7), (0.01, 12), (0.01, 16), (0.01, 21), (0.01, 26)),
    "snow": (
        (0.1, 0.2, 1.0, 0.6, 8, 3.0, 0.95),
        (0.1, 0.2, 1.0, 0.5, 10, 4.0, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6.0, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12.0, 0.8),
    ),
    "frost": ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    "fog": ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)),
    "brightness": ((0.05,), (0.1,), (0.15,), (0.2,), (0.3,)),
    "contrast": ((0.75,), (0.5,), (0.4,), (0.3,), (0.15,)),
    "saturate": ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2)),
    "jpeg_compression": ((80,), (65,), (58,), (50,), (40,)),
    "pixelate": ((0.95,), (0.9,), (0.85,), (0.75,), (0.65,)),
    "elastic_transform": (
        (0.0, 0.0, 2.56),
        (1.6, 6.4, 2.24),
        (2.56, 1.92, 1.92),
        (3.2, 1.28, 1.6),
        (3.2, 0.96, 0.96),
    ),
    "spatter": (
        (0.62, 0.1, 0.7, 0.7, 0.5, "water"),
        (0.65, 0.1, 0.8, 0.7, 0.5, "water"),
        (0.65, 0.3, 1.0, 0.69, 0.5, "water"),
        (0.65, 0.1, 0.7, 0.69, 0.6, "mud"),
        (0.65, 0.1, 0.5, 0.68, 0.6, "mud"),
    ),
}

IMAGENET: dict[str, Strengths] = {
    "gaussian_noise": ((0.08,), (0.12,), (0.18,), (0.26,), (0.38,)),
    "shot_noise": ((60.0,), (25.0,), (12.0,), (5.0,), (3.0,)),
    "impulse_noise": ((0.03,), (0.06,), (0.09,), (0.17,), (0.27,)),
    "speckle_noise": ((0.15,), (0.2,), (0.35,), (0.45,), (0.6,)),
    "gaussian_blur": ((1.0,), (2.0,), (3.0,), (4.0,), (6.0,)),
    "glass_blur": ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    "defocus_blur": ((3.0, 0.1), (4.0, 0.5), (6.0, 0.5), (8.0, 0.5), (10.0, 0.5)),
    "motion_blur": ((10, 3.0), (15, 5.0), (15, 8.0), (15, 12.0), (20, 15.0)),
    "zoom_blur": ((0.01, 12), (0.01, 16), (0.02, 11), (0.02, 13), (0.03, 11)),
    "snow": (
        (0.1, 0.3, 3.0, 0.5, 10, 4.0, 0.8),
        (0.2, 0.3, 2.0, 0.5, 12, 4.0, 0.7),
        (0.55, 0.3, 4.0, 0.9, 12, 8.0, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8.0, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12.0, 0.55),
    ),
    "frost": ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    "fog": ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)),
    "brightness": ((0.1,), (0.2,), (0.3,), (0.4,), (0.5,)),
    "contrast": ((0.4,), (0.3,), (0.2,), (0.1,), (0.05,)),
    "saturate": ((0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2)),
    "jpeg_compression": ((25,), (18,), (15,), (10,), (7,)),
    "pixelate": ((0.6,), (0.5,), (0.4,), (0.3,), (0.25,)),
    # multiples of 244, not of 224: a slip of the released code, kept as it made the benchmark
    "elastic_transform": (
        (488.0, 170.8, 24.4),
        (488.0, 19.52, 48.8),
        (12.2, 2.44, 4.88),
        (17.08, 2.44, 4.88),
        (29.28, 2.44, 4.88),
    ),
    "spatter": (
        (0.65, 0.3, 4.0, 0.69, 0.6, "water"),
        (0.65, 0.3, 3.0, 0.68, 0.6, "water"),
        (0.65, 0.3, 2.0, 0.68, 0.5, "water"),
        (0.65, 0.3, 1.0, 0.65, 1.5, "mud"),
        (0.67, 0.4, 1.0, 0.65, 1.5, "mud"),
    ),
}

CONSTANTS: dict[SizeClass, dict[str, Strengths]] = {32: CIFAR, 224: IMAGENET}
