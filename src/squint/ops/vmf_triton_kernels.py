"""Triton kernels of the von Mises-Fisher sampler; imported only where they run.

Random words, proposals and acceptance are those of `vmf_variates`: logarithms and roots in float64,
so that the same proposals are accepted.
"""

# pyright: basic, reportCallIssue=false, reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from squint.ops.vmf_variates import PROPOSALS

ROWS = 16
"""Rows whose proposals a program looks at together."""

Angles = tuple[Tensor, Tensor, Tensor]


def angles(key: Tensor, first: int, kappa: Tensor, n: int, dim: int) -> Angles:
    """Gap (float64), cosine and sine (float32) of n draws; kappa float64, one or one per row."""
    gap = torch.empty(n, dtype=torch.float64, device=key.device)
    cosine, sine = torch.empty(2, n, device=key.device)
    kappa = kappa.contiguous()
    step = int(len(kappa) > 1)
    _angles[(triton.cdiv(n, ROWS),)](
        key, first, kappa, step, gap, cosine, sine, n, dim - 1, ROWS=ROWS, PROPOSALS=PROPOSALS
    )
    return gap, cosine, sine


def place(key: Tensor, first: int, mu: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Unit rows (n, d) at the given angles to unit rows `mu`, in uniform directions away."""
    n, dim = mu.shape
    mu, cosine, sine = mu.contiguous(), cosine.contiguous(), sine.contiguous()
    z = torch.empty_like(mu)
    groups = triton.cdiv(first % 4 + n, 4)
    _place[(groups,)](
        key, first, mu, cosine, sine, z, n, dim, WIDTH=triton.next_power_of_2(dim)
    )  # fmt: skip
    return z


def mean_gradient(mu: Tensor, z: Tensor, grad: Tensor) -> Tensor:
    """Gradient in mu (n, d) of what has gradient `grad` in the rows z that `place` made."""
    n, dim = mu.shape
    mu, z, grad = mu.contiguous(), z.contiguous(), grad.contiguous()
    result = torch.empty_like(mu)
    _mean_gradient[(n,)](mu, z, grad, result, dim, WIDTH=triton.next_power_of_2(dim))
    return result


@triton.jit
def _uniform(word):
    """The middle of one of 2^32 equal parts of 0..1."""
    return (word.to(tl.float64) + 0.5) * 2.3283064365386963e-10


@triton.jit(do_not_specialize=["first", "step", "m"])
def _angles(
    key, first, kappas, step, gaps, cosines, sines, n, m,
    ROWS: tl.constexpr, PROPOSALS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    tries = tl.arange(0, PROPOSALS)
    nought = tl.zeros((ROWS, PROPOSALS), tl.int64)
    counter = (row.to(tl.int64) + first)[:, None] + nought
    number = tries.to(tl.int64)[None, :] + nought
    radius, angle, accept, _ = tl.philox(
        tl.load(key),
        counter.to(tl.uint32),
        number.to(tl.uint32),
        (nought + 1).to(tl.uint32),
        nought.to(tl.uint32),
    )
    # Ulrich 1984; Devroye 1986, chapter IX.3: y ~ Beta(m/2, m/2)
    log_radius = tl.log(_uniform(radius))
    dimensions = nought.to(tl.float64) + m
    power = tl.where(dimensions > 1, 2.0 / tl.maximum(dimensions - 1, 1.0), float("inf"))
    root = tl.sqrt(1.0 - tl.exp(power * log_radius))
    half = 0.5 * tl.cos(6.283185307179586 * _uniform(angle)) * root
    y, rest = 0.5 + half, 0.5 - half

    # Wood 1994, algorithm VM*, in terms of 1 - w: see vmf_variates.gaps
    kappa = tl.load(kappas + row * step, mask=row < n, other=1.0)[:, None]
    b = dimensions / (2 * kappa + tl.sqrt(4 * kappa * kappa + dimensions * dimensions))
    gap = 2 * b * y / (rest + b * y)
    delta = 2 * b / (1 + b) - gap
    log_ratio = kappa * delta + dimensions * tl.log(1.0 - delta * (1 - b) * (1 + b) / (4 * b))
    accepted = log_ratio >= tl.log(_uniform(accept))
    place = tl.where(accepted, tries[None, :], PROPOSALS - 1)
    taken = tries[None, :] == tl.min(place, 1)[:, None]
    chosen = tl.sum(tl.where(taken, gap, 0.0), 1)

    inside = row < n
    tl.store(gaps + row, chosen, mask=inside)
    tl.store(cosines + row, (1.0 - chosen).to(tl.float32), mask=inside)
    tl.store(sines + row, tl.sqrt(chosen * (2.0 - chosen)).to(tl.float32), mask=inside)


@triton.jit
def _radius(word):
    """Of a pair of normals, from 31 bits (Box and Muller 1958)."""
    up = (word >> 1).to(tl.float64)
    return tl.sqrt(-2.0 * tl.log((up + 0.5) * 4.656612873077393e-10)).to(tl.float32)


@triton.jit
def _radians(word):
    """From minus to plus half a turn."""
    turn = word.to(tl.int32, bitcast=True).to(tl.float32)
    return (turn + 0.5) * 1.4629180792671596e-09


@triton.jit
def _unit(x):
    """A row of unit length, as F.normalize."""
    return x / tl.maximum(tl.sqrt(tl.sum(x * x, 0)), 1e-12)


@triton.jit
def _placed(normal, mu_row, cosine, sine, z_row, column, dim):
    """One row: `vmf_sampler.reflect` of a cosine and a direction away from the first axis."""
    inside = column < dim
    mu = tl.load(mu_row + column, mask=inside, other=0.0)
    away = _unit(tl.where(inside & (column > 0), normal, 0.0))
    base = tl.where(column == 0, cosine, sine * away)
    u = _unit(tl.where(column == 0, 1.0, 0.0) - mu)
    z = _unit(base - 2.0 * tl.sum(base * u, 0) * u)
    tl.store(z_row + column, z, mask=inside)


@triton.jit(do_not_specialize=["first"])
def _place(key, first, mu, cosines, sines, z, n, dim, WIDTH: tl.constexpr):
    # four rows share the words of a column
    group = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, WIDTH)
    nought = tl.zeros((WIDTH,), tl.int64)
    counter = nought + (group + first // 4)
    w0, w1, w2, w3 = tl.philox(
        tl.load(key), counter.to(tl.uint32), (nought + column).to(tl.uint32),
        nought.to(tl.uint32), nought.to(tl.uint32),
    )  # fmt: skip
    r01, t01, r23, t23 = _radius(w0), _radians(w1), _radius(w2), _radians(w3)
    for k in tl.static_range(4):
        row = group * 4 + k - first % 4
        if (row >= 0) & (row < n):
            if k == 0:
                normal = r01 * tl.cos(t01)
            elif k == 1:
                normal = r01 * tl.sin(t01)
            elif k == 2:
                normal = r23 * tl.cos(t23)
            else:
                normal = r23 * tl.sin(t23)
            cosine, sine = tl.load(cosines + row), tl.load(sines + row)
            _placed(normal, mu + row * dim, cosine, sine, z + row * dim, column, dim)


@triton.jit
def _mean_gradient(mu, z, grad, result, dim, WIDTH: tl.constexpr):
    """With v = e_1 - mu: 2 ((g.v) z - (z.v) g) / |v|^2; see `vmf_sampler._Placed`."""
    row = tl.program_id(0).to(tl.int64) * dim
    column = tl.arange(0, WIDTH)
    inside = column < dim
    v = tl.where(column == 0, 1.0, 0.0) - tl.load(mu + row + column, mask=inside, other=0.0)
    code = tl.load(z + row + column, mask=inside, other=0.0)
    g = tl.load(grad + row + column, mask=inside, other=0.0)
    by_code, by_g = tl.sum(g * v, 0), tl.sum(code * v, 0)
    length = tl.maximum(tl.sum(v * v, 0), 1e-24)
    tl.store(result + row + column, 2.0 * (by_code * code - by_g * g) / length, mask=inside)
