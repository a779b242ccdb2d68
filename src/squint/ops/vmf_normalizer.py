"""Normaliser of the von Mises-Fisher law on the sphere in R^dim, with its derivatives.

    p(z; mu, kappa) = C(kappa) exp(kappa mu.z)
    log C(kappa)    = nu log kappa - (dim/2) log 2 pi - log I_nu(kappa),     nu = dim/2 - 1

Bessel functions overflow, underflow and cancel over the range asked of them here (dim 2 to
4096, kappa 0 to 1e6), so none is ever formed. Two steps, both free of singularities at
kappa = 0 and of differences of nearly equal numbers:

1. Olver's uniform expansion of log I_nu, accurate for large nu, at the first dimension
   dim + 2 j with nu >= 24.
2. Down to `dim` by I_{nu-1} = (2 nu / kappa) I_nu + I_{nu+1}, written for ratios:
   A_dim = kappa / (dim + kappa A_{dim+2}),   log C_dim = log C_{dim+2} + log(2 pi A_dim / kappa).

Everything is float64: there is one kappa for a whole batch, or one per image, so it costs
nothing beside the codes. Worst error against 50-digit arithmetic, dim 2 to 4096, kappa 0 to
1e6: log C + kappa and entropy 3e-13 nats (dim <= 256) and 5e-12 nats (4096), A 2e-14, 1 - A
2e-13, dA/dkappa 4e-13 of their value. Results in float32 are these, rounded.
"""

import math
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from squint.errors import RecipeError

_LEAST_ORDER = 24.0  # of the expansion
_TERMS = 9  # of the expansion: the first one left out is below 1e-13 at the least order


class Constants(NamedTuple):
    """What the law's formulas are made of; float64, the shape of kappa.

    Each is computed, and differentiated, by an expression of its own: as a difference of two
    others it would lose digits at one end of the range.
    """

    log_normalizer: Tensor
    """log C."""
    scaled: Tensor
    """log C + kappa: the log density at the mean direction."""
    resultant: Tensor
    """A = E[mu.z] = -d log C / d kappa, in [0, 1)."""
    gap: Tensor
    """1 - A = E[1 - mu.z]."""
    entropy: Tensor
    """-E[log p] = -log C - kappa A."""


def constants(kappa: float | Tensor, dim: int) -> Constants:
    """The law's constants for each kappa, differentiable in it (once).

    A Python number gives scalars on the CPU, computed once per (kappa, dim): they mix with
    tensors of any device as numbers do.

    Raises:
        RecipeError: As `check_law`.
    """
    check_law(kappa, dim)
    if isinstance(kappa, Tensor):
        return Constants(*_Law.apply(kappa.to(torch.float64), dim))
    numbers = _constants_of_number(float(kappa), dim)
    return Constants(*(torch.tensor(x, dtype=torch.float64, device="cpu") for x in numbers))


def check_law(kappa: float | Tensor, dim: int) -> None:
    """Refuse a law that does not exist.

    Raises:
        RecipeError: dim < 2, or kappa is a number below 0 or not finite. (Values of tensors
            aren't looked at: that would wait for the device.)
    """
    if dim < 2:
        raise RecipeError(
            f"dim={dim}: a sphere of directions needs at least 2 dimensions. Use wider codes."
        )
    if not isinstance(kappa, Tensor) and not 0 <= kappa < math.inf:
        raise RecipeError(
            f"kappa={kappa}: the concentration of a von Mises-Fisher law is a finite number >= 0. "
            "Use 0 for the uniform law; larger is narrower."
        )


@lru_cache(maxsize=256)
def _constants_of_number(kappa: float, dim: int) -> tuple[float, ...]:
    on_cpu = torch.tensor(kappa, dtype=torch.float64, device="cpu")
    return tuple(x.item() for x in _Law.apply(on_cpu, dim))


class _Law(torch.autograd.Function):
    """The constants of each kappa, and their exact derivatives."""

    @staticmethod
    def forward(ctx: Any, kappa: Tensor, dim: int) -> tuple[Tensor, ...]:
        scaled, resultant, gap, slope = _evaluate(kappa, dim)
        ctx.save_for_backward(kappa, resultant, gap, slope)
        return scaled - kappa, scaled, resultant, gap, kappa * gap - scaled

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor, None]:
        kappa, resultant, gap, slope = ctx.saved_tensors
        log_normalizer, scaled, by_resultant, by_gap, entropy = grad_outputs
        value = scaled * gap - log_normalizer * resultant
        return value + (by_resultant - by_gap - entropy * kappa) * slope, None


def _evaluate(kappa: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute log C + kappa, A, 1 - A and dA/dkappa = 1 - A^2 - (dim - 1) A / kappa."""
    steps = max(0, math.ceil(_LEAST_ORDER - (dim / 2 - 1)))
    scaled, resultant, gap, slope = _expand(kappa, dim / 2 - 1 + steps)
    for lower in range(dim + 2 * (steps - 1), dim - 2, -2):
        below = lower + kappa * resultant  # kappa / A at the lower dimension
        scaled = scaled + torch.log(2 * math.pi / below)
        slope = (lower - kappa.square() * slope) / below.square()
        gap = (lower - kappa * gap) / below
        resultant = kappa / below
    return scaled, resultant, gap, slope


def _expand(kappa: Tensor, nu: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `_evaluate`, by the uniform expansion for large nu (Olver; DLMF 10.41.3, 10.41.10).

    With r = sqrt(nu^2 + kappa^2), t = nu / r and `tail` the log of the expansion's sum:
    log I_nu = r + nu log(kappa / (nu + r)) - log(2 pi r) / 2 + tail.
    `turn` and `turn2` are t d/dt of tail, once and twice.
    """
    r = torch.sqrt(kappa.square() + nu**2)
    t2 = (nu / r).square()
    tail, turn, turn2 = _tail(1 / r, t2)
    scaled = (
        -(nu + 1) * math.log(2 * math.pi)
        + nu * torch.log(nu + r)
        - nu**2 / (r + kappa)  # = kappa - r
        + 0.5 * torch.log(2 * math.pi * r)
        - tail
    )
    correction = (0.5 + turn) / r.square()
    resultant = kappa / (nu + r) - kappa * correction
    gap = (nu + nu**2 / (r + kappa)) / (nu + r) + kappa * correction
    slope = nu / (r * (nu + r)) - (2 * t2 - 1) * correction + (1 - t2) * turn2 / r.square()
    return scaled, resultant, gap, slope


def _tail(inverse_r: Tensor, t2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sum over j of D_j(t) / nu^j = r^-j sum_i d_ji t^2i, and t d/dt of it once and twice."""
    table = _table(t2.device)  # (terms, terms + 1)
    j = torch.arange(1.0, _TERMS + 1, dtype=torch.float64, device=t2.device)
    i = torch.arange(0.0, _TERMS + 1, dtype=torch.float64, device=t2.device)
    degree = j[:, None] + 2 * i  # (terms, terms + 1), of t in each summand
    summands = table * inverse_r[..., None, None] ** j[:, None] * t2[..., None, None] ** i
    turned = degree * summands
    return summands.sum((-2, -1)), turned.sum((-2, -1)), (degree * turned).sum((-2, -1))


@cache
def _table(device: torch.device) -> Tensor:
    return torch.tensor(_debye(), dtype=torch.float64, device=device)


@cache
def _debye() -> list[list[float]]:
    """Coefficients d_ji of D_j(t) = sum_i d_ji t^(j + 2i), in exact fractions until the last line.

    Defined by log(1 + sum_j U_j / nu^j) = sum_j D_j / nu^j, with the U_j of DLMF 10.41.9.
    """
    u = [[Fraction(1)]]
    for j in range(_TERMS):
        following = [Fraction(0)] * (j + 2)
        for i, coefficient in enumerate(u[j]):
            m = j + 2 * i
            following[i] += coefficient * (Fraction(m, 2) + Fraction(1, 8 * (m + 1)))
            following[i + 1] -= coefficient * (Fraction(m, 2) + Fraction(5, 8 * (m + 3)))
        u.append(following)
    d = [[Fraction(0)]]
    for j in range(1, _TERMS + 1):  # power series of a logarithm: j d_j = j u_j - sum k d_k u_j-k
        log = list(u[j])
        for k in range(1, j):
            for a, left in enumerate(d[k]):
                for b, right in enumerate(u[j - k]):
                    log[a + b] -= Fraction(k, j) * left * right
        d.append(log)
    return [[float(c) for c in row] + [0.0] * (_TERMS - j) for j, row in enumerate(d[1:], 1)]
