"""Rates and information against integrals over the circle and the sphere, and against scipy."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import integrate, special, stats
from torch import Tensor

from squint.compression import information
from squint.compression.backward import BackwardEncoder, fit_backward
from squint.ops import vmf
from squint.ops.contrast import info_cap_nats


def units(n: int, dim: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn((n, dim), generator=generator, dtype=torch.float64), dim=1)


def within(values: Tensor, expected: float, errors: float = 5.0) -> bool:
    """Whether the mean lies within so many standard errors."""
    return abs(values.mean().item() - expected) < errors * values.std().item() / len(values) ** 0.5


@pytest.mark.parametrize(("dim", "kappa_e", "kappa_b"), [(3, 20.0, 4.0), (128, 1024.0, 5.0)])
def test_closed_form_is_the_mean_of_the_sampled_rate(
    dim: int, kappa_e: float, kappa_b: float
) -> None:
    n = 20_000
    h, y = units(1, dim).expand(n, -1), units(1, dim, seed=1).expand(n, -1)
    z = vmf.sample(h, kappa_e, generator=torch.Generator().manual_seed(0))
    sampled = information.sampled_rate(z, h, y, kappa_e, kappa_b)
    assert within(sampled, information.rate(h, y, kappa_e, kappa_b)[0].item())


def test_the_rate_is_cross_entropy_minus_entropy() -> None:
    n, dim = 20_000, 5
    h, y = units(1, dim).expand(n, -1), units(1, dim, seed=1).expand(n, -1)
    z = vmf.sample(h, 30.0, generator=torch.Generator().manual_seed(0))
    cross = information.cross_entropy(z, y, 3.0)
    expected = information.rate(h, y, 30.0, 3.0)[0] + vmf.entropy(30.0, dim)
    assert within(cross, expected.item())


@pytest.mark.parametrize("kappa", [0.5, 4.0, 60.0])
def test_entropy_is_that_of_scipy(kappa: float) -> None:
    for dim in (2, 3, 7):
        mean = np.eye(dim)[0]
        expected = stats.vonmises_fisher(mean, kappa).entropy()
        assert float(vmf.entropy(kappa, dim)) == pytest.approx(expected, abs=1e-9)


def circle_information(angles: list[float], kappa: float) -> float:
    """I(Y;Z) in nats by numerical integration; Y one of the angles, Z von Mises around it."""

    def density(theta: float) -> np.ndarray:
        around = np.cos(theta - np.array(angles))
        return np.exp(kappa * (around - 1)) / (2 * math.pi * special.ive(0, kappa))

    def integrand(theta: float) -> float:
        p = density(theta)
        return float((special.xlogy(p, p) - special.xlogy(p, p.mean())).mean())

    return integrate.quad(integrand, 0, 2 * math.pi, limit=400, epsabs=1e-10)[0]


@pytest.mark.parametrize("kappa", [0.7, 5.0, 50.0])
def test_information_about_a_known_mixture_on_the_circle(kappa: float) -> None:
    angles = [0.0, 0.4, 1.5, 3.0, 5.2]
    theta = torch.tensor(angles, dtype=torch.float64)
    candidates = torch.stack([theta.cos(), theta.sin()], dim=1)
    own = torch.arange(5).repeat(8_000)
    z = vmf.sample(candidates[own], kappa, generator=torch.Generator().manual_seed(0))
    values = information.contrast_info(z, candidates, own, kappa)
    assert within(values, circle_information(angles, kappa))


def test_information_about_two_opposite_poles_of_the_sphere() -> None:
    """With w the cosine to the right pole, p(w) = kappa e^(kappa w) / (2 sinh kappa)."""
    kappa = 1.3
    candidates = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]], dtype=torch.float64)
    own = torch.arange(2).repeat(20_000)
    z = vmf.sample(candidates[own], kappa, generator=torch.Generator().manual_seed(1))

    def integrand(w: float) -> float:
        told = math.log(2 / (1 + math.exp(-2 * kappa * w)))
        return kappa * math.exp(kappa * w) / (2 * math.sinh(kappa)) * told

    expected = integrate.quad(integrand, -1, 1)[0]
    assert within(information.contrast_info(z, candidates, own, kappa), expected)


@pytest.mark.parametrize(("dim", "kappa"), [(8, 3.0), (64, 3.0), (64, 12.0)])
def test_information_about_opposite_poles_in_many_dimensions(dim: int, kappa: float) -> None:
    """The cosine w to the right pole has a density of (1 - w^2)^((dim - 3) / 2) e^(kappa w)."""
    pole = F.one_hot(torch.tensor(0), dim).double()
    candidates = torch.stack([pole, -pole])
    own = torch.arange(2).repeat(20_000)
    z = vmf.sample(candidates[own], kappa, generator=torch.Generator().manual_seed(2))

    power = (dim - 3) / 2
    mode = (math.hypot(power, kappa) - power) / kappa

    def law(w: float) -> float:
        """Relative to that of the mode, or quadrature would take it for nothing."""
        bend = (1 - w * w) / (1 - mode * mode)
        return bend**power * math.exp(kappa * (w - mode))

    total = integrate.quad(law, -1, 1)[0]
    told = integrate.quad(lambda w: law(w) * math.log(2 / (1 + math.exp(-2 * kappa * w))), -1, 1)[0]
    values = information.contrast_info(z, candidates, own, kappa)
    assert within(values, told / total)
    assert values.mean() < info_cap_nats(2)


def test_the_bound_rises_with_the_bank_and_stays_below_the_truth() -> None:
    """Y uniform on the circle: I(Y;Z) = log 2 pi - entropy of the von Mises law."""
    kappa, n = 30.0, 4_000
    generator = torch.Generator().manual_seed(0)
    theta = 2 * math.pi * torch.rand(n, generator=generator, dtype=torch.float64)
    y = torch.stack([theta.cos(), theta.sin()], dim=1)
    z = vmf.sample(y, kappa, generator=generator)
    truth = math.log(2 * math.pi) - float(vmf.entropy(kappa, 2))
    own = torch.arange(n)
    means = []
    for k in (4, 50, n):
        blocks = zip(z.split(k), y.split(k), own.split(k), strict=True)
        values = torch.cat(
            [information.contrast_info(a, b, rows - rows[0], kappa) for a, b, rows in blocks]
        )
        assert values.max() <= info_cap_nats(k) + 1e-9
        means.append(values.mean().item())
    assert means == sorted(means)
    assert means[-1] == pytest.approx(truth, abs=0.05)
    assert means[0] < info_cap_nats(4) < truth


def test_candidates_that_equal_each_other_tell_nothing() -> None:
    y = units(1, 4).expand(6, -1)
    values = information.contrast_info(units(6, 4, seed=2), y, torch.arange(6), 10.0)
    torch.testing.assert_close(values, torch.zeros(6, dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("dim", [2, 3, 64, 2048])
@pytest.mark.parametrize("kappa", [1e-3, 1.0, 40.0, 3000.0])
def test_concentration_inverts_the_mean_cosine(dim: int, kappa: float) -> None:
    resultant = float(vmf.mean_resultant(kappa, dim))
    assert information.concentration(resultant, dim) == pytest.approx(kappa, rel=1e-6)
    assert information.concentration(-resultant, dim) == 0.0


def test_the_fit_finds_a_rotation_and_its_concentration() -> None:
    """h is a noisy rotation of y: the best head is the rotation, the best kappa known."""
    n, dim, kappa_e, kappa = 3_000, 6, 200.0, 25.0
    y = units(n, dim).float()
    rotation = torch.linalg.qr(units(dim, dim, seed=3).float())[0]
    mean = y @ rotation
    h = vmf.sample(mean, kappa, generator=torch.Generator().manual_seed(0))
    fit = fit_backward(y, h, kappa_e=kappa_e)
    cosine = (fit.encoder(y) * mean).sum(dim=1).mean().item()
    assert cosine > 0.995
    # z around h around the rotation: cosines multiply
    resultant = float(vmf.mean_resultant(kappa_e, dim)) * float(vmf.mean_resultant(kappa, dim))
    assert fit.kappa_b == pytest.approx(information.concentration(resultant, dim), rel=0.05)


def test_the_fitted_concentration_has_the_lowest_rate_on_held_out_pairs() -> None:
    y, kappa_e = units(2_000, 5).float(), 50.0
    h = vmf.sample(y, 8.0, generator=torch.Generator().manual_seed(0))
    fit = fit_backward(y, h, kappa_e=kappa_e)
    y, h = y[fit.held], h[fit.held]
    direction = fit.encoder(y)

    def mean_rate(kappa_b: float) -> float:
        return information.rate(h, direction, kappa_e, kappa_b).mean().item()

    least = mean_rate(fit.kappa_b)
    assert least < min(mean_rate(0.9 * fit.kappa_b), mean_rate(1.1 * fit.kappa_b))
    assert least < information.rate(h, y, kappa_e, fit.kappa_b).mean() + 0.02


def test_a_head_with_a_hidden_layer_predicts_what_a_linear_one_cannot() -> None:
    y = units(4_000, 3).float()
    h = F.normalize(torch.cat([y[:, :1].abs(), y[:, 1:2], 0 * y[:, 2:] + 0.2], dim=1), dim=1)
    linear = fit_backward(y, h, kappa_e=100.0)
    mlp = fit_backward(y, h, kappa_e=100.0, kind="mlp")
    assert 1 - mlp.cosine < 0.5 * (1 - linear.cosine)
    assert mlp.kappa_b > linear.kappa_b


def test_unrelated_views_leave_the_uniform_law() -> None:
    y, h = units(3_000, 40).float(), units(3_000, 40, seed=9).float()
    fit = fit_backward(y, h, kappa_e=100.0)
    assert fit.kappa_b < 10.0
    rate = information.rate(h, fit.encoder(y), 100.0, fit.kappa_b).mean().item()
    uniform = float(vmf.log_normalizer(0.0, 40) + vmf.entropy(100.0, 40))
    assert rate == pytest.approx(-uniform, rel=0.05)


def test_the_fit_leaves_generators_alone_and_starts_as_the_identity() -> None:
    y = units(50, 4).float()
    torch.testing.assert_close(BackwardEncoder(4, "mlp")(y), y)
    before = torch.get_rng_state()
    first = fit_backward(y, units(50, 4, seed=1).float(), kappa_e=10.0, epochs=2)
    assert torch.equal(torch.get_rng_state(), before)
    again = fit_backward(y, units(50, 4, seed=1).float(), kappa_e=10.0, epochs=2)
    assert first.kappa_b == again.kappa_b


def test_no_view_of_a_held_out_image_is_fitted() -> None:
    """With as many numbers as pairs the head knows fitted images by heart, and no others."""
    n, dim = 100, 100
    first, second = units(n, dim).float(), units(n, dim, seed=1).float()  # unrelated
    y, h, images = torch.cat([second, first]), torch.cat([first, second]), torch.arange(n).repeat(2)
    fit = fit_backward(y, h, kappa_e=1000.0, images=images, epochs=5)
    assert len(fit.held) == 20 and torch.equal(fit.held[:10] + n, fit.held[10:])
    others = torch.ones(2 * n, dtype=torch.bool).index_fill(0, fit.held, False)
    cosines = (fit.encoder(y) * h).sum(dim=1)
    assert fit.cosine == pytest.approx(cosines[fit.held].mean().item(), abs=1e-6)
    assert fit.cosine < 0.1 < 0.3 < cosines[others].mean()
    expected = float(vmf.mean_resultant(1000.0, dim)) * fit.cosine
    assert fit.kappa_b == pytest.approx(information.concentration(expected, dim))
    one = fit_backward(y[:1], h[:1], kappa_e=1000.0, epochs=1)
    assert one.held.tolist() == [0]
