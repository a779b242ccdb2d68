"""Draws: the law of the cosine and of the direction, the map, and what they depend on."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor

import golden
from squint.errors import RecipeError
from squint.ops import vmf, vmf_variates


def _units(n: int, dim: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return F.normalize(torch.randn((n, dim), generator=generator, dtype=dtype), dim=1)


def _draws(n: int, dim: int, kappa: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """n codes of one mean direction, and that direction as (n, dim)."""
    mu = _units(1, dim, dtype).expand(n, dim)
    generator = torch.Generator().manual_seed(5)
    return vmf.sample(mu, kappa, generator=generator), mu


def _angle_cdf(dim: int, kappa: float) -> tuple[np.ndarray, np.ndarray]:
    """Angles and their distribution: density sin^(d-2) exp(kappa cos), integrated numerically."""
    width = min(math.pi, 12 * math.sqrt(dim / max(kappa, 1e-9)))
    angle = np.linspace(0, width, 400_001)[1:-1]
    log = (dim - 2) * np.log(np.sin(angle)) - 2 * kappa * np.sin(angle / 2) ** 2
    mass = np.cumsum(np.exp(log - log.max()))
    return angle, mass / mass[-1]


def _angles(z: Tensor, mu: Tensor) -> np.ndarray:
    return 2 * torch.arcsin(((z - mu).double().norm(dim=1) / 2).clamp(max=1)).numpy()


def _fits(angles: np.ndarray, dim: int, kappa: float) -> float:
    """P value of Kolmogorov and Smirnov."""
    grid, cdf = _angle_cdf(dim, kappa)
    return stats.kstest(angles, lambda x: np.interp(x, grid, cdf)).pvalue


@pytest.mark.parametrize("dim", (2, 3, 16, 128, 256, 2048))
@pytest.mark.parametrize("kappa", (0.0, 1e-3, 10.0, 1024.0, 16384.0, 1e6))
def test_cosine_follows_its_law(dim: int, kappa: float) -> None:
    z, mu = _draws(4000 if dim > 256 else 20_000, dim, kappa, torch.float32)
    assert _fits(_angles(z, mu), dim, kappa) > 1e-3


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
@pytest.mark.parametrize(
    ("dim", "kappa"), [(2, 1.0), (3, 2.0), (8, 50.0), (256, 1e6), (4096, 100.0), (4096, 1e6)]
)
def test_cosine_follows_its_law_in_either_precision(
    dim: int, kappa: float, dtype: torch.dtype
) -> None:
    z, mu = _draws(1000, dim, kappa, dtype)
    assert _fits(_angles(z, mu), dim, kappa) > 1e-3


def test_cosine_has_the_closed_form_of_three_dimensions() -> None:
    """P(cosine <= w) = (exp(kappa w) - exp(-kappa)) / (exp(kappa) - exp(-kappa))."""
    for kappa in (0.5, 10.0, 300.0):
        z, mu = _draws(20_000, 3, kappa, torch.float32)
        gap = 2 * np.sin(_angles(z, mu) / 2) ** 2
        above = np.expm1(-kappa * gap) / np.expm1(-2 * kappa)  # P(gap' <= gap)
        assert stats.kstest(above, "uniform").pvalue > 1e-3


@pytest.mark.parametrize(("dim", "kappa"), [(2, 3.0), (16, 10.0), (128, 1024.0)])
def test_draws_are_scipys(dim: int, kappa: float) -> None:
    """Along the mean, along an axis, and along a direction oblique to both."""
    ours, mean = _draws(4000, dim, kappa, torch.float32)
    law = stats.vonmises_fisher(F.normalize(mean[0].double(), dim=0).numpy(), kappa, seed=1)
    theirs = torch.from_numpy(law.rvs(4000))
    for along in (mean[0], torch.eye(dim)[1], _units(2, dim, torch.float32)[1]):
        pair = (ours @ along, theirs.float() @ along)
        assert stats.ks_2samp(*(x.double().numpy() for x in pair)).pvalue > 1e-3


@pytest.mark.parametrize(("dim", "kappa"), [(2, 5.0), (3, 0.0), (6, 20.0), (16, 1e6)])
def test_moments_of_the_vector(dim: int, kappa: float) -> None:
    """Mean A mu, and second moments isotropic around mu, within 5 standard errors."""
    n = 10_000
    z, mu = _draws(n, dim, kappa, torch.float64)
    a = vmf.mean_resultant(kappa, dim)
    along = 1 - (dim - 1) * (a / kappa if kappa else 1 / dim)  # E[(mu.z)^2]
    across = (1 - along) / (dim - 1)
    outer = mu[0, :, None] * mu[0]
    second = along * outer + across * (torch.eye(dim, dtype=torch.float64) - outer)
    products = z[:, :, None] * z[:, None, :]
    for sampled, exact in ((z, a * mu[0]), (products, second)):
        error = (sampled.mean(dim=0) - exact).abs()
        assert (error <= 5 * sampled.std(dim=0) / math.sqrt(n) + 1e-12).all()


@pytest.mark.parametrize("case", golden.cases("vmf", lambda c: c.name.startswith("householder")))
def test_map_and_gradient_are_the_references(case: golden.Case) -> None:
    mu = case["mu"].requires_grad_()
    z = vmf.reflect(case["base"], mu)
    torch.testing.assert_close(z, case["z"], rtol=0, atol=1e-14)
    (z * case["cotangent"]).sum().backward()
    torch.testing.assert_close(mu.grad, case["grad_mu"], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("case", golden.cases("vmf", lambda c: "cos_quantiles" in c))
def test_quantiles_of_the_cosine(case: golden.Case) -> None:
    levels, n = case["cos_quantile_levels"], 2000
    for kappa, exact in zip(case["kappas"].tolist(), case["cos_quantiles"], strict=True):
        z, mu = _draws(n, case.settings["dim"], kappa, torch.float64)
        below = ((z * mu).sum(dim=1)[:, None] <= exact).double().mean(dim=0)
        assert ((below - levels).abs() <= 5 * torch.sqrt(levels * (1 - levels) / n)).all(), kappa


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
def test_codes_are_unit_and_finite_even_at_the_first_axis(dtype: torch.dtype) -> None:
    eps = torch.finfo(dtype).eps
    for dim in (2, 3, 64, 4096):
        axis = F.one_hot(torch.tensor(0), dim).to(dtype)
        nudge = torch.zeros(dim, dtype=dtype).index_fill(0, torch.tensor([1]), 1e-5)
        mu = torch.stack((axis, -axis, F.normalize(axis + nudge, dim=0))).requires_grad_()
        for kappa in (0.0, 1.0, 1e6):
            z = vmf.sample(mu, kappa, generator=torch.Generator().manual_seed(0))
            assert z.dtype == dtype
            assert (z.norm(dim=1) - 1).abs().max() <= 4 * eps
            (gradient,) = torch.autograd.grad(z.sum(), mu)
            assert gradient.isfinite().all()
            if kappa == 1e6:  # mean cosine 1 - (d - 1)/2e6
                assert ((z - mu).norm(dim=1) <= 5 * math.sqrt(dim / 1e6)).all()


def test_noise_makes_it_a_function() -> None:
    noise = vmf.draw(generator=torch.Generator().manual_seed(1))
    mu = _units(5, 16, torch.float32)
    z = vmf.sample(mu, 100.0, noise=noise)
    assert torch.equal(z, vmf.sample(mu, 100.0, noise=noise))
    assert torch.equal(z, vmf.sample(mu, 100.0, generator=torch.Generator().manual_seed(1)))
    part = vmf.sample(mu[2:4], 100.0, noise=noise._replace(first=2))
    torch.testing.assert_close(part, z[2:4], rtol=0, atol=1e-7)
    # the same noise at another concentration: nearer or farther along the same great circle
    narrow = vmf.sample(mu, 1e6, noise=noise)
    away, away_narrow = (
        F.normalize(x - (x * mu).sum(dim=1, keepdim=True) * mu, dim=1) for x in (z, narrow)
    )
    torch.testing.assert_close(away, away_narrow, rtol=0, atol=1e-3)


def test_a_call_takes_one_number_from_torch() -> None:
    """So what is drawn afterwards doesn't depend on shapes, and a resumed run draws the same."""
    ours, plain = (torch.Generator().manual_seed(4) for _ in range(2))
    for n, dim in ((1, 2), (300, 17)):
        vmf.sample(_units(n, dim, torch.float32), 3.0, generator=ours)
        torch.randint(2**63 - 1, (), generator=plain)
        assert torch.equal(ours.get_state(), plain.get_state())


def test_a_tensor_of_concentrations_equals_numbers() -> None:
    noise = vmf.draw()
    mu = _units(3, 16)
    each = torch.tensor([0.0, 5.0, 1e5], dtype=torch.float64)
    z = vmf.sample(mu, each, noise=noise)
    for i, kappa in enumerate(each.tolist()):
        torch.testing.assert_close(z[i], vmf.sample(mu, kappa, noise=noise)[i])
    scalar = vmf.sample(mu, torch.tensor(5.0, dtype=torch.float64), noise=noise)
    torch.testing.assert_close(scalar, vmf.sample(mu, 5.0, noise=noise))


def test_first_accepted_proposal_counts_and_the_last_one_if_none_is() -> None:
    tries = vmf_variates.proposals(vmf.draw(), 64)
    assert tries.accept.shape == (64, vmf_variates.PROPOSALS)
    never = tries._replace(accept=torch.ones_like(tries.accept))  # log 1: the peak only
    last = vmf_variates.Proposals(*(field[:, -1:] for field in never))
    assert torch.equal(vmf_variates.gaps(never, 9.0, 8), vmf_variates.gaps(last, 9.0, 8))
    always = tries._replace(accept=torch.full_like(tries.accept, 1e-15))
    first = vmf_variates.Proposals(*(field[:, :1] for field in always))
    assert torch.equal(vmf_variates.gaps(always, 9.0, 8), vmf_variates.gaps(first, 9.0, 8))


def test_the_reflection_keeps_the_cosine_so_it_has_no_gradient() -> None:
    """mu.z = w whatever mu is: why log e(z|x) trains nothing."""
    mu = F.normalize(_units(6, 32), dim=1).requires_grad_()
    z = vmf.sample(mu, 50.0)
    (gradient,) = torch.autograd.grad((z * mu).sum(), mu)
    radial = (gradient * mu).sum(dim=1, keepdim=True) * mu
    assert (gradient - radial).abs().max() < 1e-12


_ONE_GRAPH = """
import torch
from squint.ops import vmf
mu, noise = torch.nn.functional.normalize(torch.randn(6, 16), dim=1), vmf.draw()
traced = torch.compile(vmf.sample, fullgraph=True, backend="aot_eager")
assert torch.equal(
    traced(mu, 50.0, noise=noise), vmf.sample(mu, 50.0, noise=noise, path="reference")
)
assert traced(mu, 50.0).shape == mu.shape
"""


@pytest.mark.slow  # torch starts anew, and its compiler
def test_it_is_one_graph() -> None:
    """No step waits for a value: the tracer would break the graph there, and refuse.

    In a process of its own, for it can't trace the shape checks of this one.
    """
    subprocess.run([sys.executable, "-c", _ONE_GRAPH], check=True)


def test_noise_and_generator_exclude_each_other() -> None:
    with pytest.raises(RecipeError, match="one of the two"):
        vmf.sample(_units(2, 4), 1.0, generator=torch.Generator(), noise=vmf.draw())
