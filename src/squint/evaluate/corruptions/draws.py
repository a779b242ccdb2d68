"""Random numbers of the corruptions: a function of (seed, image, corruption, severity) alone."""

from functools import cache
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int64, UInt8
from scipy.special import ndtri

from squint.data.splitmix import GAMMA, mix
from squint.views.uniform import stream

_PURPOSE = 0x636F7272  # keeps these streams apart from those of the views


@runtime_checkable
class Draws(Protocol):
    """Where random numbers come from: each call gives fresh ones, one array per image."""

    def uniform(self, low: float, high: float, *shape: int) -> Float64[np.ndarray, "n ..."]:
        """Numbers in [low, high)."""
        ...

    def normal(self, mean: float, std: float, *shape: int) -> Float64[np.ndarray, "n ..."]:
        """Normal numbers."""
        ...

    def integers(
        self, low: int, high: int | Int64[np.ndarray, " n"], *shape: int
    ) -> Int64[np.ndarray, "n ..."]:
        """Integers from low to high - 1; with one `high` per image, one integer per image."""
        ...

    def poisson(
        self, levels: UInt8[np.ndarray, "n h w 3"], scale: float
    ) -> Int64[np.ndarray, "n h w 3"]:
        """Poisson counts of mean levels / 255 * scale."""
        ...


class ImageDraws:
    """Draws that count, for every image apart, through its own stream of uniform numbers."""

    def __init__(
        self, rows: Int64[np.ndarray, " n"], *, seed: int, corruption: int, severity: int
    ) -> None:
        key = stream(_PURPOSE, seed, corruption, severity) % 2**64
        self._images = mix((rows.astype(np.uint64) + _ONE) * GAMMA + np.uint64(key))  # (n,)
        self._used = 0

    def uniform(self, low: float, high: float, *shape: int) -> Float64[np.ndarray, "n ..."]:
        """Numbers in [low, high)."""
        u = self._next(shape)
        u *= high - low
        u += low
        return u

    def normal(self, mean: float, std: float, *shape: int) -> Float64[np.ndarray, "n ..."]:
        """Normal numbers, by the inverse of the distribution function; none beyond 8.3 std."""
        u = self._next(shape)
        u += 2.0**-54  # half a step of the 53 bits, so that 0 does not become -inf
        z = ndtri(u, out=u)
        z *= std
        z += mean
        return z

    def integers(
        self, low: int, high: int | Int64[np.ndarray, " n"], *shape: int
    ) -> Int64[np.ndarray, "n ..."]:
        """Integers from low to high - 1; with one `high` per image, one integer per image."""
        return low + np.floor((high - low) * self._next(shape)).astype(np.int64)

    def poisson(
        self, levels: UInt8[np.ndarray, "n h w 3"], scale: float
    ) -> Int64[np.ndarray, "n h w 3"]:
        """Poisson counts of mean levels / 255 * scale, by the inverse distribution function."""
        flat, width = _sorted_table(scale)
        wanted = self._next(levels.shape[1:]) + levels
        found = np.searchsorted(flat, wanted.ravel(), side="right").reshape(levels.shape)
        return np.clip(found - levels.astype(np.int64) * width, 0, width - 1)

    def _next(self, shape: tuple[int, ...]) -> Float64[np.ndarray, "n ..."]:
        """The next numbers of every image: the bits of `squint.views.uniform.uniform`.

        In NumPy, since many threads draw at once and torch would start more threads in each.
        """
        count = int(np.prod(shape, dtype=np.int64))
        place = np.arange(self._used + 1, self._used + count + 1, dtype=np.uint64)
        self._used += count
        bits = mix(self._images[:, None] + place * GAMMA)  # (n, count)
        bits >>= np.uint64(11)
        return (bits * 2.0**-53).reshape(len(self._images), *shape)


_ONE = np.uint64(1)


@cache
def _sorted_table(scale: float) -> tuple[Float64[np.ndarray, " entries"], int]:
    """`poisson_table` as one sorted list, that of level v between v and v + 1; counts per level."""
    table = poisson_table(scale)  # (256, counts)
    return (np.arange(256)[:, None] + table).ravel(), table.shape[1]


def poisson_table(scale: float) -> Float64[np.ndarray, "256 counts"]:
    """Distribution functions of the Poisson counts of mean v / 255 * scale, v = 0 to 255."""
    most = int(scale + 9 * scale**0.5 + 20)  # what lies beyond has probability below 1e-15
    mean = np.arange(256)[:, None] / 255 * scale  # (256, 1)
    count = np.arange(most + 1)  # (counts,)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(count[1:]))])
    log_mean = np.log(np.where(mean > 0, mean, 1.0))
    share = np.exp(count * log_mean - mean - log_factorial)  # (256, counts)
    share[0] = count == 0
    return np.minimum(np.cumsum(share, axis=1), 1.0)
