"""kappa_e learned per image: where it begins, what it learns, and that off means off."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from scipy import optimize, special
from torch import Tensor

import squint
import toys
from ranks import RankPool
from squint import methods
from squint.compression import CEB
from squint.compression.kappa_head import KappaHead
from squint.configs import CEBConfig
from squint.errors import RecipeError
from squint.evaluate.compression import coder_of, collect, summary
from squint.ops import gather
from squint.recipe import from_dict, to_dict
from squint.train import signals
from squint.train.signals import Interrupted
from train import small

RANGE = (2.0, 500.0)


def units(n: int, dim: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn((n, dim), generator=generator, dtype=torch.float64), dim=1)


def learned(dim: int, *, kappa_b: float = 10.0, beta: float = 1.0) -> CEB:
    return CEB(kappa_e=50.0, kappa_e_range=RANGE, dim=dim, kappa_b=kappa_b, beta=beta)


def head_of(ceb: CEB) -> KappaHead:
    assert ceb.kappa_head is not None
    return ceb.kappa_head


def log_c(kappa: float, dim: int) -> float:
    nu = dim / 2 - 1
    return nu * math.log(kappa) - math.log(special.ive(nu, kappa)) - kappa


def resultant(kappa: float, dim: int) -> float:
    return special.ive(dim / 2, kappa) / special.ive(dim / 2 - 1, kappa)


def divergence(kappa_e: float, kappa_b: float, cosine: float, dim: int) -> float:
    mean = resultant(kappa_e, dim)
    return log_c(kappa_e, dim) - log_c(kappa_b, dim) + mean * (kappa_e - kappa_b * cosine)


def test_it_begins_as_the_fixed_one() -> None:
    h, given = units(40, 16, 1), units(40, 16, 2)
    results = []
    for ceb in (CEB(kappa_e=50.0), learned(16).double()):
        torch.manual_seed(0)
        results.append(ceb(h, given=given))
    for fixed, free in zip(*results, strict=True):
        torch.testing.assert_close(free, fixed, rtol=1e-9, atol=1e-9)
    assert not CEB(kappa_e=50.0).state_dict()


@pytest.mark.parametrize("bounds", [RANGE, (49.0, 1e6), (1e-3, 51.0)])
def test_it_never_leaves_its_range(bounds: tuple[float, float]) -> None:
    head = KappaHead(16, start=50.0, bounds=bounds)
    h = units(40, 16, 1).float()
    torch.testing.assert_close(head(h), torch.full((40,), 50.0))
    for bias in (-1e9, -1e3, 1e3, 1e9):
        with torch.no_grad():
            head.bias.fill_(bias)
        assert (head(h) >= bounds[0] * (1 - 1e-5)).all() and (
            head(h) <= bounds[1] * (1 + 1e-5)
        ).all()


def test_half_precision_does_not_reach_it() -> None:
    h, head = units(40, 16, 1).float(), KappaHead(16, start=50.0, bounds=RANGE)
    with torch.no_grad():
        head.weight.copy_(units(1, 16, 3)[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(head(h), head(h.float()))
    assert head(h).dtype == head(h.bfloat16()).dtype == torch.float32
    assert len(head(h).unique()) > 30


def test_the_rate_has_the_exact_gradient() -> None:
    dim, h, given = 12, units(7, 12, 1), units(7, 12, 2)
    ceb = learned(dim).double()
    _, rate = ceb(h, given=given)
    (gradient,) = torch.autograd.grad(rate.sum(), head_of(ceb).bias)
    step = 1e-4
    slopes = [
        (divergence(50.0 + step, 10.0, c, dim) - divergence(50.0 - step, 10.0, c, dim)) / (2 * step)
        for c in (h * given).sum(dim=1).tolist()
    ]
    reach = math.log(RANGE[1] / RANGE[0]) / 2
    place = math.log(50.0 / math.sqrt(RANGE[0] * RANGE[1])) / reach
    per_unit = 50.0 * (1 - abs(place)) ** 2 / math.sqrt((dim - 1) / 2)  # d kappa_e / d bias
    assert gradient.item() == pytest.approx(sum(slopes) * per_unit, rel=1e-6)


def test_each_image_learns_the_best_noise() -> None:
    """The least of E|z - t|^2 weight/2 + beta rate lies at a known kappa_e for each image."""
    dim, beta, weight, n = 8, 0.5, 30.0, 80
    means = torch.eye(dim, dtype=torch.float64)[:2].repeat_interleave(n, 0)  # two kinds of image
    cosines = torch.tensor([1.0, 0.3], dtype=torch.float64).repeat_interleave(n)
    side = torch.eye(dim, dtype=torch.float64)[7]
    wanted = cosines[:, None] * means + torch.sqrt(1 - cosines.square())[:, None] * side
    ceb = learned(dim, beta=beta).double()
    optimizer = torch.optim.Adam(ceb.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, total_iters=250)
    torch.manual_seed(0)
    for _ in range(250):
        z, rate = ceb(means, given=means)
        loss = (weight / 2 * (z - wanted).square().sum(dim=1) + beta * rate).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    for row, cosine in ((0, 1.0), (n, 0.3)):

        def price(log_kappa: float, cosine: float = cosine) -> float:
            kappa = math.exp(log_kappa)
            mean = resultant(kappa, dim)
            return -weight * mean * cosine + beta * divergence(kappa, 10.0, 1.0, dim)

        best = optimize.fminbound(price, *map(math.log, RANGE), xtol=1e-6)
        assert head_of(ceb)(means)[row].log().item() == pytest.approx(best, abs=0.05)


def _gradients(h: Tensor, given: Tensor) -> list[Tensor]:
    torch.manual_seed(11)  # alike on all ranks, as the training loop does
    ceb = learned(16).double()
    z, rate = ceb(gather.own(h), given=gather.own(given))
    loss = (10 * (z * gather.own(given)).sum(dim=1) + rate).mean()
    return list(torch.autograd.grad(loss, list(ceb.parameters())))


@pytest.mark.ranks
def test_two_ranks_learn_what_one_process_learns(ranks: RankPool) -> None:
    h, given = units(6, 16, 1), units(6, 16, 2)
    results = ranks(_gradients, h, given)
    for *parts, whole in zip(*results, _gradients(h, given), strict=True):
        torch.testing.assert_close(torch.stack(parts).mean(dim=0), whole, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", toys.NAMES)
def test_every_method_trains_it_and_says_it(name: str) -> None:
    ceb = CEB(
        kappa_e=50.0, kappa_e_range=RANGE, dim=toys.CODE, kappa_b=toys.kappa_b(name), beta=0.0
    )
    method = toys.make(name, ceb)
    torch.manual_seed(0)
    step = method(toys.views())
    step.loss.backward()  # beta 0: by the draw alone
    for parameter in ceb.parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0
    assert step.logs["kappa_e"].item() == pytest.approx(50.0)
    fixed = toys.make(name, CEB(kappa_b=toys.kappa_b(name)))(toys.views())
    assert "kappa_e" not in fixed.logs


def test_evaluation_measures_with_what_was_learned() -> None:
    ceb = CEB(kappa_e=50.0, kappa_e_range=RANGE, dim=toys.CODE, kappa_b=10.0)
    method = toys.make("simclr", ceb)
    with torch.no_grad():
        head_of(ceb).weight.copy_(torch.linspace(-4, 4, toys.CODE))
    pairs = collect(coder_of(method).pairs, [toys.views(400)], method)
    found = summary(pairs, ceb)
    with torch.no_grad():
        pairs = method.pairs(method.embed(toys.views(400)))
    kappas = [head_of(ceb)(h).tolist() for h, _ in pairs]
    rates = [
        divergence(kappa, 10.0, cosine, toys.CODE)
        for row, (h, y) in zip(kappas, pairs, strict=True)
        for kappa, cosine in zip(row, (h * y).sum(dim=1).tolist(), strict=True)
    ]
    assert max(kappas[0]) > 1.5 * min(kappas[0])
    assert found.rate_nats == pytest.approx(sum(rates) / len(rates), rel=1e-9)
    assert abs(found.sampled_rate_nats - found.rate_nats) < 5 * found.sampled_error_nats


def test_a_stopped_run_goes_on_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small.recipe(compression__kappa_e_range=(16.0, 16384.0))
    data = small.source(tmp_path)
    whole = squint.pretrain(data, recipe=recipe, out=tmp_path / "whole", quiet=True)
    assert small.weights(whole)["method.bottleneck.kappa_head.bias"] != 0
    asked = iter([0, 0, 1])

    class AfterAWhile(signals.Stop):
        @property
        def asked(self) -> bool:
            self.signal = 2 * next(asked, 0)
            return bool(self.signal)

    with monkeypatch.context() as patch:
        patch.setattr("squint.train.signals.Stop", AfterAWhile)
        with pytest.raises(Interrupted):
            squint.pretrain(data, recipe=recipe, out=tmp_path / "run", quiet=True)
    small.assert_same_bits(squint.resume(tmp_path / "run", quiet=True), whole)


@pytest.mark.parametrize("name", ["c-simclr", "c-moco-v1", "c-moco-v2", "c-moco-v3", "c-byol"])
def test_recipes_carry_it(name: str) -> None:
    recipe = small.recipe(name, compression__kappa_e_range=(16.0, 1e6))
    assert from_dict(to_dict(recipe)) == recipe
    method = methods.build(recipe)
    assert isinstance(method.bottleneck, CEB) and method.bottleneck.kappa_e_range == (16.0, 1e6)
    views = torch.randn(2, 8, 3, 16, 16)
    start = method((views[0], views[1])).logs["kappa_e"].item()
    assert start == pytest.approx(method.bottleneck.kappa_e, rel=1e-5)


def test_what_has_no_use_is_refused() -> None:
    with pytest.raises(RecipeError, match="has no use with compression"):
        CEBConfig(kappa_e_range=(16.0, 16384.0), sampling=False)
    with pytest.raises(RecipeError, match="from the rate's expectation"):
        CEBConfig(kappa_e_range=(16.0, 16384.0), residual="sampled")
    for bounds in ((16.0, 1024.0), (2000.0, 3000.0), (0.0, 2000.0), (16.0, math.inf)):
        with pytest.raises(RecipeError, match="between them"):
            CEBConfig(kappa_e_range=bounds)
        with pytest.raises(RecipeError, match="kappa_e inside it"):
            CEB(kappa_e_range=bounds, dim=8)
    with pytest.raises(RecipeError, match="with sampling and the closed form"):
        CEB(kappa_e_range=(16.0, 2000.0), dim=8, sampling=False)


def test_a_target_rate_may_lie_wherever_kappa_e_can_go() -> None:
    target = divergence(16.0, 5.0, 0.8, 8)
    with pytest.raises(RecipeError, match="can't be held"):
        methods.build(small.recipe(compression__target_rate_nats=target))
    methods.build(
        small.recipe(compression__target_rate_nats=target, compression__kappa_e_range=(5.0, 2000.0))
    )
