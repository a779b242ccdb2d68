"""The draw's gradient in kappa, against quantiles by quadrature and expectations in closed form."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import integrate, optimize, special
from torch import Tensor

from squint.ops import vmf
from squint.ops.vmf_cosine_gradient import angle_slope, cosine_and_sine


class Angle:
    """Law of the angle to the mean, density sin^(dim-2) exp(kappa cos), by quadrature."""

    def __init__(self, dim: int, kappa: float) -> None:
        self.dim, self.kappa = dim, kappa
        grid = np.linspace(1e-9, math.pi - 1e-9, 200_001)
        logs = self.log(grid)
        self.top = logs.max()
        inside = grid[logs > self.top - 42]
        self.low = 0.0 if inside[0] == grid[0] else float(inside[0])
        self.high = math.pi if inside[-1] == grid[-1] else float(inside[-1])
        self.knots = np.linspace(self.low, self.high, 9)
        self.parts = [self._between(a, b) for a, b in zip(self.knots, self.knots[1:], strict=False)]

    def log(self, angle: np.ndarray | float) -> np.ndarray:
        return special.xlogy(self.dim - 2, np.sin(angle)) + self.kappa * (np.cos(angle) - 1)

    def _between(self, a: float, b: float) -> float:
        density = lambda t: math.exp(self.log(t) - self.top)  # noqa: E731
        return integrate.quad(density, a, b, epsabs=0, epsrel=1e-13)[0]

    def quantile(self, share: float) -> float:
        wanted = share * sum(self.parts)
        full = int(np.searchsorted(np.cumsum(self.parts), wanted))
        rest = wanted - sum(self.parts[:full])
        start, end = self.knots[full : full + 2]
        missing = lambda t: self._between(start, t) - rest  # noqa: E731
        return optimize.root_scalar(missing, bracket=(start, end), xtol=1e-15, rtol=1e-14).root


@pytest.mark.parametrize("dim", (2, 3, 8, 128, 256))
@pytest.mark.parametrize("kappa", (0.5, 10.0, 1024.0, 16384.0))
def test_slope_is_that_of_the_quantile(dim: int, kappa: float) -> None:
    step = 1e-3 * kappa
    below, law, above = (Angle(dim, k) for k in (kappa - step, kappa, kappa + step))
    for share in (0.003, 0.3, 0.6, 0.997):
        expected = (above.quantile(share) - below.quantile(share)) / (2 * step)
        gap = torch.tensor([2 * math.sin(law.quantile(share) / 2) ** 2], dtype=torch.float64)
        slope = angle_slope(gap, torch.full_like(gap, kappa), dim)
        assert slope.item() == pytest.approx(expected, rel=1e-5)


def _log_c(kappa: float, dim: int) -> float:
    nu = dim / 2 - 1
    return nu * math.log(kappa) - math.log(special.ive(nu, kappa)) - kappa


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
@pytest.mark.parametrize(
    ("dim", "kappa", "size"),
    [(2, 0.5, 2.0), (2, 10.0, 5.0), (3, 10.0, 5.0), (8, 20.0, 5.0), (128, 1024.0, 60.0)],
)
def test_gradient_of_an_expectation(
    dim: int, kappa: float, size: float, dtype: torch.dtype
) -> None:
    """E[exp(a.z)] = C(kappa) / C(|kappa mu + a|), up to the constant exp(-|a|)."""
    n = 40_000
    mu, other = F.normalize(torch.randn(2, dim, generator=torch.Generator().manual_seed(0)), dim=1)
    a = size * F.normalize(mu + 0.7 * other, dim=0)

    def expectation(k: float) -> float:
        norm = torch.linalg.vector_norm(k * mu.double() + a.double()).item()
        return math.exp(_log_c(k, dim) - _log_c(norm, dim) - size)

    kappas = torch.full((n,), kappa, dtype=dtype, requires_grad=True)
    generator = torch.Generator().manual_seed(1)
    z = vmf.sample(mu.to(dtype).expand(n, dim), kappas, generator=generator)
    values = torch.exp(z @ a.to(dtype) - size)
    (gradient,) = torch.autograd.grad(values.sum(), kappas)
    step = 1e-4 * kappa
    expected = (expectation(kappa + step) - expectation(kappa - step)) / (2 * step)
    error = gradient.double().std().item() / math.sqrt(n)
    assert abs(gradient.double().mean().item() - expected) <= 5 * error
    assert error < abs(expected) / 4, "the test would notice a wrong sign or a missing half"


def _codes(kappa: float | Tensor) -> Tensor:
    mu = F.normalize(torch.randn(6, 9, generator=torch.Generator().manual_seed(2)), dim=1)
    return vmf.sample(mu, kappa, generator=torch.Generator().manual_seed(3))


def test_a_kappa_that_learns_draws_the_same_codes() -> None:
    kappa = torch.full((6,), 30.0)
    assert torch.equal(_codes(kappa.requires_grad_()), _codes(kappa.detach()))
    assert not _codes(kappa.detach()).requires_grad


def test_one_kappa_for_all_rows_gets_the_sum() -> None:
    one, rows = (torch.full(shape, 30.0, requires_grad=True) for shape in ((), (6,)))
    weights = torch.randn(6, 9, generator=torch.Generator().manual_seed(4))
    (whole,) = torch.autograd.grad((weights * _codes(one)).sum(), one)
    (parts,) = torch.autograd.grad((weights * _codes(rows)).sum(), rows)
    torch.testing.assert_close(whole, parts.sum())
    assert parts.unique().numel() == 6


@pytest.mark.parametrize("dim", (2, 3, 256))
def test_the_poles_and_the_uniform_law(dim: int) -> None:
    gap = torch.tensor([0.0, 1e-12, 0.4, 1.0, 2 - 1e-7, 2.0])
    for kappa in (0.0, 1e-3, 1e6):
        row = torch.full_like(gap, kappa, requires_grad=True)
        cosine, sine = cosine_and_sine(row, gap, dim)
        (gradient,) = torch.autograd.grad((cosine + sine).sum(), row)
        assert gradient.isfinite().all()
    inner = gap[1:4].double()
    expected = -torch.sqrt(inner * (2 - inner)) / (dim - 1)
    torch.testing.assert_close(angle_slope(inner, torch.zeros_like(inner), dim), expected)
