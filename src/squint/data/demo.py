"""The built-in set: 6,000 images of ten shapes, drawn here, with everything random on record.

What a picture shows (its label) is the shape; hue, texture, position, size, rotation and light say
nothing about it. An encoder without labels has to find that out: crops and colour jitter leave the
shape and disturb the rest. Image i is a function of (VERSION, i) only.

| attribute                             | range                                                  |
|---------------------------------------|--------------------------------------------------------|
| hue, ground_hue                       | turns, 0 to 1; of the shape and of the background      |
| saturation, ground_saturation         | share of the strongest colour of that tone             |
| brightness, separation                | luma between shape and ground; their distance          |
| lighter                               | 1: light shape on dark ground; 0: the reverse          |
| x, y                                  | centre, in half image sides from the middle, y down    |
| scale                                 | radius, in half image sides                            |
| rotation                              | turns, 0 to 1                                          |
| light, strength                       | direction the light comes from, turns; 0 to 1          |
| vignette, contrast                    | darkening of the corners; factor about mid-grey        |
| texture                               | which of `TEXTURES`                                    |
| texture_period, _angle, _phase, _depth| half image sides; turns; periods; luma                 |
"""

import functools
from dataclasses import dataclass

import numpy as np

from squint.data.demo_render import SIDE, TEXTURES, render
from squint.data.demo_shapes import SHAPES
from squint.data.images import Images, Store
from squint.data.splitmix import GAMMA, mix

VERSION = 1
"""Raise it with any change to the pictures: caches are keyed by it."""
TRAIN, TEST = 5_000, 1_000

CIRCULAR = ("hue", "ground_hue", "rotation", "light", "texture_angle", "texture_phase")
"""Factors for which 0 and 1 are the same."""

_BLOCK = 16
_RANGES: dict[str, tuple[float, float]] = {
    "hue": (0.0, 1.0),
    "ground_hue": (0.0, 1.0),
    "saturation": (0.35, 1.0),
    "ground_saturation": (0.1, 0.9),
    "brightness": (0.40, 0.60),
    "separation": (0.22, 0.50),
    "x": (-0.30, 0.30),
    "y": (-0.30, 0.30),
    "scale": (0.46, 0.74),
    "rotation": (0.0, 1.0),
    "light": (0.0, 1.0),
    "strength": (0.15, 1.0),
    "vignette": (0.0, 0.22),
    "contrast": (0.80, 1.10),
    "texture_period": (0.30, 0.75),
    "texture_angle": (0.0, 1.0),
    "texture_phase": (0.0, 1.0),
    "texture_depth": (0.04, 0.14),
}
_CHOICES = {"lighter": 2, "texture": len(TEXTURES)}


@dataclass(frozen=True)
class DemoImages(Store):
    """Drawn when fetched, a block at a time."""

    def fetch(self, row: int) -> np.ndarray:
        """The picture, uint8 (32, 32, 3)."""
        return _block(row // _BLOCK)[row % _BLOCK]

    def stamp(self) -> str:
        """The version."""
        return f"demo {VERSION}"


def open_demo(channels: int) -> Images:
    """5,000 training and 1,000 test images of 32 px in ten balanced classes."""
    count = TRAIN + TEST
    sizes = {"train": TRAIN, "test": TEST}
    names = [f"{split}/{i:04d}.png" for split, size in sizes.items() for i in range(size)]
    return Images(
        name="demo",
        paths=tuple(names),
        store=DemoImages(),
        rows=np.arange(count),
        channels=channels,
        classes=tuple(SHAPES),
        targets=shape_of(np.arange(count)),
        attributes=factors(np.arange(count)),
        splits=tuple(sizes),
        groups=np.repeat(np.arange(2), list(sizes.values())),
    )


def shape_of(indices: np.ndarray) -> np.ndarray:
    """Label of each image, int64: every ten images in a row hold each shape once."""
    return indices.astype(np.int64) % len(SHAPES)


def factors(indices: np.ndarray) -> dict[str, np.ndarray]:
    """The recorded factors of images, (n,) each: float32, or int64 for choices."""
    drawn: dict[str, np.ndarray] = {}
    for stream, (name, (low, high)) in enumerate(_RANGES.items()):
        drawn[name] = (low + (high - low) * _uniform(indices, stream)).astype(np.float32)
    for stream, (name, choices) in enumerate(_CHOICES.items(), start=len(_RANGES)):
        drawn[name] = (_uniform(indices, stream) * choices).astype(np.int64)
    return drawn


@functools.cache
def _block(number: int) -> np.ndarray:
    """Pictures of one block; all blocks together are 18 MB."""
    indices = np.arange(number * _BLOCK, (number + 1) * _BLOCK)
    pixels = render(shape_of(indices), factors(indices))
    assert pixels.shape[1:] == (SIDE, SIDE, 3), "the store promises this size"
    pixels.setflags(write=False)
    return pixels


def _uniform(indices: np.ndarray, stream: int) -> np.ndarray:
    """float64 in [0, 1) by hashing (VERSION, stream, index): SplitMix64, exact everywhere."""
    state = indices.astype(np.uint64) + np.uint64((VERSION << 48) + (stream << 32))
    for _ in range(2):
        state = mix(state * GAMMA + GAMMA)
    return (state >> np.uint64(11)).astype(np.float64) / 2.0**53
