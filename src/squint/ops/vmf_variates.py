"""The random part of a von Mises-Fisher draw: the angle to the mean, and the direction away.

Both are functions of a key and of the row's number. This is the reference, which runs anywhere
torch does; src/squint/native/vmf.c and vmf_triton_kernels.py make the same numbers.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from squint.ops import philox

PROPOSALS = 32
"""Tries per row. Each is accepted with probability >= 0.658 for every dim and kappa, so all fail
with probability < 2e-15; then the last one is taken."""

_DIRECTION, _PROPOSAL = range(2)  # third counter: what the words are for
_GROUP = 4  # rows that share a column's words


class Noise(NamedTuple):
    """Randomness of one draw per row, whatever mu and kappa; row i has the number first + i."""

    key: Int64[Tensor, ""]
    """The generator's: one random integer for all rows."""
    first: int = 0
    """Number of row 0; numbers of rows must be below 2^32."""


class Proposals(NamedTuple):
    """Uniform numbers inside 0..1 for the tries of each row."""

    radius: Float64[Tensor, "n proposals"]
    """With `angle` it makes a symmetric Beta variable."""
    angle: Float64[Tensor, "n proposals"]
    """In turns."""
    accept: Float64[Tensor, "n proposals"]
    """Decides on the proposal."""


def proposals(noise: Noise, n: int) -> Proposals:
    """The tries of n rows."""
    rows, tries, purpose, zero = _counters(noise, n, PROPOSALS, _PROPOSAL)
    drawn = philox.words(noise.key, rows + noise.first, tries, purpose, zero)
    return Proposals(*map(philox.uniform, drawn[:3]))


def directions(
    noise: Noise, n: int, dim: int, dtype: torch.dtype
) -> Float[Tensor, "n dim_minus_1"]:
    """Uniform unit vectors: the direction of n rows away from the first axis."""
    within = noise.first % _GROUP
    groups = (within + n + _GROUP - 1) // _GROUP
    rows, columns, purpose, zero = _counters(noise, groups, dim - 1, _DIRECTION)
    # column 0 is the first axis
    drawn = philox.words(noise.key, rows + noise.first // _GROUP, columns + 1, purpose, zero)
    pairs = [philox.normals(*pair, dtype) for pair in (drawn[:2], drawn[2:])]
    normal = torch.stack([x for pair in pairs for x in pair], dim=1)  # (groups, 4, dim - 1)
    return F.normalize(normal.flatten(0, 1)[within : within + n], dim=1)


def _counters(noise: Noise, n: int, columns: int, purpose: int) -> tuple[Tensor, ...]:
    rows = torch.arange(n, device=noise.key.device)[:, None]
    zero = torch.zeros_like(rows[:1])
    return rows, torch.arange(columns, device=noise.key.device), zero + purpose, zero


@torch.no_grad()
def gaps(
    tries: Proposals, kappa: float | Float[Tensor, ""] | Float[Tensor, " n"], dim: int
) -> Float64[Tensor, " n"]:
    """1 - w for the cosine w = mu.z of each row: Wood 1994, algorithm VM*.

    The published form computes w near 1 and accepts by the difference of two numbers of size
    kappa. In terms of 1 - w and of delta = w - x0 (x0: where the acceptance ratio peaks) nothing
    cancels. Float64, so that every implementation accepts the same proposals.
    """
    m = dim - 1
    if isinstance(kappa, Tensor):
        kappa = kappa.detach().double().reshape(-1, 1)  # (n, 1) or (1, 1)
        b = m / (2 * kappa + torch.sqrt(4 * kappa.square() + m * m))
    else:
        b = m / (2 * kappa + math.sqrt(4 * kappa * kappa + m * m))
    y, rest = _symmetric_beta(m, tries)  # y and 1 - y, (n, proposals)
    gap = 2 * b * y / (rest + b * y)  # 1 - w = 1 - (1 - (1 + b) y) / (1 - (1 - b) y)
    delta = 2 * b / (1 + b) - gap  # x0 = (1 - b) / (1 + b)
    log_ratio = kappa * delta + m * torch.log1p(-delta * (1 - b) * (1 + b) / (4 * b))
    accepted = log_ratio >= torch.log(tries.accept)
    accepted[:, -1] = True
    first = accepted.to(torch.uint8).argmax(dim=1, keepdim=True)  # (n, 1)
    return gap.gather(1, first).squeeze(1)  # (n,)


def _symmetric_beta(m: int, tries: Proposals) -> tuple[Tensor, Tensor]:
    """Both y and 1 - y for y ~ Beta(m/2, m/2): (1 + a coordinate of a uniform direction) / 2.

    Ulrich 1984; Devroye 1986, chapter IX.3: y = 1/2 + 1/2 cos(2 pi u2) sqrt(1 - u1^(2/(m-1))).
    For m = 1 the power is infinite and the root 1: the arcsine law.
    """
    power = 2 / (m - 1) if m > 1 else math.inf
    root = torch.sqrt(-torch.expm1(power * torch.log(tries.radius)))
    half = 0.5 * torch.cos(2 * math.pi * tries.angle) * root
    return 0.5 + half, 0.5 - half
