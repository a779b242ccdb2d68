"""CEB against the released C-SimCLR loss, its own closed form, and on two ranks."""

import math
from collections.abc import Callable
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import golden
import oracles
from ranks import RankPool
from squint.compression import CEB, Open
from squint.compression.bottleneck import Residual, _check_choice
from squint.errors import RecipeError
from squint.ops import gather, vmf
from squint.ops.contrast import info_cap_nats, nt_xent


def _units(n: int, dim: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn((n, dim), generator=generator, dtype=torch.float64), dim=1)


# --- the released loss -------------------------------------------------------------------------


def _encode(case: golden.Case, view: str) -> Callable[[CEB, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """z and residual for one direction, in the case's way of getting z."""

    def mean(ceb: CEB, h: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        return ceb.eval()(h, given=given)

    def base(ceb: CEB, h: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        ceb._draw = lambda h: vmf.reflect(case[f"base_{view}"], h)
        return ceb.train()(h, given=given)

    def fixed(ceb: CEB, h: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Codes that don't move with h: here log e has a gradient, so not by the bottleneck."""
        z = case[f"z_{view}"]
        return z, vmf.log_prob(z, h, ceb.kappa_e) - vmf.log_prob(z, given, ceb.kappa_b)

    return {"mean": mean, "base": base, "z": fixed}[case.settings["z_mode"]]


def _released_loss(case: golden.Case, h1: Tensor, h2: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The released loss from our parts (loops where it leaves our NT-Xent), and its metrics."""
    s = case.settings
    ceb = CEB(beta=s["beta"], kappa_e=s["kappa_e"], kappa_b=s["kappa_b"], residual="sampled")
    trick = s["double_batch_trick"]
    cap = info_cap_nats(2 * len(h1) - 1 if trick else len(h1))
    directions = [("x", h1, h2), ("y", h2, h1)][: 2 if s["bidirectional"] else 1]
    loss, codes, metrics = torch.zeros((), dtype=h1.dtype), [], {}
    for view, h, given in directions:
        z, rate = _encode(case, view)(ceb, h, given)
        codes.append(z)
        same = h if trick else None
        cross_entropy = oracles.contrastive_direction(z, given, same, 1 / ceb.kappa_b)
        loss = loss + ceb.beta * rate.mean() + cross_entropy - cap
        names = ("i_xzx_y", "i_y_zx") if view == "x" else ("i_yzy_x", "i_x_zy")
        metrics |= dict(zip(names, (rate.mean(), cap - cross_entropy), strict=True))
        if view == "x":
            metrics["h_e_zx_x"] = -vmf.log_prob(z, h, ceb.kappa_e).mean()
            metrics["h_b_zx_y"] = -vmf.log_prob(z, given, ceb.kappa_b).mean()
        if len(codes) == 2 and trick:  # then the loops must be our NT-Xent, twice
            contrast = 2 * nt_xent(*codes, h1, h2, temperature=1 / ceb.kappa_b)
            loops = 2 * cap - metrics["i_y_zx"] - metrics["i_x_zy"]
            torch.testing.assert_close(contrast, loops, rtol=1e-5, atol=1e-5)
            loss = loss - loops + contrast
    return loss, metrics


@pytest.mark.parametrize("case", golden.cases("cvr_contrastive_ceb"))
def test_released_c_simclr(case: golden.Case) -> None:
    hidden = case["hidden"].requires_grad_()
    loss, metrics = _released_loss(case, *F.normalize(hidden, dim=1).chunk(2))
    double = hidden.dtype == torch.float64
    # The float32 reference loses digits in log densities of size kappa_e; ours doesn't.
    size = 1 if double else case.settings["kappa_e"]
    tolerance = {"rtol": 1e-9 if double else 1e-5, "atol": 1e-9 if double else 3e-7 * size}
    torch.testing.assert_close(loss, case["loss"], **tolerance)
    for name, value in metrics.items():
        torch.testing.assert_close(value, case[f"metric_{name}"], **tolerance)
    (gradient,) = torch.autograd.grad(loss, hidden)
    scale = case["grad_hidden"].abs().max().item()
    bound = scale * (1e-8 if double else 1e-6 + 6e-7 * size)
    torch.testing.assert_close(gradient, case["grad_hidden"], rtol=0, atol=bound)


def _replica(views: Tensor, weight: Tensor, settings: dict[str, float]) -> list[Tensor]:
    """Released loss of this rank with our NT-Xent, and the gradient in the shared weight."""
    weight = weight.clone().requires_grad_()
    h1, h2 = F.normalize(views[gather.rank()] @ weight, dim=-1)
    ceb = CEB(kappa_e=settings["kappa_e"], kappa_b=settings["kappa_b"], residual="sampled").eval()
    z1, rate1 = ceb(h1, given=h2)
    z2, rate2 = ceb(h2, given=h1)
    contrast = 2 * nt_xent(z1, z2, h1, h2, temperature=1 / ceb.kappa_b)
    cap = info_cap_nats(2 * len(h1) * gather.world_size() - 1)
    loss = contrast - 2 * cap + settings["beta"] * (rate1 + rate2).mean()
    return [loss.detach(), torch.autograd.grad(loss, weight)[0]]


@pytest.mark.ranks
@pytest.mark.parametrize("case", golden.cases("cvr_distributed", lambda c: c.name == "dist1_ceb"))
def test_two_ranks_equal_two_official_replicas(case: golden.Case, ranks: RankPool) -> None:
    results = ranks(_replica, case["views"], case["weight"], case.settings)
    losses, gradients = (torch.stack(x) for x in zip(*results, strict=True))
    torch.testing.assert_close(losses, case["loss"], rtol=1e-9, atol=0)
    expected = case["grad_weight_summed"]
    torch.testing.assert_close(gradients.mean(dim=0), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", golden.cases("cvr_distributed", lambda c: c.name == "dist2_ceb"))
def test_one_process_equals_two_official_replicas(case: golden.Case) -> None:
    """Without the double batch trick, which our NT-Xent doesn't offer: rates and loops."""
    weight, s = case["weight"].requires_grad_(), case.settings
    views = case["views"].transpose(0, 1).flatten(1, 2)  # (2, m, d)
    h1, h2 = F.normalize(views @ weight, dim=-1)
    ceb = CEB(kappa_e=s["kappa_e"], kappa_b=s["kappa_b"], residual="sampled", sampling=False)
    loss = -2 * torch.tensor(math.log(len(h1)), dtype=torch.float64)
    for h, given in ((h1, h2), (h2, h1)):
        z, rate = ceb(h, given=given)
        cross_entropy = oracles.contrastive_direction(z, given, None, 1 / ceb.kappa_b)
        loss = loss + s["beta"] * rate.mean() + cross_entropy
    torch.testing.assert_close(loss, case["loss"].mean(), rtol=1e-9, atol=0)
    (gradient,) = torch.autograd.grad(loss, weight)
    torch.testing.assert_close(gradient, case["grad_weight_summed"], rtol=1e-9, atol=1e-9)


# --- the rate ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("dim", "kappa_e"), [(2, 3.0), (16, 64.0), (128, 1024.0), (64, 16384.0)])
def test_closed_form_is_the_mean_of_the_sampled_rate(dim: int, kappa_e: float) -> None:
    torch.manual_seed(0)
    n = 4000
    h, given = (_units(1, dim, seed).expand(n, dim) for seed in (1, 2))
    ceb = CEB(kappa_e=kappa_e, residual="sampled")
    _, rate = ceb(h, given=given)
    closed = ceb.closed_form_rate(h[:1], given[:1])
    assert abs(rate.mean() - closed).item() <= 5 * rate.std().item() / math.sqrt(n)
    assert rate.std() > 0.1


def test_closed_form_rate_is_the_default_and_has_no_sampling_noise() -> None:
    h, given = _units(5, 32, 1), _units(5, 32, 2)
    ceb = CEB()
    z, rate = ceb(h, given=given)
    assert not torch.equal(z, h)
    assert torch.equal(rate, vmf.kl(h, 1024.0, given, 10.0))
    assert torch.equal(rate, CEB(residual="sampled").closed_form_rate(h, given))
    assert torch.equal(rate, ceb.eval()(h, given=given)[1])


@pytest.mark.parametrize("residual", ("closed_form", "sampled"))
@pytest.mark.parametrize("sampling", (True, False))
def test_the_rate_pulls_both_directions_together(residual: str, sampling: bool) -> None:
    h, given = _units(5, 32, 1).requires_grad_(), _units(5, 32, 2).requires_grad_()
    ceb = CEB(residual=residual, sampling=sampling)  # pyright: ignore[reportArgumentType]
    _, rate = ceb(h, given=given)
    by_h, by_given = torch.autograd.grad(rate.sum(), (h, given))
    assert ((by_h * given).sum(dim=1) < 0).all()  # a step down brings h nearer to given
    assert ((by_given * h).sum(dim=1) < 0).all()


def test_sampled_rate_has_no_gradient_of_log_e() -> None:
    """In float32 kappa_e = 1e6 would drown the gradient of log b in rounding."""
    h, given = (_units(4, 64, seed).float().requires_grad_() for seed in (1, 2))
    ceb = CEB(kappa_e=1e6, residual="sampled")
    torch.manual_seed(0)
    z, rate = ceb(h, given=given)
    (gradient,) = torch.autograd.grad(rate.sum(), h, retain_graph=True)
    (alone,) = torch.autograd.grad(-vmf.log_prob(z, given, 10.0).sum(), h)
    assert torch.equal(gradient, alone)


# --- the code ----------------------------------------------------------------------------------


def test_nothing_drawn_means_the_same_tensor() -> None:
    h, given = _units(3, 8, 1), _units(3, 8, 2)
    for bottleneck in (Open(), CEB(sampling=False), CEB(beta=0.0, sampling=False), CEB().eval()):
        assert bottleneck(h, given=given)[0] is h
    rate = Open()(h, given=given)[1]
    assert rate.shape == (3,) and not rate.any() and Open().beta_at(0.5) == 0


def test_codes_are_drawn_in_training_only_and_follow_the_default_generator() -> None:
    h, given = _units(3, 8, 1).float(), _units(3, 8, 2).float()
    ceb = CEB(kappa_e=20.0)
    draws: list[Tensor] = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        draws.append(ceb(h, given=given)[0])
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    torch.manual_seed(0)
    assert torch.equal(draws[0], vmf.sample(h, 20.0, noise=vmf.draw()))


def test_half_precision_ends_at_the_bottleneck() -> None:
    h, given = _units(3, 64, 1).float(), _units(3, 64, 2).float()
    ceb = CEB(residual="sampled")
    torch.manual_seed(0)
    expected = ceb(h, given=given)
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = ceb(h, given=given)
    assert all(torch.equal(a, b) for a, b in zip(expected, under, strict=True))
    assert [x.dtype for x in ceb(h.bfloat16(), given=given.bfloat16())] == [torch.float32] * 2


def _on_ranks(h: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    torch.manual_seed(11)  # alike on all ranks, as the training loop does
    return CEB(residual="sampled")(gather.own(h), given=gather.own(given))


@pytest.mark.ranks
def test_two_ranks_draw_what_one_process_draws(ranks: RankPool) -> None:
    h, given = _units(6, 16, 1), _units(6, 16, 2)
    z, rate = _on_ranks(h, given)
    results = ranks(_on_ranks, h, given)
    torch.testing.assert_close(torch.cat([r[0] for r in results]), z, rtol=0, atol=1e-15)
    torch.testing.assert_close(torch.cat([r[1] for r in results]), rate, rtol=0, atol=1e-10)
    assert not torch.equal(results[0][0], results[1][0])


# --- the price ---------------------------------------------------------------------------------


@pytest.mark.parametrize("case", golden.cases("schedules_simclr_cvr"))
def test_released_schedules_of_beta(case: golden.Case) -> None:
    total, warmup = case.settings["total_steps"], case.settings["warmup_steps"]
    linear = CEB(beta_schedule="warmup", beta_warmup=warmup / total)
    cosine = CEB(beta_schedule="cosine")
    for i, step in enumerate(case["steps"].tolist()):
        for ceb, field in ((linear, "beta_linear_warmup"), (cosine, "beta_cosine")):
            expected = case[field][i].item()
            assert ceb.beta_at(step / total) == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_price_scales_with_beta_and_is_constant_by_default() -> None:
    assert [CEB(beta=0.3).beta_at(p) for p in (0.0, 0.5, 1.0)] == [0.3] * 3
    half = CEB(beta=0.5, beta_schedule="warmup", beta_warmup=0.2)
    assert [half.beta_at(p) for p in (0.0, 0.1, 0.2, 0.9)] == [0.0, 0.25, 0.5, 0.5]
    cosine = CEB(beta=0.5, beta_schedule="cosine")
    assert [cosine.beta_at(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([0.0, 0.25, 0.5])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kappa_e": 0.0}, "kappa_e=0.0"),
        ({"kappa_b": -1.0}, "kappa_b=-1.0"),
        ({"kappa_b": math.inf}, "kappa_b=inf"),
        ({"beta": -0.1}, "beta=-0.1"),
        ({"beta": math.nan}, "beta=nan"),
        ({"beta_schedule": "warmup", "beta_warmup": 1.5}, "beta_warmup=1.5"),
        ({"beta_warmup": 0.1}, "has no effect"),
        ({"beta_schedule": "warmup"}, "has no effect"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        CEB(**settings)  # pyright: ignore[reportArgumentType]


def test_unknown_choice_lists_the_known_ones() -> None:
    """By the check itself: shape and type checks of the tests would refuse it before."""
    with pytest.raises(RecipeError, match=r"residual='exact' is unknown.*closed_form, sampled"):
        _check_choice("residual", "exact", get_args(Residual))


def test_setting_shows_when_printed() -> None:
    assert "kappa_e=1024.0" in str(CEB()) and "residual='closed_form'" in str(CEB())
