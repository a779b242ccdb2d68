"""The ten shapes of the demo set, as signed distances: negative inside, 0 on the outline.

Each takes coordinates in which the shape fills about the unit disc, `y` pointing down, and gives
distances in the same unit (exact inside; outside corners they may be too small, which antialiasing
and shadows do not notice). Areas are alike, so that size does not tell the shape.
"""

import math
from collections.abc import Callable

import numpy as np

Field = np.ndarray
"""(n, h, w) float32."""


def disc(x: Field, y: Field) -> Field:
    """Looks the same at every angle."""
    return np.hypot(x, y) - 0.80


def ring(x: Field, y: Field) -> Field:
    """A disc with a hole."""
    return np.abs(np.hypot(x, y) - 0.68) - 0.25


def square(x: Field, y: Field) -> Field:
    """Four sides."""
    return _box(x, y, 0.70, 0.70)


def triangle(x: Field, y: Field) -> Field:
    """Three sides, about its centre of mass."""
    return _polygon(x, y + 0.08, 3, 0.58)


def star(x: Field, y: Field) -> Field:
    """Five points; folded into one tenth of the turn, where it has one straight edge."""
    tenth = math.pi / 5
    angle = np.abs((np.arctan2(x, -y) + tenth) % (2 * tenth) - tenth)
    radius = np.hypot(x, y)
    along, across = radius * np.cos(angle), radius * np.sin(angle)
    outer, inner = 1.08, 0.47
    edge_x, edge_y = inner * math.cos(tenth) - outer, inner * math.sin(tenth)
    length = math.hypot(edge_x, edge_y)
    return ((along - outer) * edge_y - across * edge_x) / length


def cross(x: Field, y: Field) -> Field:
    """Two bars, as a plus."""
    return np.minimum(_box(x, y, 0.92, 0.30), _box(x, y, 0.30, 0.92))


def heart(x: Field, y: Field) -> Field:
    """A square on its tip with a disc on each upper side."""
    half = 0.50
    root = math.sqrt(0.5)
    down = y - 0.14
    tilted = _box((x + down) * root, (x - down) * root, half, half)
    shift = half * root
    left = np.hypot(x + shift, down + shift) - half
    right = np.hypot(x - shift, down + shift) - half
    return np.minimum(tilted, np.minimum(left, right))


def crescent(x: Field, y: Field) -> Field:
    """A disc without another one beside it."""
    return np.maximum(np.hypot(x + 0.10, y) - 0.92, 0.72 - np.hypot(x - 0.32, y))


def hexagon(x: Field, y: Field) -> Field:
    """Six sides."""
    return _polygon(x, y, 6, 0.76)


def arrow(x: Field, y: Field) -> Field:
    """A triangle on a shaft, pointing up."""
    head = np.maximum(_roof(x, y), y + 0.05)
    return np.minimum(head, _box(x, y - 0.42, 0.24, 0.52))


SHAPES: dict[str, Callable[[Field, Field], Field]] = {
    each.__name__: each
    for each in (
        disc,
        ring,
        square,
        triangle,
        star,
        cross,
        heart,
        crescent,
        hexagon,
        arrow,
    )
}
"""In the order of their labels."""


def _box(x: Field, y: Field, half_width: float, half_height: float) -> Field:
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _polygon(x: Field, y: Field, sides: int, apothem: float) -> Field:
    """A regular polygon with one side at the bottom."""
    turns = [math.pi / 2 + 2 * math.pi * k / sides for k in range(sides)]
    return np.maximum.reduce([x * math.cos(a) + y * math.sin(a) for a in turns]) - apothem


def _roof(x: Field, y: Field) -> Field:
    """Below two planes that meet at (0, -1) and reach |x| = 0.9 at y = -0.05."""
    steep, flat = 0.95, 0.90
    length = math.hypot(steep, flat)
    return (np.abs(x) * steep - (y + 1.0) * flat) / length
