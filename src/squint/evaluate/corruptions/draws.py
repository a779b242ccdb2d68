"""Random numbers of the corruptions: a function of (seed, image, corruption, severity) alone."""

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float64, Int64, UInt8

from squint.shapes import Rows
from squint.views.uniform import stream, uniform

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

    def integers(self, low: int, high: int, *shape: int) -> Int64[np.ndarray, "n ..."]:
        """Integers from low to high - 1."""
        ...

    def poisson(
        self, levels: UInt8[np.ndarray, "n h w 3"], scale: float
    ) -> Int64[np.ndarray, "n h w 3"]:
        """Poisson counts of mean levels / 255 * scale."""
        ...


class ImageDraws:
    """Draws that count, for every image apart, through its own stream of uniform numbers."""

    def __init__(self, rows: Rows, *, seed: int, corruption: int, severity: int) -> None:
        self._rows = rows.cpu()
        self._key = stream(_PURPOSE, seed, corruption, severity)
        self._used = 0

    def uniform(self, low: float, high: float, *shape: int) -> Float64[np.ndarray, "n ..."]:
        """Numbers in [low, high)."""
        return low + (high - low) * self._next(shape).numpy()

    def normal(self, mean: float, std: float, *shape: int) -> Float64[np.ndarray, "n ..."]:
        """Normal numbers, by the inverse of the distribution function; none beyond 8.3 std."""
        # half a step of the 53 bits further on, so that 0 does not become -inf
        return mean + std * torch.special.ndtri(self._next(shape) + 2.0**-54).numpy()

    def integers(self, low: int, high: int, *shape: int) -> Int64[np.ndarray, "n ..."]:
        """Integers from low to high - 1."""
        return low + np.floor((high - low) * self._next(shape).numpy()).astype(np.int64)

    def poisson(
        self, levels: UInt8[np.ndarray, "n h w 3"], scale: float
    ) -> Int64[np.ndarray, "n h w 3"]:
        """Poisson counts of mean levels / 255 * scale, by the inverse distribution function."""
        table = poisson_table(scale)  # (256, counts)
        width = table.shape[1]
        # one sorted list for all levels: that of level v lies between v and v + 1
        flat = (np.arange(256)[:, None] + table).ravel()
        wanted = levels + self._next(levels.shape[1:]).numpy()
        found = np.searchsorted(flat, wanted, side="right") - levels.astype(np.int64) * width
        return np.clip(found, 0, width - 1)

    def _next(self, shape: tuple[int, ...]) -> torch.Tensor:
        count = int(np.prod(shape, dtype=np.int64))
        u = uniform(self._key, self._rows, self._used, count)  # (n, count)
        self._used += count
        return u.reshape(len(self._rows), *shape)


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
