"""Slopes against full singular value decompositions, finite differences, and what is known."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from squint.compression import lipschitz
from squint.nn import encoders
from squint.ops import vmf


def spectral(encoder: nn.Module, images: Tensor) -> Tensor:
    """Largest singular value of the whole Jacobian at each image."""
    found = []
    for image in images:
        jacobian = torch.autograd.functional.jacobian(lambda x: encoder(x[None])[0], image)
        found.append(torch.linalg.matrix_norm(jacobian.flatten(1), ord=2))
    return torch.stack(found)


def test_exact_for_a_linear_map() -> None:
    torch.manual_seed(0)
    u, _ = torch.linalg.qr(torch.randn(20, 12, dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(48, 12, dtype=torch.float64))
    weight = u @ torch.diag(torch.linspace(0.5, 3.7, 12, dtype=torch.float64)) @ v.T
    images = torch.randn(5, 3, 4, 4, dtype=torch.float64)

    def linear(x: Tensor) -> Tensor:
        return x.flatten(1) @ weight.T

    found = lipschitz.steepest(linear, images, iterations=1000, tolerance=1e-13, batch=2)
    torch.testing.assert_close(found, torch.full((5,), 3.7, dtype=torch.float64), rtol=1e-9, atol=0)
    worst = lipschitz.slopes(linear, images, images + v[:, -1].view(1, 3, 4, 4))
    torch.testing.assert_close(worst, found)


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Tanh()])
def test_a_small_network_within_a_percent(activation: nn.Module) -> None:
    torch.manual_seed(0)
    encoder = nn.Sequential(
        nn.Flatten(), nn.Linear(27, 40), activation, nn.Linear(40, 40), activation, nn.Linear(40, 9)
    ).double()
    images = torch.randn(12, 3, 3, 3, dtype=torch.float64)
    expected = spectral(encoder, images)
    found = lipschitz.steepest(encoder, images)
    assert (found <= expected * (1 + 1e-12)).all()
    torch.testing.assert_close(found, expected, rtol=0.01, atol=0)


def test_a_network_of_known_spectrum() -> None:
    """Q diag(s) relu(P x + 9): where every unit is on, the Jacobian is Q diag(s) P."""
    torch.manual_seed(0)
    p, _ = torch.linalg.qr(torch.randn(27, 27, dtype=torch.float64))
    q, _ = torch.linalg.qr(torch.randn(27, 27, dtype=torch.float64))
    spectrum = torch.linspace(0.1, 2.6, 27, dtype=torch.float64)
    hidden, out = nn.Linear(27, 27).double(), nn.Linear(27, 27).double()
    with torch.no_grad():
        hidden.weight.copy_(p)
        hidden.bias.fill_(9.0)
        out.weight.copy_(q * spectrum)
    encoder = nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), out)
    images = torch.rand(6, 3, 3, 3, dtype=torch.float64)  # |P x| < 27 ** 0.5 < 9
    found = lipschitz.steepest(encoder, images)
    torch.testing.assert_close(found, torch.full((6,), 2.6, dtype=torch.float64), rtol=0.01, atol=0)


def test_a_residual_network_and_a_transformer_within_a_percent() -> None:
    torch.manual_seed(0)
    images = torch.randn(3, 3, 16, 16)
    resnet = encoders.build("resnet10", stem="cifar", width=0.0625)
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    transformer = nn.Sequential(nn.Flatten(2), nn.Linear(256, 16), layer, nn.Flatten())
    for encoder in (resnet, transformer):
        encoder = encoder.double().eval()
        expected = spectral(encoder, images.double())
        found = lipschitz.steepest(encoder, images.double())
        torch.testing.assert_close(found, expected, rtol=0.01, atol=0)


def test_images_do_not_depend_on_their_batch_and_no_gradient_is_left() -> None:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(12, 30), nn.ReLU(), nn.Linear(30, 7)).double()
    images = torch.randn(7, 3, 2, 2, dtype=torch.float64)
    whole = lipschitz.steepest(encoder, images, tolerance=1e-9, iterations=2000)
    parts = lipschitz.steepest(encoder, images, tolerance=1e-9, iterations=2000, batch=3)
    torch.testing.assert_close(whole, parts, rtol=1e-5, atol=0)
    assert all(p.grad is None for p in encoder.parameters()) and not whole.requires_grad
    with torch.no_grad():
        lipschitz.steepest(encoder, images)


def test_a_constant_map_has_no_slope() -> None:
    found = lipschitz.steepest(lambda x: 0 * x.flatten(1), torch.randn(3, 2, 2))
    assert torch.equal(found, torch.zeros(3))


def test_slopes_never_exceed_the_steepest_of_a_linear_map_and_skip_equal_images() -> None:
    torch.manual_seed(0)
    images, others = torch.randn(2, 9, 3, 2, 2, dtype=torch.float64)
    weight = torch.randn(6, 12, dtype=torch.float64)
    others[4] = images[4]

    def linear(x: Tensor) -> Tensor:
        return x.flatten(1) @ weight.T

    found = lipschitz.slopes(linear, images, others, batch=4)
    assert found.isnan().tolist() == [i == 4 for i in range(9)]
    most = torch.linalg.matrix_norm(weight, ord=2)
    rest = found[~found.isnan()]
    assert (rest <= most).all()
    near = lipschitz.slopes(linear, images, others, share=1e-3)
    torch.testing.assert_close(near[~near.isnan()], rest)


def test_a_short_step_is_the_directional_derivative() -> None:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(12, 30), nn.Tanh(), nn.Linear(30, 7)).double()
    images, others = torch.randn(2, 5, 3, 2, 2, dtype=torch.float64)
    jacobians = [torch.autograd.functional.jacobian(encoder, x[None])[0, :, 0] for x in images]
    steps = (others - images).flatten(1)
    pushed = torch.stack([j.flatten(1) @ v for j, v in zip(jacobians, steps, strict=True)])
    expected = pushed.norm(dim=1) / (others - images).flatten(1).norm(dim=1)
    found = lipschitz.slopes(encoder, images, others, share=1e-5)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)


def test_the_bound_from_divergences_is_the_slope_of_directions() -> None:
    generator = torch.Generator().manual_seed(0)
    h, other = F.normalize(torch.randn(2, 30, 16, generator=generator, dtype=torch.float64), dim=2)
    distance = torch.rand(30, generator=generator, dtype=torch.float64) + 0.1
    divergence = vmf.kl(h, 300.0, other, 300.0)
    found = lipschitz.from_rate(divergence, distance, kappa_e=300.0, dim=16)
    torch.testing.assert_close(found, (h - other).norm(dim=1) / distance, rtol=1e-9, atol=0)


@given(
    dim=st.integers(2, 300),
    kappa=st.floats(0.5, 2e4),
    other_kappa=st.floats(0.5, 2e4),
    angle=st.floats(1e-3, math.pi),
)
def test_the_density_bound_is_never_above_the_slope_it_bounds(
    dim: int, kappa: float, other_kappa: float, angle: float
) -> None:
    h, other = torch.zeros(2, 1, dim, dtype=torch.float64)
    h[0, 0], other[0, 0], other[0, 1] = 1.0, math.cos(angle), math.sin(angle)
    there = vmf.kl(h, kappa, other, other_kappa), vmf.kl(other, other_kappa, h, kappa)
    distance = torch.full((1,), 0.7, dtype=torch.float64)
    bound = lipschitz.of_density(*there, distance)
    slope = lipschitz.of_vmf(h, other, kappa, other_kappa, distance)
    assert torch.equal(bound, torch.maximum(*there).sqrt() / 0.7)
    # KL <= s^2 / 2: with a factor two to spare, but for rounding where both laws are nearly one
    assert float(2 * bound.square()) <= float(slope.square()) * (1 + 1e-6) + 1e-9


def test_the_slope_of_vmf_laws_is_that_of_their_steepest_code() -> None:
    generator = torch.Generator().manual_seed(0)
    h, other = F.normalize(torch.randn(2, 4, 3, generator=generator, dtype=torch.float64), dim=2)
    kappa = torch.tensor([3.0, 40.0, 0.5, 7.0], dtype=torch.float64)
    distance = torch.full((4,), 2.0, dtype=torch.float64)
    slope = lipschitz.of_vmf(h, other, kappa, 5.0, distance)
    z = F.normalize(torch.randn(40_000, 3, generator=generator, dtype=torch.float64), dim=1)
    for i in range(4):
        mine, theirs = h[i].expand_as(z), other[i].expand_as(z)
        change = vmf.log_prob(z, mine, kappa[i]) - vmf.log_prob(z, theirs, 5.0)
        assert float(change.abs().max()) / 2.0 == pytest.approx(float(slope[i]), rel=2e-3)
        assert float(change.abs().max()) / 2.0 <= float(slope[i]) + 1e-9


def test_quantiles_leave_out_what_is_no_number() -> None:
    values = torch.tensor([math.nan, *range(101)])
    assert lipschitz.quantiles(values) == pytest.approx([50, 90, 99, 100])
    assert all(map(math.isnan, lipschitz.quantiles(torch.tensor([math.nan]))))
