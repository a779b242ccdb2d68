"""SimCLR and C-SimCLR against loops written from the papers."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import golden
from squint.compression import CEB, Open
from squint.methods import SimCLR
from squint.ops import gather, vmf


def make(bottleneck: Open | CEB | None = None, temperature: float = 0.1) -> SimCLR:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU())
    projector = nn.Linear(6, 5)
    return SimCLR(encoder, projector, temperature=temperature, bottleneck=bottleneck).double()


def some_views(n: int = 7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    first, second = torch.randn(2, n, 3, 2, 2, generator=generator, dtype=torch.float64)
    return first, second


def codes(method: SimCLR, views: tuple[Tensor, Tensor]) -> list[Tensor]:
    return [F.normalize(method.projector(method.encoder(x)), dim=1) for x in views]


def algorithm_1(z1: Tensor, z2: Tensor, temperature: float) -> float:
    """Chen et al. 2020, algorithm 1: mean over all 2n anchors, by loops."""
    z = torch.cat([z1, z2]).double()
    n, total = len(z1), 0.0
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        others = [k for k in range(2 * n) if k != i]
        similar = {k: (z[i] @ z[k]).item() / temperature for k in others}
        total += math.log(sum(math.exp(s) for s in similar.values())) - similar[j]
    return total / (2 * n)


def test_loss_is_that_of_algorithm_1() -> None:
    method, views = make(), some_views()
    step = method(views)
    assert step.loss.item() == pytest.approx(
        algorithm_1(*codes(method, views), temperature=0.1), rel=1e-5
    )
    assert step.logs["info_cap_nats"].item() == pytest.approx(math.log(2 * 7 - 1))


def test_c_simclr_adds_beta_times_the_rate() -> None:
    views = some_views()
    ceb = CEB(beta=0.7, kappa_e=64.0, kappa_b=10.0, sampling=False)
    plain, compressed = make(), make(ceb)
    u1, u2 = codes(plain, views)
    rate = (vmf.kl(u1, 64.0, u2, 10.0) + vmf.kl(u2, 64.0, u1, 10.0)).mean() / 2
    expected = plain(views).loss + 0.7 * rate
    step = compressed(views)
    assert step.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert step.logs["rate_nats"].item() == pytest.approx(rate.item(), rel=1e-5)


@pytest.mark.parametrize("bottleneck", [None, CEB(beta=0.7, kappa_b=10.0, sampling=False)])
def test_the_sum_of_both_directions_is_minimised_and_their_mean_is_logged(bottleneck) -> None:
    mean, summed = make(bottleneck), make(bottleneck)
    summed.directions = "sum"
    ours, released = mean(some_views()), summed(some_views())
    assert released.loss.item() == pytest.approx(2 * ours.loss.item(), rel=1e-12)
    assert all(torch.equal(released.logs[name], value) for name, value in ours.logs.items())


def as_released(temperature: float, bottleneck: Open | CEB | None = None) -> SimCLR:
    """Without networks: the codes of the golden files are what they would put out."""
    return SimCLR(
        nn.Flatten(),
        nn.Identity(),
        temperature=temperature,
        directions="sum",
        bottleneck=bottleneck,
    )


OFFICIAL = golden.cases(
    "simclr_ntxent", lambda case: "hidden" in case and case.settings["hidden_norm"]
) + golden.cases(
    "cvr_contrastive",
    lambda case: case.settings["bidirectional"] and case.settings["double_batch_trick"],
)


@pytest.mark.parametrize("case", OFFICIAL)
def test_the_sum_is_the_released_loss(case: golden.Case) -> None:
    hidden = case["hidden"].requires_grad_()
    method = as_released(case.settings["temperature"])
    loss = method(hidden[:, :, None, None].chunk(2)).loss
    tolerance = 1e-5 if hidden.dtype == torch.float32 else 1e-10
    torch.testing.assert_close(loss, case["loss"], rtol=tolerance, atol=0)
    (gradient,) = torch.autograd.grad(loss, hidden)
    scale = case["grad_hidden"].abs().max().item()
    torch.testing.assert_close(gradient, case["grad_hidden"], rtol=0, atol=tolerance * scale)


CEB_OFFICIAL = golden.cases(
    "cvr_contrastive_ceb",
    lambda case: (
        case.settings["z_mode"] == "mean"
        and case.settings["dtype"] == "float64"
        and case.settings["bidirectional"]
        and case.settings["double_batch_trick"]
    ),
)


@pytest.mark.parametrize("case", CEB_OFFICIAL)
def test_the_sum_is_the_released_compressed_loss(case: golden.Case) -> None:
    hidden, s = case["hidden"].requires_grad_(), case.settings
    ceb = CEB(
        beta=s["beta"],
        kappa_e=s["kappa_e"],
        kappa_b=s["kappa_b"],
        sampling=False,
        residual="sampled",
    )
    step = as_released(1 / s["kappa_b"], ceb)(hidden[:, :, None, None].chunk(2))
    caps = 2 * step.logs["info_cap_nats"]  # theirs subtracts the information of each direction
    torch.testing.assert_close(step.loss - caps, case["loss"], rtol=1e-9, atol=1e-9)
    (gradient,) = torch.autograd.grad(step.loss, hidden)
    scale = case["grad_hidden"].abs().max().item()
    torch.testing.assert_close(gradient, case["grad_hidden"], rtol=0, atol=1e-8 * scale)


def test_candidates_are_directions_not_samples() -> None:
    """Lee et al. 2021: z is drawn once per image; what it is compared with is not drawn."""
    views = some_views()
    method = make(CEB(beta=0.0, kappa_e=5.0, kappa_b=10.0))
    u1, u2 = codes(method, views)
    torch.manual_seed(3)
    step = method(views)
    torch.manual_seed(3)
    z1, z2 = (method.bottleneck(u, given=y)[0] for u, y in ((u1, u2), (u2, u1)))
    total = 0.0
    for z, other, same in ((z1, u2, u1), (z2, u1, u2)):
        for i in range(len(z)):
            logits = [(z[i] @ other[k]).item() * 10 for k in range(len(z))]
            logits += [(z[i] @ same[k]).item() * 10 for k in range(len(z)) if k != i]
            total += math.log(sum(map(math.exp, logits))) - logits[i]
    assert step.loss.item() == pytest.approx(total / 14, rel=1e-4)


def test_both_views_get_a_gradient() -> None:
    method = make(CEB(beta=1.0, kappa_e=64.0, kappa_b=10.0))
    views = tuple(view.requires_grad_() for view in some_views())
    method(views).loss.backward()
    assert all(view.grad is not None and view.grad.abs().sum() > 0 for view in views)


@pytest.mark.parametrize("progress", [0.0, 0.4])
def test_beta_follows_its_schedule(progress: float) -> None:
    ceb = CEB(beta=0.5, kappa_b=10.0, sampling=False, beta_schedule="warmup", beta_warmup=0.8)
    step = make(ceb)(some_views(), progress)
    beta = 0.5 * progress / 0.8
    assert step.logs["beta"].item() == pytest.approx(beta)
    total = step.logs["contrast_nats"] + beta * step.logs["rate_nats"]
    assert step.loss.item() == pytest.approx(total.item(), rel=1e-5)


def test_batch_norm_sees_both_views_together() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(12, affine=False)
    method = SimCLR(nn.Sequential(nn.Flatten(), norm), nn.Linear(12, 5), temperature=0.5)
    views = tuple(view.float() for view in some_views())
    method(views)
    together = torch.cat(views).flatten(1)
    assert norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean, 0.1 * together.mean(dim=0))


def _two_ranks(compressed: bool) -> tuple[float, list[Tensor], list[Tensor]]:
    """Three DDP steps in float64 on this rank's half of the global batch."""
    rank, world = gather.rank(), gather.world_size()
    bottleneck = CEB(beta=0.3, kappa_e=32.0, kappa_b=10.0) if compressed else None
    method = make(bottleneck)
    method.embed = lambda views: tuple(  # float64 throughout, to compare at 1e-9
        F.normalize(method.projector(method.encoder(x)), dim=1) for x in views
    )
    model = nn.parallel.DistributedDataParallel(method) if world > 1 else method
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    loss, gradients = 0.0, []
    for number in range(3):
        torch.manual_seed(number)
        views = tuple(view[rank * 8 // world : (rank + 1) * 8 // world] for view in some_views(8))
        step = model(views, 0.5)
        optimizer.zero_grad()
        step.loss.backward()
        gradients = [p.grad.clone() for p in method.parameters() if p.grad is not None]
        optimizer.step()
        loss = step.loss.item()
    return loss, gradients, [p.detach().clone() for p in method.parameters()]


@pytest.mark.ranks
@pytest.mark.parametrize("compressed", [False, True], ids=["simclr", "c-simclr"])
def test_two_ranks_equal_one_on_the_global_batch(ranks, compressed: bool) -> None:
    (loss_0, gradients_0, weights_0), (loss_1, _, weights_1) = ranks(_two_ranks, compressed)
    loss, gradients, weights = _two_ranks(compressed)
    assert (loss_0 + loss_1) / 2 == pytest.approx(loss, rel=1e-9)
    for ours, theirs in zip(gradients + weights, gradients_0 + weights_0, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    for first, second in zip(weights_0, weights_1, strict=True):
        assert torch.equal(first, second)
