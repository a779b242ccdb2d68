"""Draws from the von Mises-Fisher law: rejection for the cosine, a reflection for the direction.

Randomness is apart from its use: `draw` makes noise that knows neither mu nor kappa, `sample`
turns noise into codes and is a plain function of its arguments. A fixed number of proposals
per row, no loop over data, no wait for the device.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from squint.errors import RecipeError
from squint.ops.precision import at_least_float32
from squint.ops.vmf_cosine_gradient import cosine_and_sine
from squint.ops.vmf_normalizer import check_law

PROPOSALS = 32
"""Tries per row. Each is accepted with probability >= 0.658 for every dim and kappa, so that
all fail with probability < 2e-15; the last one is taken then."""


class Noise(NamedTuple):
    """Randomness of one draw per row, independent of mu and kappa."""

    radius: Float[Tensor, "n proposals"]
    """Uniform on [0, 1); with `angle` it makes a symmetric Beta variable."""
    angle: Float[Tensor, "n proposals"]
    """Uniform on [0, 1), in turns."""
    accept: Float[Tensor, "n proposals"]
    """Uniform on [0, 1): decides on the proposal."""
    tangent: Float[Tensor, "n dim_minus_1"]
    """Uniform unit vectors: the direction away from the mean."""


def draw(
    n: int,
    dim: int,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Noise:
    """Noise for n codes of `dim` dimensions; float32 or float64.

    When several ranks train together, draw for the whole global batch with generators in the
    same state, and let each rank keep its own rows (`gather.own` of each field): then codes
    don't depend on the number of ranks.
    """
    uniform = torch.rand((3, n, PROPOSALS), generator=generator, device=device, dtype=dtype)
    normal = torch.randn((n, dim - 1), generator=generator, device=device, dtype=dtype)
    return Noise(uniform[0], uniform[1], uniform[2], F.normalize(normal, dim=1))


def sample(
    mu: Float[Tensor, "n d"],
    kappa: float | Float[Tensor, ""] | Float[Tensor, " n"],
    *,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
) -> Float[Tensor, "n d"]:
    """One unit vector per row from vMF(mu, kappa), in at least float32.

    Rejection for the cosine w = mu.z (Ulrich 1984 as corrected by Wood 1994), then a Householder
    reflection that takes the first axis e_1 to mu. kappa = 0 gives the uniform law.

    Differentiable in mu, through the reflection, and in kappa, where it is a tensor that asks for
    it, through the law of the cosine: the branch that was accepted is not a differentiable
    function of kappa (see `vmf_cosine_gradient`).

    Args:
        mu: Mean directions, unit rows.
        kappa: Concentration, >= 0; one for all rows or one per row.
        generator: Draws the noise; default: the device's own generator.
        noise: Use this noise instead of drawing: the result is then a function of its inputs.

    Raises:
        RecipeError: Both `generator` and `noise`, or a law that `check_law` refuses.
    """
    mu = at_least_float32(mu)
    n, dim = mu.shape
    check_law(kappa, dim)
    if noise is None:
        noise = draw(n, dim, generator=generator, device=mu.device, dtype=mu.dtype)
    elif generator is not None:
        raise RecipeError("sample() got noise and a generator: give one of the two.")
    return reflect(_around_first_axis(kappa, noise).to(mu.dtype), mu)


def reflect(base: Float[Tensor, "n d"], mu: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Unit rows `base`, given around e_1, carried around mu by the reflection taking e_1 to mu.

    z = n(base - 2 (base.u) u) with u = n(e_1 - mu), n(v) = v/|v|; the identity where mu = e_1.
    Other rotations give the same law but another gradient; this one is the reference's (Davidson
    et al. 2018, algorithm 1). It grows as 1/|e_1 - mu| near e_1, as the reflection itself turns
    there from one row to the next.
    """
    first = mu.new_zeros(mu.shape[1])  # (d,)
    first[0] = 1
    u = F.normalize(first - mu, dim=1)
    return F.normalize(base - 2 * (base * u).sum(dim=1, keepdim=True) * u, dim=1)


def _around_first_axis(kappa: float | Tensor, noise: Noise) -> Tensor:
    """Unit rows (n, d) from vMF(e_1, kappa)."""
    gap = _accepted_gap(kappa, noise)  # (n,)
    if isinstance(kappa, Tensor) and kappa.requires_grad:
        cosine, away = cosine_and_sine(kappa.expand(len(gap)), gap, noise.tangent.shape[1] + 1)
    else:
        cosine, away = 1 - gap, torch.sqrt(gap * (2 - gap))  # away: sine of the angle to e_1
    return torch.cat((cosine[:, None], away[:, None] * noise.tangent), dim=1)  # (n, d)


@torch.no_grad()
def _accepted_gap(kappa: float | Tensor, noise: Noise) -> Tensor:
    """1 - w for the cosine w = mu.z of each row, shape (n,): Wood 1994, algorithm VM*.

    The published form computes w near 1 and accepts by the difference of two numbers of size
    kappa. In terms of 1 - w and of delta = w - x0 (x0: where the acceptance ratio peaks)
    nothing cancels, and float32 serves up to kappa = 1e6.
    """
    m = noise.tangent.shape[1]  # dim - 1
    if isinstance(kappa, Tensor):
        kappa = kappa.detach().to(noise.radius.dtype).reshape(-1, 1)  # (n, 1) or (1, 1)
        b = m / (2 * kappa + torch.sqrt(4 * kappa.square() + m * m))
    else:
        b = m / (2 * kappa + math.sqrt(4 * kappa * kappa + m * m))
    y, rest = _symmetric_beta(m, noise)  # y and 1 - y, (n, proposals)
    gap = 2 * b * y / (rest + b * y)  # 1 - w = 1 - (1 - (1 + b) y) / (1 - (1 - b) y)
    delta = 2 * b / (1 + b) - gap  # x0 = (1 - b) / (1 + b)
    log_ratio = kappa * delta + m * torch.log1p(-delta * (1 - b) * (1 + b) / (4 * b))
    accepted = log_ratio >= torch.log1p(-noise.accept)
    accepted[:, -1] = True
    first = accepted.to(torch.uint8).argmax(dim=1, keepdim=True)  # (n, 1)
    return gap.gather(1, first).squeeze(1)  # (n,)


def _symmetric_beta(m: int, noise: Noise) -> tuple[Tensor, Tensor]:
    """Both y and 1 - y for y ~ Beta(m/2, m/2): half of one plus a uniform direction's coordinate.

    Ulrich 1984; Devroye 1986, chapter IX.3: y = 1/2 + 1/2 cos(2 pi u2) sqrt(1 - u1^(2/(m-1))).
    For m = 1 the power is infinite and the root 1: the arcsine law.
    """
    power = 2 / (m - 1) if m > 1 else math.inf
    root = torch.sqrt(-torch.expm1(power * torch.log(noise.radius)))
    half = 0.5 * torch.cos(2 * math.pi * noise.angle) * root
    return 0.5 + half, 0.5 - half
