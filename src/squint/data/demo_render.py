"""Pixels of the demo set: from recorded factors to shaded, textured, antialiased images.

The background is one of six textures between two tones of one hue; the shape, in a hue of its own,
lies on it with a bevelled edge and a soft shadow. Tones are set by luma, apart from hue, so that
the shape stands out by the same amount in every colour and in grey.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np

from squint.data.demo_shapes import SHAPES, Field

SIDE = 32
"""Pixels."""

_OVERSAMPLING = 2
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_TURN = np.float32(2 * math.pi)

Factors = Mapping[str, np.ndarray]


def render(shape: np.ndarray, factors: Factors) -> np.ndarray:
    """Images (n, 32, 32, 3) uint8 of `shape` (n,) int64 under `factors`, (n,) each."""
    values = {name: value[:, None, None] for name, value in factors.items()}  # (n, 1, 1)
    x, y = _grid()
    distance = _distance(shape, x, y, values)  # (n, h, w), in half image sides
    light_x, light_y = np.cos(_TURN * values["light"]), np.sin(_TURN * values["light"])
    strength = values["strength"]

    ground = _ground(factors, _texture(x, y, factors))  # (n, h, w, 3)
    offset = 0.10 * strength
    shadow = _distance(shape, x + offset * light_x, y + offset * light_y, values)
    ground *= (1 - 0.55 * strength * _smooth(0.5 - shadow / 0.16))[..., None]

    slope_y, slope_x = np.gradient(distance, axis=(1, 2))
    facing = (slope_x * light_x + slope_y * light_y) / (np.hypot(slope_x, slope_y) + 1e-6)
    bevel = strength * facing * np.exp(-np.abs(distance) / 0.07)
    figure = _colour(factors, "hue", "saturation", _tone(factors)[1])[:, None, None, :]
    figure = figure * (1 + 0.55 * bevel)[..., None]  # (n, h, w, 3)

    pixel = 2 / (SIDE * _OVERSAMPLING)
    cover = np.clip(0.5 - distance / pixel, 0, 1)[..., None]
    image = ground + cover * (figure - ground)
    lit = 1 + 0.30 * strength * (x * light_x + y * light_y) - values["vignette"] * (x**2 + y**2)
    image = 0.5 + values["contrast"][..., None] * (image * lit[..., None] - 0.5)
    return _reduced(image)


def _grid() -> tuple[Field, Field]:
    """Coordinates of oversampled pixel centres, -1 to 1, `y` down; (1, h, w) each."""
    side = SIDE * _OVERSAMPLING
    line = ((np.arange(side, dtype=np.float32) + 0.5) / side) * 2 - 1
    return line[None, None, :] + 0 * line[None, :, None], line[None, :, None] + 0 * line


def _distance(shape: np.ndarray, x: Field, y: Field, values: Factors) -> Field:
    """Signed distance to each image's shape, in half image sides."""
    cos, sin = np.cos(_TURN * values["rotation"]), np.sin(_TURN * values["rotation"])
    scale = values["scale"]
    from_x, from_y = (x - values["x"]) / scale, (y - values["y"]) / scale
    own_x, own_y = cos * from_x + sin * from_y, cos * from_y - sin * from_x
    distance = np.empty_like(own_x)
    for label, signed in enumerate(SHAPES.values()):
        rows = shape == label
        distance[rows] = signed(own_x[rows], own_y[rows])
    return distance * scale


def _tone(factors: Factors) -> tuple[np.ndarray, np.ndarray]:
    """Luma of ground and figure, 0 to 1, (n,) each."""
    half = factors["separation"] * (factors["lighter"].astype(np.float32) - 0.5)
    middle = factors["brightness"]
    return middle - half, middle + half


def _colour(factors: Factors, hue: str, saturation: str, luma: np.ndarray) -> np.ndarray:
    """RGB (n, 3) of this luma: as far from grey towards the hue as the saturation says."""
    wheel = factors[hue][:, None] * 6 + np.array([0, 4, 2], dtype=np.float32)
    pure = np.clip(np.abs(wheel % 6 - 3) - 1, 0, 1)  # (n, 3)
    chroma = pure - (pure @ _LUMA)[:, None]
    luma = luma[:, None]
    room = np.where(chroma > 0, (1 - luma) / np.maximum(chroma, 1e-6), 1e6)
    room = np.minimum(room, np.where(chroma < 0, luma / np.maximum(-chroma, 1e-6), 1e6))
    reach = np.minimum(room.min(axis=1, keepdims=True), 1.0)
    return luma + factors[saturation][:, None] * reach * chroma


def _ground(factors: Factors, texture: Field) -> np.ndarray:
    luma = _tone(factors)[0]
    depth = factors["texture_depth"]
    low = _colour(factors, "ground_hue", "ground_saturation", np.clip(luma - depth, 0.02, 0.98))
    high = _colour(factors, "ground_hue", "ground_saturation", np.clip(luma + depth, 0.02, 0.98))
    low, high = low[:, None, None, :], high[:, None, None, :]
    return low + texture[..., None] * (high - low)


def _texture(x: Field, y: Field, factors: Factors) -> Field:
    """Each image's pattern, 0 to 1."""
    angle = (_TURN * factors["texture_angle"])[:, None, None]
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    period = factors["texture_period"][:, None, None]
    phase = factors["texture_phase"][:, None, None]
    pattern = np.empty_like(along)
    for kind, drawn in enumerate(TEXTURES.values()):
        rows = factors["texture"] == kind
        u, v = along[rows] / period[rows] + phase[rows], across[rows] / period[rows]
        pattern[rows] = drawn(u, v)
    return pattern


def _gradient(u: Field, v: Field) -> Field:
    low = u.min(axis=(1, 2), keepdims=True)
    return (u - low) / (u.max(axis=(1, 2), keepdims=True) - low + 1e-6)


def _stripes(u: Field, v: Field) -> Field:
    return _hard(np.sin(_TURN * u))


def _checker(u: Field, v: Field) -> Field:
    return _hard(np.sin(_TURN * u / 1.3) * np.sin(_TURN * v / 1.3) * 2)


def _dots(u: Field, v: Field) -> Field:
    # Rows are shifted by half a period, which packs the dots like a honeycomb.
    row = np.floor(v)
    return _hard((0.33 - np.hypot((u + 0.5 * row) % 1 - 0.5, v - row - 0.5)) * 6)


def _waves(u: Field, v: Field) -> Field:
    return 0.5 + 0.5 * np.sin(_TURN * (u + 0.28 * np.sin(_TURN * v * 0.6)))


def _clouds(u: Field, v: Field) -> Field:
    """Three octaves of lattice noise; the lattice's values are a hash of its whole coordinates."""
    noise = np.zeros_like(u)
    for octave in (1, 2, 4):
        noise += _lattice(u * 0.7 * octave + 17 * octave, v * 0.7 * octave) / octave
    return np.clip(noise / 1.75 * 1.6 - 0.3, 0, 1)


def _lattice(u: Field, v: Field) -> Field:
    left, top = np.floor(u), np.floor(v)
    s, t = _smooth(u - left), _smooth(v - top)
    i, j = left.astype(np.int64), top.astype(np.int64)
    upper = _value(i, j) * (1 - s) + _value(i + 1, j) * s
    lower = _value(i, j + 1) * (1 - s) + _value(i + 1, j + 1) * s
    return upper * (1 - t) + lower * t


def _value(i: np.ndarray, j: np.ndarray) -> Field:
    mixed = (i * 73_856_093) ^ (j * 19_349_663)
    mixed = (mixed ^ (mixed >> 13)) * 1_274_126_177 & 0xFFFF_FFFF
    return ((mixed ^ (mixed >> 16)) & 0xFFFF).astype(np.float32) / 0xFFFF


TEXTURES: dict[str, Callable[[Field, Field], Field]] = {
    "gradient": _gradient,
    "stripes": _stripes,
    "checker": _checker,
    "dots": _dots,
    "clouds": _clouds,
    "waves": _waves,
}
"""In the order of the `texture` factor."""


def _hard(wave: Field) -> Field:
    """A wave about 0 as a pattern of two tones with soft borders."""
    return _smooth(0.5 + 1.2 * wave)


def _smooth(t: Field) -> Field:
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


def _reduced(image: np.ndarray) -> np.ndarray:
    n = len(image)
    split = image.reshape(n, SIDE, _OVERSAMPLING, SIDE, _OVERSAMPLING, 3)
    return (np.clip(split.mean(axis=(2, 4)), 0, 1) * 255 + 0.5).astype(np.uint8)
