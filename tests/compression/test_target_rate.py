"""A price that holds a target rate: direction, limits, checkpoints, and that it holds."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import squint
import toys
from squint import methods
from squint.compression import CEB
from squint.compression.bottleneck import GAIN
from squint.errors import RecipeError
from squint.ops import vmf
from squint.train import signals
from squint.train.signals import Interrupted
from train import small


def unrelated(dim: int, kappa_e: float, kappa_b: float, cosine: float) -> float:
    """Rate of codes at a cosine, from the parts of the divergence."""
    resultant = float(vmf.mean_resultant(kappa_e, dim))
    forward = float(vmf.log_normalizer(kappa_e, dim)) + kappa_e * resultant
    return forward - float(vmf.log_normalizer(kappa_b, dim)) - kappa_b * resultant * cosine


def test_the_price_follows_the_rate_and_nothing_moves_without_a_target() -> None:
    ceb = CEB(beta=0.5, target_rate_nats=10.0)
    assert ceb.beta_at(0.3) == pytest.approx(0.5)
    ceb.steer({"rate_nats": torch.tensor(10.4)})
    assert ceb.beta_at(0.3) == pytest.approx(0.5 * math.exp(0.4 * GAIN))
    ceb.steer({"rate_nats": torch.tensor(1e9)})
    assert ceb.beta_at(0.3) == pytest.approx(0.5 * math.exp(1.4 * GAIN)), "a step is bounded"
    ceb.steer({"rate_nats": torch.tensor(9.0)})
    ceb.steer({"rate_nats": torch.tensor(9.6)})
    assert ceb.beta_at(0.3) == pytest.approx(0.5)
    plain = CEB(beta=0.5)
    plain.steer({"rate_nats": torch.tensor(99.0)})
    assert plain.beta_at(1.0) == 0.5 and not plain.state_dict()


@pytest.mark.parametrize("cosine", [0.3, 0.6])
def test_the_target_is_held_while_codes_learn(cosine: float) -> None:
    """Free codes under contrast would agree; only a low price lets them reach a higher rate."""
    dim, kappa_e, kappa_b = 4, 200.0, 1 / toys.TEMPERATURE
    target = unrelated(dim, kappa_e, kappa_b, cosine)
    ceb = CEB(beta=1.0, kappa_e=kappa_e, kappa_b=kappa_b, target_rate_nats=target)
    torch.manual_seed(0)
    codes = torch.randn(2, 40, dim, requires_grad=True)
    clash = F.normalize(torch.randn(2, 40, dim), dim=2)
    rates = []
    for _ in range(4000):
        u1, u2 = F.normalize(codes, dim=2)
        _, rate = ceb(u1, given=u2)
        pull = -(u1 * clash[0] + u2 * clash[1]).sum(dim=1).mean()  # views that want to differ
        loss = pull + ceb.beta_at(0.0) * rate.mean()
        (gradient,) = torch.autograd.grad(loss, codes)
        with torch.no_grad():
            codes -= 4.0 * gradient
        ceb.steer({"rate_nats": rate.mean().detach()})
        rates.append(rate.mean().item())
    assert abs(sum(rates[-200:]) / 200 - target) < 0.05


def recipe(**changes: object):
    target = unrelated(8, 1024.0, 5.0, 0.5)
    return small.recipe(compression__target_rate_nats=target, **changes)


def test_a_stopped_run_goes_on_with_the_same_price(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = squint.pretrain(
        small.source(tmp_path), recipe=recipe(), out=tmp_path / "whole", quiet=True
    )
    assert "method.bottleneck.log_price" in small.weights(whole)
    betas = [record["beta"] for record in whole.records()]
    assert len(set(betas)) == len(betas)
    asked = iter([0, 0, 1])

    class AfterAWhile(signals.Stop):
        @property
        def asked(self) -> bool:
            self.signal = 2 * next(asked, 0)
            return bool(self.signal)

    with monkeypatch.context() as patch:
        patch.setattr("squint.train.signals.Stop", AfterAWhile)
        with pytest.raises(Interrupted):
            squint.pretrain(
                small.source(tmp_path), recipe=recipe(), out=tmp_path / "run", quiet=True
            )
    small.assert_same_bits(squint.resume(tmp_path / "run", quiet=True), whole)


@pytest.mark.parametrize("name", ["c-simclr", "c-moco-v2", "c-moco-v3", "c-byol"])
def test_every_method_is_steered(name: str) -> None:
    base = small.recipe(name)
    kappas = base.compression.kappa_e, base.compression.kappa_b
    target = unrelated(8, *kappas, 0.9)
    method = methods.build(base.override({"compression.target_rate_nats": target}))
    before = method.bottleneck.beta_at(0.0)
    views = torch.randn(2, 8, 3, 16, 16)
    step = method((views[0], views[1]))
    method.after_step(step, 0.0)
    above = step.logs["rate_nats"] > target
    assert (method.bottleneck.beta_at(0.0) > before) == above


def test_what_cannot_be_held_is_refused() -> None:
    for target in (1.0, unrelated(8, 1024.0, 5.0, 0.0) + 1):
        with pytest.raises(RecipeError, match="can't be held"):
            methods.build(small.recipe(compression__target_rate_nats=target))
    for changes in ({"compression__beta": 0.0}, {"compression__beta_schedule": "cosine"}):
        with pytest.raises(RecipeError, match="moves beta itself"):
            recipe(**changes)
    with pytest.raises(RecipeError, match="target_rate_nats"):
        CEB(beta=0.0, target_rate_nats=5.0)
