"""Densities and divergences: exact numbers, both dtypes, gradients, and what must always hold."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import golden
from squint.ops import vmf

DIMS = (2, 3, 8, 256, 4096)
KAPPAS = (0.0, 1e-3, 1.0, 10.0, 1024.0, 16384.0, 1e6)


def _units(n: int, dim: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn((n, dim), generator=generator, dtype=torch.float64), dim=1)


def _near(mu: Tensor, angle: Tensor, seed: int = 1) -> Tensor:
    """Unit rows at the given angles (n,) from the rows of mu."""
    away = _units(len(mu), mu.shape[1], seed)
    away = F.normalize(away - (away * mu).sum(dim=1, keepdim=True) * mu, dim=1)
    return torch.cos(angle)[:, None] * mu + torch.sin(angle)[:, None] * away


@pytest.mark.parametrize("case", golden.cases("vmf", lambda c: "kappas" in c))
def test_log_prob_is_exact(case: golden.Case) -> None:
    x = case["x"]
    mu = case["mu"].expand_as(x)
    for i, value in enumerate(case["kappas"].tolist()):
        kappa = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        ours = vmf.log_prob(x, mu, kappa)
        torch.testing.assert_close(ours, case["log_prob_exact"][i], rtol=1e-12, atol=1e-11)
        torch.testing.assert_close(vmf.log_prob(x, mu, value), ours)
        (by_kappa,) = torch.autograd.grad(ours.sum(), kappa)
        exact = case["sum_dlogprob_dkappa_exact"][i]
        torch.testing.assert_close(by_kappa, exact, rtol=1e-12, atol=1e-12)
        # the official code in float64 is 1e-9 off the exact numbers, and has no slope at 0
        torch.testing.assert_close(ours, case["log_prob_tfp64"][i], rtol=1e-9, atol=1e-9)
        if value:
            official = case["sum_dlogprob_dkappa_tfp64"][i]
            torch.testing.assert_close(by_kappa, official, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", golden.cases("vmf", lambda c: "kappas" in c))
def test_moments_of_the_cosine_are_exact(case: golden.Case) -> None:
    kappa = case["kappas"].requires_grad_()
    mean = vmf.mean_resultant(kappa, case.settings["dim"])
    (variance,) = torch.autograd.grad(mean.sum(), kappa)
    torch.testing.assert_close(mean, case["cos_mean_exact"], rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(variance, case["cos_var_exact"], rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("dim", DIMS)
def test_log_prob_in_float32_has_float32_accuracy(dim: int) -> None:
    """At the angles where codes lie, of order sqrt(dim / kappa); the naive form fails this."""
    for kappa in KAPPAS:
        mu = _units(8, dim).float()
        angle = torch.linspace(0, min(math.pi, 3 * math.sqrt(dim / max(kappa, 1e-9))), 8)
        z = _near(mu.double(), angle.double()).float()
        exact = vmf.log_prob(F.normalize(z.double(), dim=1), F.normalize(mu.double(), dim=1), kappa)
        ours = vmf.log_prob(z, mu, kappa)
        assert ours.dtype == torch.float32
        # rounding the codes themselves moves an angle by 6e-8
        from_rounding = 2e-7 * kappa * torch.sin(angle / 2)
        bound = from_rounding + 4e-7 * (exact.abs() + kappa * (1 - torch.cos(angle))) + 1e-6
        assert ((ours - exact).abs() <= bound).all(), (dim, kappa)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
def test_values_and_gradients_are_finite_everywhere(dim: int, dtype: torch.dtype) -> None:
    mu = torch.cat((_units(3, dim), torch.eye(dim, dtype=torch.float64)[:1])).to(dtype)
    other = torch.stack((mu[0], -mu[1], mu[3], mu[3]))  # equal, opposite, any, the first axis
    for kappa in KAPPAS:
        leaves = [
            mu.clone().requires_grad_(),
            torch.full((4,), kappa, dtype=dtype, requires_grad=True),
            other.clone().requires_grad_(),
            torch.tensor(kappa / 3, dtype=dtype, requires_grad=True),
        ]
        a, kappa1, b, kappa2 = leaves
        for value in (
            vmf.kl(a, kappa1, b, kappa2),
            vmf.kl(b, kappa2, a, kappa1),
            vmf.log_prob(a, b, kappa1) + vmf.log_prob(b, a, kappa2),
            vmf.entropy(kappa1, dim) + vmf.mean_resultant(kappa2, dim),
        ):
            assert value.shape == (4,) and value.dtype == dtype and value.isfinite().all()
            gradients = torch.autograd.grad(value.sum(), leaves, allow_unused=True)
            assert all(g.isfinite().all() for g in gradients if g is not None), (dim, kappa)


@pytest.mark.parametrize("case", golden.cases("vmf", lambda c: c.name == "kl"))
def test_kl_is_exact(case: golden.Case) -> None:
    for dim, kappa1, kappa2, cosine, exact in case["table"].tolist():
        mu1, mu2 = torch.zeros((2, 1, int(dim)), dtype=torch.float64)
        mu1[0, 0], mu2[0, 0], mu2[0, 1] = 1, cosine, math.sqrt(1 - cosine**2)
        ours = vmf.kl(mu1, kappa1, mu2, kappa2).item()
        assert ours == pytest.approx(exact, rel=1e-12, abs=1e-11)


def test_kl_of_the_methods_sheet() -> None:
    mu = _units(1, 256)
    assert vmf.kl(mu, 1024.0, mu, 10.0).item() == pytest.approx(184.68, abs=5e-3)
    assert vmf.kl(mu, 16384.0, mu, 10.0).item() == pytest.approx(522.36, abs=5e-3)


concentrations = st.floats(0, 1e6, allow_subnormal=False)


@settings(deadline=None, max_examples=40)
@given(dim=st.integers(2, 600), k1=concentrations, k2=concentrations, angle=st.floats(0, math.pi))
def test_kl_is_never_negative_and_zero_only_for_equal_laws(
    dim: int, k1: float, k2: float, angle: float
) -> None:
    mu1 = _units(1, dim)
    mu2 = _near(mu1, torch.tensor([angle], dtype=torch.float64))
    value = vmf.kl(mu1, k1, mu2, k2).item()
    assert value >= 0
    assert vmf.kl(mu1, k1, mu1, k1).item() == 0
    apart = k1 * k2 / (k1 + dim) * (1 - math.cos(angle)) + (k1 - k2) ** 2 / (k1 + k2 + dim) ** 2
    if apart > 1e-6:
        assert value > 0


def test_kl_of_nearly_equal_concentrations_is_not_rounded_below_zero() -> None:
    for dim in DIMS:
        mu = _units(1, dim)
        for kappa in torch.logspace(-2, 6, 50, dtype=torch.float64).tolist():
            assert vmf.kl(mu, kappa, mu, kappa * (1 + 1e-9)).item() >= 0


@settings(deadline=None, max_examples=40)
@given(dim=st.integers(2, 4096), kappa=concentrations)
def test_kl_to_the_uniform_law_is_the_entropy_lost(dim: int, kappa: float) -> None:
    mu = _units(1, dim)
    lost = (vmf.entropy(0.0, dim) - vmf.entropy(kappa, dim)).item()
    assert vmf.kl(mu, kappa, -mu, 0.0).item() == pytest.approx(lost, rel=1e-12, abs=5e-12)


@pytest.mark.parametrize(("dim", "value"), [(2, 0.5), (3, 300.0), (9, 10.0)])
def test_gradients_equal_finite_differences(dim: int, value: float) -> None:
    mu1, mu2 = _units(3, dim).requires_grad_(), _units(3, dim, seed=2).requires_grad_()
    each = torch.tensor([value, 2 * value, 0.3], dtype=torch.float64, requires_grad=True)
    one = torch.tensor(value / 2, dtype=torch.float64, requires_grad=True)

    def kl(a: Tensor, kappa1: Tensor, b: Tensor, kappa2: Tensor) -> Tensor:
        return vmf.kl(F.normalize(a, dim=1), kappa1, F.normalize(b, dim=1), kappa2)

    def log_prob(z: Tensor, mu: Tensor, kappa: Tensor) -> Tensor:
        return vmf.log_prob(F.normalize(z, dim=1), F.normalize(mu, dim=1), kappa)

    assert torch.autograd.gradcheck(kl, (mu1, each, mu2, one))
    assert torch.autograd.gradcheck(kl, (mu1, one, mu2, each))
    assert torch.autograd.gradcheck(log_prob, (mu1, mu2, each))
    assert torch.autograd.gradcheck(lambda kappa: vmf.entropy(kappa, dim), (each,))


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
def test_gradients_in_directions_are_those_of_the_cosine(dtype: torch.dtype) -> None:
    """kappa mu in z, not kappa (mu - z), which is the same on the sphere only."""
    z, mu = (_units(4, 16, seed).to(dtype).requires_grad_() for seed in (0, 1))
    by_z, by_mu = torch.autograd.grad(vmf.log_prob(z, mu, 1000.0).sum(), (z, mu))
    torch.testing.assert_close(by_z, 1000 * mu)
    torch.testing.assert_close(by_mu, 1000 * z)
    pull = 10 * vmf.mean_resultant(1000.0, 16).to(dtype)
    by_z, by_mu = torch.autograd.grad(vmf.kl(z, 1000.0, mu, 10.0).sum(), (z, mu))
    torch.testing.assert_close(by_z, -pull * mu)
    torch.testing.assert_close(by_mu, -pull * z)


def test_second_derivatives_in_directions_are_those_of_the_cosine() -> None:
    z, mu = (_units(1, 3, seed).requires_grad_() for seed in (0, 1))
    whole = torch.autograd.functional.hessian(
        lambda z, mu: vmf.log_prob(z, mu, 7.0).sum() - vmf.kl(z, 5.0, mu, 2.0).sum(), (z, mu)
    )
    (by_zz, by_zmu), (by_muz, by_mumu) = ([part.reshape(3, 3) for part in row] for row in whole)
    mixed = (7 + 2 * vmf.mean_resultant(5.0, 3)) * torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(by_zmu, mixed)
    torch.testing.assert_close(by_muz, mixed)
    assert by_zz.abs().max() == 0 and by_mumu.abs().max() == 0


def test_one_concentration_or_one_per_row() -> None:
    mu, z = _units(3, 16), _units(3, 16, seed=3)
    each = torch.tensor([0.0, 5.0, 700.0], dtype=torch.float64)
    by_row = [vmf.log_prob(z[i : i + 1], mu[i : i + 1], each[i].item()) for i in range(3)]
    assert torch.equal(vmf.log_prob(z, mu, each), torch.cat(by_row))
    by_row = [vmf.kl(z[i : i + 1], each[i].item(), mu[i : i + 1], 2.0) for i in range(3)]
    assert torch.equal(vmf.kl(z, each, mu, 2.0), torch.cat(by_row))


def test_half_precision_ends_at_the_codes() -> None:
    mu, z = _units(4, 64).float(), _near(_units(4, 64), torch.full((4,), 0.2).double()).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = vmf.log_prob(z, mu, 16384.0), vmf.kl(z, 16384.0, mu, 10.0)
    assert torch.equal(under[0], vmf.log_prob(z, mu, 16384.0))
    assert torch.equal(under[1], vmf.kl(z, 16384.0, mu, 10.0))
    assert vmf.log_prob(z.bfloat16(), mu.bfloat16(), 10.0).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.int64, torch.bfloat16, torch.float16])
def test_concentrations_of_any_dtype_give_float32(dtype: torch.dtype) -> None:
    kappa = torch.tensor([1, 10])
    for constant in (vmf.log_normalizer, vmf.mean_resultant, vmf.entropy):
        found = constant(kappa.to(dtype), 3)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, constant(kappa.double(), 3).float())
