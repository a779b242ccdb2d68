"""How a draw's angle to its mean changes with the concentration, for the same random numbers.

The cosine w of a draw has the distribution F(w; kappa), and a draw that keeps its place in it
moves by dw/dkappa = -(dF/dkappa) / p(w): the implicit gradient (Figurnov et al. 2018). It belongs
to the law alone, so rejection sampling has it although its accepted branch has none.

In terms of the angle t, with density p(t) ~ sin(t)^(dim - 2) exp(kappa cos t),

    dt/dkappa = - integral from 0 to t of (cos s - A(kappa)) p(s) / p(t) ds

and the integral to pi is zero. So it may be taken from t to 0 where cos t is above A, and from t to
pi where it is below: then the integrand keeps its sign, p(s) / p(t) hardly exceeds 1, and no
normaliser is needed. Beyond the point where that ratio is e^-40 nothing is left to add.
"""

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from squint.ops.vmf_normalizer import constants

_NODES = 64  # of the Gauss-Legendre rule
_DROP = 40.0  # the integral ends where log p has dropped by this much, or by at most twice as much
_WINDOWS = 49  # lengths of the integral that are tried, each 1/sqrt(2) of the one before


def cosine_and_sine(
    kappa: Float[Tensor, " n"], gap: Float[Tensor, " n"], dim: int
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Cosine and sine of each draw's angle to its mean; gradients flow into kappa alone.

    Args:
        kappa: concentrations the draws were made with.
        gap: 1 - cosine of each draw, 0 to 2.
        dim: of the sphere's space.
    """
    cosine, sine = _Moving.apply(kappa, gap, dim)  # pyright: ignore[reportGeneralTypeIssues]
    return cosine, sine


@torch.no_grad()
def angle_slope(
    gap: Float[Tensor, " n"], kappa: Float[Tensor, " n"], dim: int
) -> Float[Tensor, " n"]:
    """Slope d angle / d kappa, in radians, of draws with 1 - cosine = `gap`; float64, at most 0."""
    gap, kappa = gap.double().clamp(1e-30, 2 - 1e-14), kappa.double()
    mean_gap = constants(kappa, dim).gap
    angle = _angle(gap)
    inward = gap < mean_gap  # towards 0
    sign = torch.where(inward, -1.0, 1.0).double()
    room = torch.where(inward, angle, math.pi - angle)
    step = sign * room * _window(angle, sign * room, kappa, dim)
    nodes, weights = _rule(gap.device)
    offset = step[:, None] * nodes  # (n, nodes)
    there = 2 * torch.sin((angle[:, None] + offset) / 2).square()  # 1 - cos
    ratio = _log_ratio(angle[:, None], offset, kappa[:, None], dim).exp()
    return step * (weights * ratio * (mean_gap[:, None] - there)).sum(dim=1)


class _Moving(torch.autograd.Function):
    """Cosine and sine of each draw, and their implicit gradient."""

    @staticmethod
    def forward(ctx: Any, kappa: Tensor, gap: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(kappa, gap)
        ctx.dim = dim
        return 1 - gap, torch.sqrt(gap * (2 - gap))

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor, None, None]:
        kappa, gap = ctx.saved_tensors
        by_cosine, by_sine = (grad.double() for grad in grad_outputs)
        angle = _angle(gap.double())
        by_angle = by_sine * torch.cos(angle) - by_cosine * torch.sin(angle)
        return (by_angle * angle_slope(gap, kappa, ctx.dim)).to(kappa.dtype), None, None


def _angle(gap: Tensor) -> Tensor:
    return 2 * torch.asin(torch.sqrt(gap / 2))


def _log_ratio(angle: Tensor, offset: Tensor, kappa: Tensor, dim: int) -> Tensor:
    """Difference of log p between angle + offset and angle, without cancellation at large kappa."""
    moved = angle + offset
    sines = (torch.sin(moved) / torch.sin(angle)).clamp(min=0)  # rounding, at pi
    height = torch.sin(offset / 2) * torch.sin((moved + angle) / 2)
    return torch.xlogy(torch.full_like(sines, dim - 2.0), sines) - 2 * kappa * height


def _window(angle: Tensor, room: Tensor, kappa: Tensor, dim: int) -> Tensor:
    """Share of the room, (n,), over which log p drops by `_DROP`; 1 where it drops by less."""
    exponents = torch.arange(0.0, _WINDOWS, dtype=torch.float64, device=angle.device)
    shares = torch.exp2(-exponents / 2)
    ratio = _log_ratio(angle[:, None], room[:, None] * shares, kappa[:, None], dim)
    enough = (ratio <= -_DROP).sum(dim=1)  # p has one peak: these are the first ones
    return shares[(enough - 1).clamp(min=0)]


@cache
def _rule(device: torch.device) -> tuple[Tensor, Tensor]:
    """Nodes and weights on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    both = [((nodes + 1) / 2).tolist(), (weights / 2).tolist()]
    first, second = torch.tensor(both, dtype=torch.float64, device=device)
    return first, second
