"""The target follows parameters, and nothing else."""

import copy

import pytest
import torch
from torch import nn

from squint.errors import RecipeError
from squint.nn import Target
from squint.nn.target import cosine_to_one


def networks() -> tuple[nn.Module, nn.Module]:
    return nn.Sequential(nn.Flatten(), nn.Linear(3, 4), nn.BatchNorm1d(4)), nn.Linear(4, 2)


def test_every_parameter_moves_by_the_share_it_does_not_keep() -> None:
    online, target = networks(), Target(*networks(), momentum=0.75)
    before = copy.deepcopy(target)
    target.update(*online, progress=0.5)
    for now, then, ours in zip(
        target.parameters(),
        before.parameters(),
        [*online[0].parameters(), *online[1].parameters()],
        strict=True,
    ):
        torch.testing.assert_close(now, 0.75 * then + 0.25 * ours)
        assert not torch.equal(now, then) or torch.equal(then, ours)


@pytest.mark.parametrize(("momentum", "like"), [(1.0, "itself"), (0.0, "online")])
def test_the_extremes(momentum: float, like: str) -> None:
    online, target = networks(), Target(*networks(), momentum=momentum)
    expected = target.encoder[1].weight.clone() if like == "itself" else online[0][1].weight
    target.update(*online, progress=0.0)
    assert torch.equal(target.encoder[1].weight, expected)


def test_a_copy_starts_equal_and_lives_apart() -> None:
    encoder, projector = networks()
    target = Target.copy_of(encoder, projector, momentum=0.9)
    x = torch.randn(6, 3, 1, 1)
    assert torch.equal(target(x), projector(encoder(x)))
    with torch.no_grad():
        encoder[1].weight.add_(1.0)
    assert not torch.equal(target.encoder[1].weight, encoder[1].weight)
    assert encoder[1].weight.requires_grad and not target.encoder[1].weight.requires_grad


def test_no_gradient_and_own_batch_statistics() -> None:
    online = networks()
    target = Target.copy_of(*online, momentum=0.9)
    online[0][2].running_mean.fill_(7.0)
    x = torch.randn(32, 3, 1, 1)
    assert not target(x).requires_grad
    assert target.encoder[2].num_batches_tracked == 1, "training mode: its own statistics move"
    target.update(*online, progress=0.0)
    assert (target.encoder[2].running_mean != 7.0).all(), "buffers are not averaged"


def test_momentum_rises_to_one_along_a_cosine() -> None:
    target = Target(*networks(), momentum=0.9, schedule="cosine")
    assert target.momentum_at(0.0) == pytest.approx(0.9)
    assert target.momentum_at(0.5) == pytest.approx(0.95)
    assert target.momentum_at(1.0) == 1.0 == cosine_to_one(0.9, 1.5)
    assert Target(*networks(), momentum=0.9).momentum_at(0.7) == 0.9


def test_a_momentum_out_of_range_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"target_momentum=1\.5"):
        Target(*networks(), momentum=1.5)


def test_the_gap_is_the_relative_distance_of_all_parameters() -> None:
    encoder, projector = networks()
    target = Target.copy_of(encoder, projector, momentum=0.5)
    assert float(target.gap(encoder, projector)) == 0
    with torch.no_grad():
        projector.weight.mul_(3)
    online = [*encoder.parameters(), *projector.parameters()]
    size = sum(float(p.detach().square().sum()) for p in online) ** 0.5
    away = float(projector.weight.detach().norm()) * 2 / 3
    assert float(target.gap(encoder, projector)) == pytest.approx(away / size, rel=1e-5)
    target.update(encoder, projector, progress=0.0)
    assert float(target.gap(encoder, projector)) == pytest.approx(away / size / 2, rel=1e-5)
