"""The normaliser and its derivatives against 50-digit arithmetic over the whole range."""

from functools import cache

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import golden
from squint.errors import RecipeError
from squint.ops import vmf
from squint.ops.vmf_normalizer import constants

# 49 to 51: where the descent from a higher dimension ends.
DIMS = (2, 3, 4, 5, 8, 17, 32, 49, 50, 51, 64, 128, 256, 1000, 4096)
KAPPAS = (0.0, 1e-8, 1e-3, 0.3, 1.0, 4.0, 10.0, 64.0, 300.0, 1024.0, 16384.0, 1e6)


@cache
def _exact(dim: int, kappa: float) -> tuple[mpmath.mpf, ...]:
    """log C + kappa, A, 1 - A, dA/dkappa, entropy from Bessel functions of 50 digits."""
    with mpmath.workdps(50):
        d, k = mpmath.mpf(dim), mpmath.mpf(kappa)
        if kappa == 0:
            log_c = mpmath.loggamma(d / 2) - mpmath.log(2) - d / 2 * mpmath.log(mpmath.pi)
            return log_c, mpmath.mpf(0), mpmath.mpf(1), 1 / d, -log_c
        bessel = mpmath.besseli(d / 2 - 1, k)
        a = mpmath.besseli(d / 2, k) / bessel
        log_c = (d / 2 - 1) * mpmath.log(k) - d / 2 * mpmath.log(2 * mpmath.pi) - mpmath.log(bessel)
        return log_c + k, a, 1 - a, 1 - a**2 - (d - 1) * a / k, -log_c - k * a


def _error(ours: Tensor, exact: mpmath.mpf) -> float:
    with mpmath.workdps(50):
        return float(abs(mpmath.mpf(ours.item()) - exact))


@pytest.mark.parametrize("dim", DIMS)
def test_constants_and_derivatives(dim: int) -> None:
    for value in KAPPAS:
        kappa = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        scaled, a, gap, slope, entropy = _exact(dim, value)
        law = constants(kappa, dim)
        assert _error(law.scaled, scaled) <= 1e-13 + 1e-15 * abs(scaled), (dim, value)
        assert _error(law.entropy, entropy) <= 3e-13 + 1e-15 * abs(entropy), (dim, value)
        assert _error(law.resultant, a) <= 1e-13 * a, (dim, value)
        assert _error(law.gap, gap) <= 5e-13 * gap, (dim, value)
        slopes = [torch.autograd.grad(x, kappa, retain_graph=True)[0] for x in law]
        assert _error(slopes[0], -a) <= 1e-13 * a, (dim, value)
        assert _error(slopes[1], gap) <= 5e-13 * gap, (dim, value)
        assert _error(slopes[2], slope) <= 1e-12 * slope, (dim, value)
        assert _error(slopes[3], -slope) <= 1e-12 * slope, (dim, value)
        assert _error(slopes[4], -value * slope) <= 1e-12 * value * slope, (dim, value)


@pytest.mark.parametrize("dim", (2, 3, 50, 256, 4096))
def test_float32_is_float64_rounded(dim: int) -> None:
    single = torch.tensor(KAPPAS, dtype=torch.float32, requires_grad=True)
    double = single.detach().double().requires_grad_()
    for function in (vmf.log_normalizer, vmf.mean_resultant, vmf.entropy):
        low, high = function(single, dim), function(double, dim)
        assert low.dtype == torch.float32
        assert torch.equal(low, high.float())
        (by_low,) = torch.autograd.grad(low.sum(), single)
        (by_high,) = torch.autograd.grad(high.sum(), double)
        assert torch.equal(by_low, by_high.float()) and by_low.isfinite().all()


def test_numbers_of_the_methods_sheet() -> None:
    for dim, values in {
        256: (344.139711, -366.697533, -15380.569386),
        128: (126.663996, -698.618533, -15884.376230),
    }.items():
        for kappa, value in zip((10.0, 1024.0, 16384.0), values, strict=True):
            assert vmf.log_normalizer(kappa, dim).item() == pytest.approx(value, abs=1e-6)
    for kappa, value in {10.0: 0.0390035, 1024.0: 0.8831571, 16384.0: 0.9922481}.items():
        assert vmf.mean_resultant(kappa, 256).item() == pytest.approx(value, abs=1e-7)


@pytest.mark.parametrize("case", golden.cases("vmf", lambda c: "kappas" in c))
def test_tensorflow_probability_and_mpmath(case: golden.Case) -> None:
    kappas, dim = case["kappas"], case.settings["dim"]
    law = constants(kappas, dim)
    for ours, field in (
        (law.scaled, "log_norm_plus_kappa_exact"),
        (vmf.log_normalizer(kappas, dim), "log_norm_exact"),
        (vmf.mean_resultant(kappas, dim), "ratio_exact"),
        (vmf.entropy(kappas, dim), "entropy_exact"),
    ):
        torch.testing.assert_close(ours, case[field], rtol=1e-12, atol=1e-12)
    kappas.requires_grad_()
    (slope,) = torch.autograd.grad(vmf.mean_resultant(kappas, dim).sum(), kappas)
    torch.testing.assert_close(slope, case["ratio_derivative_exact"], rtol=1e-9, atol=1e-18)


@settings(deadline=None, max_examples=50)
@given(dim=st.integers(2, 4096), kappa=st.floats(1e-3, 1e6), more=st.floats(1.001, 10))
def test_resultant_rises_between_its_bounds(dim: int, kappa: float, more: float) -> None:
    a, above = vmf.mean_resultant(
        torch.tensor([kappa, kappa * more], dtype=torch.float64), dim
    ).tolist()
    nu = dim / 2 - 1
    assert a < above < 1
    assert kappa / (nu + 0.5 + (kappa**2 + (nu + 1.5) ** 2) ** 0.5) <= a * (1 + 1e-13)
    assert a <= kappa / (nu + (kappa**2 + (nu + 2) ** 2) ** 0.5) * (1 + 1e-13)
    assert a <= kappa / (nu + 0.5 + (kappa**2 + (nu + 0.5) ** 2) ** 0.5) * (1 + 1e-13)


def test_numbers_and_tensors_of_any_shape_agree() -> None:
    kappas = torch.tensor([[0.0, 10.0], [1024.0, 3.5]], dtype=torch.float64)
    law = constants(kappas, 64)
    assert law.scaled.shape == (2, 2)
    for i in range(2):
        for j in range(2):
            single = constants(kappas[i, j].item(), 64)
            assert [x[i, j].item() for x in law] == [x.item() for x in single]


def test_constants_of_numbers_can_be_shared_and_changed() -> None:
    """They're cached, so neither inference mode nor work in place may spoil the next caller's."""
    with torch.inference_mode():
        vmf.mean_resultant(77.0, 16).zero_()
    leaf = torch.ones(3, dtype=torch.float64, requires_grad=True)
    (vmf.mean_resultant(77.0, 16) * leaf).sum().backward()
    assert leaf.grad is not None and leaf.grad[0] > 0.9


def test_second_derivatives_are_refused_rather_than_wrong() -> None:
    kappa = torch.tensor(3.0, requires_grad=True)
    value = vmf.log_normalizer(kappa, 8).square()
    (first,) = torch.autograd.grad(value, kappa, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.backward()


@pytest.mark.parametrize("kappa", (-1.0, float("inf"), float("nan")))
def test_impossible_concentrations_are_refused(kappa: float) -> None:
    mu = torch.eye(8)[:1]
    for attempt in (vmf.log_normalizer, lambda kappa, _: vmf.sample(mu, kappa)):
        with pytest.raises(RecipeError, match="finite number >= 0"):
            attempt(kappa, 8)


def test_a_sphere_needs_two_dimensions() -> None:
    with pytest.raises(RecipeError, match="dim=1"):
        vmf.entropy(1.0, 1)
    with pytest.raises(RecipeError, match="dim=1"):
        vmf.sample(torch.ones(1, 1), 1.0)
