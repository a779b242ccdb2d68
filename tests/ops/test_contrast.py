"""Contrastive objectives against loops, golden vectors, and one process against two."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import golden
import oracles
from ranks import RankPool
from squint.ops import gather
from squint.ops.contrast import info_cap_nats, info_nce, nt_xent, top1


def _units(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(shape, generator=generator, dtype=dtype), dim=-1)


def _gradients(loss: Tensor, *leaves: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, leaves))


def test_nt_xent_and_gradients_equal_the_loops() -> None:
    leaves = [_units(5, 7, seed=seed).requires_grad_() for seed in range(4)]
    ours = nt_xent(*leaves, temperature=0.3)
    theirs = oracles.nt_xent(*leaves, 0.3)
    torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=0)
    for mine, other in zip(_gradients(ours, *leaves), _gradients(theirs, *leaves), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-11, atol=1e-15)


def test_anchors_are_their_own_candidates_by_default() -> None:
    z1, z2 = _units(5, 7), _units(5, 7, seed=1)
    torch.testing.assert_close(
        nt_xent(z1, z2, temperature=0.3), oracles.nt_xent(z1, z2, z1, z2, 0.3), rtol=1e-13, atol=0
    )
    keys2 = _units(5, 7, seed=2)
    torch.testing.assert_close(
        nt_xent(z1, z2, None, keys2, temperature=0.3),
        oracles.nt_xent(z1, z2, z1, keys2, 0.3),
        rtol=1e-13,
        atol=0,
    )


def test_one_image_has_one_candidate_and_no_loss() -> None:
    assert nt_xent(_units(1, 4), _units(1, 4, seed=1), temperature=0.1).item() == 0
    assert info_cap_nats(1) == 0


@settings(deadline=None, max_examples=20)
@given(n=st.integers(2, 9), d=st.integers(2, 20), seed=st.integers(0, 99))
def test_nt_xent_knows_no_order_of_images_or_views(n: int, d: int, seed: int) -> None:
    z1, z2 = _units(2, n, d, seed=seed)
    loss = nt_xent(z1, z2, temperature=0.2)
    order = torch.randperm(n)
    assert loss >= 0
    torch.testing.assert_close(nt_xent(z1[order], z2[order], temperature=0.2), loss)
    torch.testing.assert_close(nt_xent(z2, z1, temperature=0.2), loss)


def test_equal_codes_tell_nothing() -> None:
    z = _units(1, 4).expand(6, 4)
    assert nt_xent(z, z, temperature=0.1).item() == pytest.approx(info_cap_nats(11), rel=1e-12)
    assert info_cap_nats(11) == math.log(11)


@pytest.mark.parametrize("case", golden.cases("simclr_ntxent", lambda c: "hidden" in c))
def test_simclr_official(case: golden.Case) -> None:
    hidden = case["hidden"].requires_grad_()
    z = F.normalize(hidden, dim=1) if case.settings["hidden_norm"] else hidden
    loss = 2 * nt_xent(*z.chunk(2), temperature=case.settings["temperature"])
    _check_official(case, loss, hidden)


def _is(trick: bool, both: bool) -> golden.Wanted:
    return lambda c: (
        c.settings["double_batch_trick"] == trick and c.settings["bidirectional"] == both
    )


@pytest.mark.parametrize("case", golden.cases("cvr_contrastive", _is(trick=True, both=True)))
def test_c_simclr_baseline_official(case: golden.Case) -> None:
    hidden = case["hidden"].requires_grad_()
    z1, z2 = F.normalize(hidden, dim=1).chunk(2)
    loss = nt_xent(z1, z2, temperature=case.settings["temperature"])
    _check_official(case, 2 * loss, hidden)
    information = (case["metric_i_y_zx"] + case["metric_i_x_zy"]) / 2
    tolerance = 1e-5 if hidden.dtype == torch.float32 else 1e-10
    torch.testing.assert_close(
        info_cap_nats(2 * len(z1) - 1) - loss, information, rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize(
    "case",
    golden.cases("cvr_contrastive", lambda c: not _is(trick=True, both=True)(c)),
)
def test_the_loops_equal_the_official_switches(case: golden.Case) -> None:
    """What our function doesn't offer still pins the oracle that it is tested against."""
    hidden = case["hidden"].requires_grad_()
    z1, z2 = F.normalize(hidden, dim=1).chunk(2)
    trick, temperature = case.settings["double_batch_trick"], case.settings["temperature"]
    loss = oracles.contrastive_direction(z1, z2, z1 if trick else None, temperature)
    if case.settings["bidirectional"]:
        loss = loss + oracles.contrastive_direction(z2, z1, z2 if trick else None, temperature)
    _check_official(case, loss, hidden)


def _check_official(case: golden.Case, loss: Tensor, hidden: Tensor) -> None:
    tolerance = 1e-5 if hidden.dtype == torch.float32 else 1e-10
    torch.testing.assert_close(loss, case["loss"], rtol=tolerance, atol=0)
    (gradient,) = _gradients(loss, hidden)
    scale = case["grad_hidden"].abs().max().item()
    torch.testing.assert_close(gradient, case["grad_hidden"], rtol=0, atol=tolerance * scale)


def _on_ranks(views: Tensor, weight: Tensor, temperature: float) -> tuple[Tensor, ...]:
    """Loss of this rank, and its gradients, for `views` (ranks, 2, n, d)."""
    local = views[gather.rank()].clone().requires_grad_()
    weight = weight.clone().requires_grad_()
    z1, z2 = F.normalize(local @ weight, dim=-1)
    loss = nt_xent(z1, z2, temperature=temperature)
    by_views, by_weight = _gradients(loss, local, weight)
    return loss.detach(), by_views, by_weight, top1(z1, z2)


@pytest.mark.ranks
@pytest.mark.parametrize(
    "case",
    golden.cases("simclr_ntxent", lambda c: c.name.startswith("dist"))
    + golden.cases("cvr_distributed", lambda c: c.name.endswith("contrastive")),
)
def test_two_ranks_equal_two_official_replicas(case: golden.Case, ranks: RankPool) -> None:
    results = ranks(_on_ranks, case["views"], case["weight"], case.settings["temperature"])
    losses, by_views, by_weight, _ = (torch.stack(x) for x in zip(*results, strict=True))
    torch.testing.assert_close(2 * losses, case["loss"], rtol=1e-10, atol=0)
    # A rank's gradient is of the sum of both losses, the official one of their mean; theirs is
    # also twice ours, being the sum of both directions.
    torch.testing.assert_close(by_views, case["grad_views"], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(
        2 * by_weight.mean(dim=0), case["grad_weight_summed"], rtol=1e-9, atol=1e-12
    )


@pytest.mark.ranks
def test_two_ranks_equal_one_process(ranks: RankPool) -> None:
    views, weight = torch.randn(2, 2, 3, 5).double(), torch.randn(5, 5).double()
    losses, by_views, by_weight, shares = (
        torch.stack(x) for x in zip(*ranks(_on_ranks, views, weight, 0.3), strict=True)
    )
    globally = views.transpose(0, 1).reshape(1, 2, 6, 5)  # both ranks' images in rank order
    loss, by_view, by_all, share = _on_ranks(globally, weight, 0.3)
    torch.testing.assert_close(losses.mean(), loss, rtol=1e-13, atol=0)
    torch.testing.assert_close(by_weight.mean(dim=0), by_all, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        by_views.transpose(0, 1).reshape(2, 6, 5) / 2, by_view, rtol=1e-12, atol=1e-12
    )
    torch.testing.assert_close(shares.mean(), share)


def test_top1_counts_by_loops() -> None:
    z1, z2, keys1, keys2 = _units(4, 20, 3)
    hits = 0
    for anchors, other, same in ((z1, keys2, keys1), (z2, keys1, keys2)):
        for i in range(20):
            rivals = [*other[:i], *other[i + 1 :], *same[:i], *same[i + 1 :]]
            best = max(float(anchors[i] @ rival) for rival in rivals)
            hits += float(anchors[i] @ other[i]) > best
    share = top1(z1, z2, keys1, keys2)
    assert 0 < hits < 40 and share.item() == pytest.approx(hits / 40)
    assert top1(z1, z1).item() == 1 and not top1(z1.requires_grad_(), z2).requires_grad


def test_info_nce_and_gradients_equal_the_loops() -> None:
    leaves = [_units(n, 7, seed=n).requires_grad_() for n in (4, 5, 9)]
    query, key, negatives = leaves[0], leaves[1][:4], leaves[2]
    terms: list[Tensor] = []
    for i in range(4):
        candidates = torch.stack([key[i], *negatives])
        logits = torch.stack([query[i].dot(row) / 0.2 for row in candidates])
        terms.append(torch.logsumexp(logits, dim=0) - logits[0])
    expected = torch.stack(terms).mean()
    ours = info_nce(query, key, negatives, temperature=0.2)
    torch.testing.assert_close(ours, expected, rtol=1e-13, atol=0)
    for mine, other in zip(_gradients(ours, *leaves), _gradients(expected, *leaves), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-11, atol=1e-15)


def test_half_precision_ends_at_the_codes() -> None:
    z1, z2 = _units(2, 16, 32, dtype=torch.float32)
    losses = [nt_xent(z1, z2, temperature=0.1), info_nce(z1, z2, z2, temperature=0.1)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = [nt_xent(z1, z2, temperature=0.1), info_nce(z1, z2, z2, temperature=0.1)]
        assert (z1 @ z2.T).dtype == torch.bfloat16  # it is on
    assert [x.item() for x in under] == [x.item() for x in losses]
    half = nt_xent(z1.bfloat16(), z2.bfloat16(), temperature=0.1)
    assert half.dtype == torch.float32
    assert half.item() == nt_xent(z1.bfloat16().float(), z2.bfloat16().float(), temperature=0.1)
