"""What a sheet shows: one frozen dataclass each, checked when it is made. Nothing imports torch."""

from dataclasses import dataclass

from squint.errors import RecipeError

_MOST = 100
"""Rows or columns of a sheet."""
_SIDES = (64, 1024)
_LONGEST, _PIXELS = 40_000, 100_000_000
"""Of a sheet: beyond, neither its file nor memory is sure to hold it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewsOptions:
    """Which images and how many of their views."""

    images: int = 6
    """How many, the first that training meets."""
    pairs: int = 4
    """Pairs of views of each image: of the first epoch, the second, …"""
    only: tuple[str, ...] = ()
    """These images instead, by their path in the source or on disk."""
    side: int = 160
    """Largest side of an image in the picture, in pixels."""

    def __post_init__(self) -> None:
        _within("images", self.images, 1, _MOST)
        _within("pairs", self.pairs, 1, _MOST)
        _within("side", self.side, *_SIDES)
        _check_sheet(len(self.only) or self.images, 1 + 2 * self.pairs, self.side)


@dataclass(frozen=True, kw_only=True, slots=True)
class NeighborsOptions:
    """Whose neighbours, and how many of them."""

    query: tuple[str, ...] = ()
    """Image files, which need not be of the source, or paths in the source."""
    images: int = 6
    """Without a query: so many images of the source, chosen by the seed."""
    k: int = 8
    """Neighbours of each."""
    seed: int = 0
    """Of the choice."""
    side: int = 128
    """Side of an image in the picture, in pixels."""

    def __post_init__(self) -> None:
        _within("images", self.images, 1, _MOST)
        _within("k", self.k, 1, _MOST)
        _within("seed", self.seed, 0, 2**63 - 1)
        _within("side", self.side, *_SIDES)
        _check_sheet(len(self.query) or self.images, 1 + self.k, self.side)


def _within(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise RecipeError(f"{name}={value} must be from {least} to {most}.")


def _check_sheet(rows: int, columns: int, side: int) -> None:
    if max(rows, columns) * side > _LONGEST or rows * columns * side**2 > _PIXELS:
        raise RecipeError(
            f"{rows} rows of {columns} images of {side} px are too much for one picture. Ask for "
            f"fewer, or lower --side, which may be {_SIDES[0]}."
        )
