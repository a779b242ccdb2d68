"""Contrastive objectives against loops, golden vectors, and one process against two."""

import math
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import golden
import oracles
from interpreter import needs_loops, needs_triton, run_interpreted
from ranks import RankPool
from squint.errors import RunError
from squint.ops import (
    contrast_dense,
    contrast_native,
    contrast_tiles,
    contrast_triton,
    gather,
)
from squint.ops.contrast import (
    DENSE_SIMILARITIES,
    Path,
    batch_info_nce_and_top1,
    info_cap_nats,
    info_nce,
    info_nce_and_top1,
    nt_xent,
    nt_xent_and_top1,
)


def _units(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(shape, generator=generator, dtype=dtype), dim=-1)


def _gradients(loss: Tensor, *leaves: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, leaves))


@pytest.mark.parametrize("path", ["dense", "tiles"])
def test_nt_xent_and_gradients_equal_the_loops(path: Path) -> None:
    leaves = [_units(5, 7, seed=seed).requires_grad_() for seed in range(4)]
    ours = nt_xent(*leaves, temperature=0.3, path=path)
    theirs = oracles.nt_xent(*leaves, 0.3)
    torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=0)
    for mine, other in zip(_gradients(ours, *leaves), _gradients(theirs, *leaves), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("path", ["dense", "tiles"])
def test_anchors_are_their_own_candidates_by_default(path: Path) -> None:
    z1, z2 = _units(5, 7), _units(5, 7, seed=1)
    torch.testing.assert_close(
        nt_xent(z1, z2, temperature=0.3, path=path),
        oracles.nt_xent(z1, z2, z1, z2, 0.3),
        rtol=1e-13,
        atol=0,
    )
    keys2 = _units(5, 7, seed=2)
    torch.testing.assert_close(
        nt_xent(z1, z2, None, keys2, temperature=0.3, path=path),
        oracles.nt_xent(z1, z2, z1, keys2, 0.3),
        rtol=1e-13,
        atol=0,
    )


@pytest.mark.parametrize("path", ["dense", "tiles"])
def test_one_image_has_one_candidate_and_no_loss(path: Path) -> None:
    z1, z2 = _units(1, 4).requires_grad_(), _units(1, 4, seed=1)
    loss = nt_xent(z1, z2, temperature=0.1, path=path)
    assert loss.item() == 0 and not _gradients(loss, z1)[0].any()
    assert nt_xent(z1, z2, z2, z1, temperature=0.1, path=path).item() == 0
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


@pytest.mark.parametrize("path", ["dense", "tiles"])
@pytest.mark.parametrize("case", golden.cases("simclr_ntxent", lambda c: "hidden" in c))
def test_simclr_official(case: golden.Case, path: Path) -> None:
    hidden = case["hidden"].requires_grad_()
    z = F.normalize(hidden, dim=1) if case.settings["hidden_norm"] else hidden
    loss = 2 * nt_xent(*z.chunk(2), temperature=case.settings["temperature"], path=path)
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


def _on_ranks(
    views: Tensor, weight: Tensor, temperature: float, path: Path = "auto"
) -> tuple[Tensor, ...]:
    """Loss of this rank, and its gradients, for `views` (ranks, 2, n, d)."""
    local = views[gather.rank()].clone().requires_grad_()
    weight = weight.clone().requires_grad_()
    z1, z2 = F.normalize(local @ weight, dim=-1)
    loss, top1 = nt_xent_and_top1(z1, z2, temperature=temperature, path=path)
    by_views, by_weight = _gradients(loss, local, weight)
    return loss.detach(), by_views, by_weight, top1


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
@pytest.mark.parametrize("path", ["dense", "tiles"])
def test_two_ranks_equal_one_process(ranks: RankPool, path: Path) -> None:
    views, weight = torch.randn(2, 2, 3, 5).double(), torch.randn(5, 5).double()
    losses, by_views, by_weight, shares = (
        torch.stack(x) for x in zip(*ranks(_on_ranks, views, weight, 0.3, path), strict=True)
    )
    globally = views.transpose(0, 1).reshape(1, 2, 6, 5)  # both ranks' images in rank order
    loss, by_view, by_all, share = _on_ranks(globally, weight, 0.3, path)
    torch.testing.assert_close(losses.mean(), loss, rtol=1e-13, atol=0)
    torch.testing.assert_close(by_weight.mean(dim=0), by_all, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        by_views.transpose(0, 1).reshape(2, 6, 5) / 2, by_view, rtol=1e-12, atol=1e-12
    )
    torch.testing.assert_close(shares.mean(), share)


def _largest_result(views: Tensor) -> int:
    """Numbers in the largest tensor that any operation of the loss on this rank makes."""
    leaves = [view.clone().requires_grad_() for view in views[gather.rank()]]
    with _Sizes() as sizes:
        _gradients(nt_xent(*leaves, temperature=0.1, path="tiles"), *leaves)
    return sizes.largest


class _Sizes(TorchDispatchMode):
    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else (result,):
            self.largest = max(self.largest, x.numel() if isinstance(x, Tensor) else 0)
        return result


@pytest.mark.ranks
def test_no_rank_holds_the_similarities_of_the_global_batch(ranks: RankPool) -> None:
    views = _units(2, 4, 2048, 8, dtype=torch.float32)
    m = 2 * 2048
    codes, similarities = 2 * m * 8, (2 * m) ** 2
    for largest in ranks(_largest_result, views):
        assert codes <= largest <= contrast_tiles.BLOCK
    assert contrast_tiles.BLOCK < similarities / 32  # nor even those of its own anchors


@pytest.mark.parametrize("path", ["dense", "tiles"])
def test_top1_counts_by_loops(path: Path) -> None:
    z1, z2, keys1, keys2 = _units(4, 20, 3)
    hits = 0
    for anchors, other, same in ((z1, keys2, keys1), (z2, keys1, keys2)):
        for i in range(20):
            rivals = [*other[:i], *other[i + 1 :], *same[:i], *same[i + 1 :]]
            best = max(float(anchors[i] @ rival) for rival in rivals)
            hits += float(anchors[i] @ other[i]) > best
    _, share = nt_xent_and_top1(z1, z2, keys1, keys2, temperature=0.1, path=path)
    assert 0 < hits < 40 and share.item() == pytest.approx(hits / 40)
    _, sure = nt_xent_and_top1(z1.requires_grad_(), z1, temperature=0.1, path=path)
    assert sure.item() == 1 and not sure.requires_grad
    same = _units(1, 3).expand(6, 3)
    assert nt_xent_and_top1(same, same, temperature=0.1, path=path)[1].item() == 0  # all ties


@pytest.mark.parametrize("path", ["dense", "tiles"])
def test_info_nce_and_gradients_equal_the_loops(path: Path) -> None:
    leaves = [_units(n, 7, seed=n).requires_grad_() for n in (4, 5, 9)]
    query, key, negatives = leaves[0], leaves[1][:4], leaves[2]
    terms: list[Tensor] = []
    for i in range(4):
        candidates = torch.stack([key[i], *negatives])
        logits = torch.stack([query[i].dot(row) / 0.2 for row in candidates])
        terms.append(torch.logsumexp(logits, dim=0) - logits[0])
    expected = torch.stack(terms).mean()
    ours = info_nce(query, key, negatives, temperature=0.2, path=path)
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


Objective = Callable[..., tuple[Tensor, Tensor]]


def _in_batch(z1: Tensor, z2: Tensor, *_: Tensor, **settings: Any) -> tuple[Tensor, Tensor]:
    return batch_info_nce_and_top1(z1, z2, **settings)


def _plain(z1: Tensor, z2: Tensor, *_: Tensor, **settings: Any) -> tuple[Tensor, Tensor]:
    return nt_xent_and_top1(z1, z2, **settings)


def _queue(z1: Tensor, z2: Tensor, k1: Tensor, k2: Tensor, **settings: Any) -> Any:
    return info_nce_and_top1(z1, z2, torch.cat((k1, k2)), **settings)


OBJECTIVES = [nt_xent_and_top1, _plain, _queue, _in_batch]


def _answers(objective: Objective, leaves: list[Tensor], **settings: Any) -> list[Tensor]:
    nats, top1 = objective(*leaves, **settings)
    found = torch.autograd.grad(3 * nats, leaves, allow_unused=True)
    return [nats.detach(), top1, *(x for x in found if x is not None)]


@pytest.mark.parametrize("objective", OBJECTIVES)
@settings(deadline=None, max_examples=25)
@given(
    n=st.integers(1, 150),
    d=st.integers(2, 40),
    temperature=st.sampled_from([0.02, 0.1, 1.0]),
    length=st.sampled_from([0.3, 1.0, 30.0]),  # rows need not be unit vectors
    seed=st.integers(0, 99),
)
def test_tiles_equal_the_reference(
    objective: Objective, n: int, d: int, temperature: float, length: float, seed: int
) -> None:
    leaves = [(length * x).requires_grad_() for x in _units(4, n, d, seed=seed)]
    with (
        mock.patch.object(contrast_tiles, "BLOCK", 3 * n),
        mock.patch.object(contrast_tiles, "LEAST_ROWS", 7),
        mock.patch.object(contrast_tiles, "SIDE", 16),
    ):
        tiles = _answers(objective, leaves, temperature=temperature, path="tiles")
    dense = _answers(objective, leaves, temperature=temperature, path="dense")
    assert len(tiles) == len(dense)
    assert tiles.pop(1).item() == pytest.approx(dense.pop(1).item(), abs=1e-6)  # a float32 share
    for ours, reference in zip(tiles, dense, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-10 / temperature)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_many_codes_take_tiles_and_little_memory(objective: Objective) -> None:
    n = 1 + math.isqrt(DENSE_SIMILARITIES)
    leaves = [x.requires_grad_() for x in _units(4, n, 16, dtype=torch.float32)]
    with mock.patch.object(contrast_dense, "contrast", side_effect=AssertionError):
        chosen = _answers(objective, leaves, temperature=0.1)
    for ours, reference in zip(
        chosen, _answers(objective, leaves, temperature=0.1, path="dense"), strict=True
    ):
        scale = reference.abs().max().item()
        torch.testing.assert_close(ours, reference, rtol=0, atol=2e-6 * scale)


needs_kernels = pytest.mark.skipif(
    not contrast_native.fits((torch.zeros(1, 1),), (torch.zeros(1, 1),), temperature=1.0),
    reason="the kernels are not built, or not for this processor",
)


@needs_kernels
@pytest.mark.parametrize("objective", OBJECTIVES)
@settings(deadline=None, max_examples=25)
@given(
    n=st.integers(1, 300),
    d=st.integers(2, 70),
    temperature=st.sampled_from([0.03, 0.1, 5.0]),
    seed=st.integers(0, 99),
    threads=st.sampled_from([1, 3]),
)
def test_the_native_kernels_equal_the_reference_in_float64(
    objective: Objective, n: int, d: int, temperature: float, seed: int, threads: int
) -> None:
    leaves = [x.requires_grad_() for x in _units(4, n, d, seed=seed, dtype=torch.float32)]
    exact = [x.detach().double().requires_grad_() for x in leaves]
    with (
        mock.patch.object(contrast_native, "BLOCK", 0),
        mock.patch.object(contrast_native, "LEAST_ROWS", 24),
        mock.patch.object(torch, "get_num_threads", lambda: threads),
    ):
        native = _answers(objective, leaves, temperature=temperature, path="native")
    dense = _answers(objective, exact, temperature=temperature, path="dense")
    assert len(native) == len(dense)
    del native[1], dense[1]  # of two nearly equal similarities float32 may take the other
    for ours, reference in zip(native, dense, strict=True):
        scale = max(reference.abs().max().item(), 1e-3)
        torch.testing.assert_close(ours.double(), reference, rtol=0, atol=1e-5 * scale)


@needs_kernels
def test_the_native_kernels_count_hits_and_take_what_fits() -> None:
    z1, z2, u1, u2 = _units(4, 200, 3, dtype=torch.float32)
    for leaves in ((z1, z2, u1, u2), (u1.requires_grad_(), z2.T.contiguous().T, u1, u2)):
        native = nt_xent_and_top1(*leaves, temperature=0.1, path="native")
        dense = nt_xent_and_top1(*leaves, temperature=0.1, path="dense")
        torch.testing.assert_close(native, dense, rtol=1e-6, atol=1e-6)
    with pytest.raises(RunError, match=r"logits of at most 42\. Take path='tiles'"):
        nt_xent(z1, z2, u1, u2, temperature=0.02, path="native")
    sharp = nt_xent(z1, z2, u1, u2, temperature=0.001)  # auto does without them
    torch.testing.assert_close(sharp, nt_xent(z1, z2, u1, u2, temperature=0.001, path="dense"))


@needs_kernels
def test_long_codes_of_either_view_keep_the_native_kernels_out() -> None:
    z1, z2, u1, u2 = _units(4, 1100, 32, dtype=torch.float32)
    for first, second in ((z1, 10 * z2), (10 * z1, z2)):
        for keys, temperature in (((), 0.5), ((u1, u2), 0.2)):
            leaves = (first, second, *keys)
            nats = nt_xent(*leaves, temperature=temperature)
            reference = nt_xent(*leaves, temperature=temperature, path="dense")
            torch.testing.assert_close(nats, reference, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_bfloat16_products_are_close_and_have_to_be_asked_for(objective: Objective) -> None:
    leaves = [x.requires_grad_() for x in _units(4, 300, 64, dtype=torch.float32)]
    exact = _answers(objective, leaves, temperature=0.2, path="tiles")
    coarse = _answers(objective, leaves, temperature=0.2, path="tiles", products=torch.bfloat16)
    assert coarse[0] != exact[0]
    assert coarse[0].item() == pytest.approx(exact[0].item(), rel=2e-3)
    for ours, reference in zip(coarse[2:], exact[2:], strict=True):
        assert (ours - reference).norm() < 0.02 * reference.norm()


def test_a_second_derivative_is_refused_not_wrong() -> None:
    z1, z2 = _units(2, 8, 4).requires_grad_()
    loss = nt_xent(z1, z2.detach(), temperature=0.1, path="tiles")
    with pytest.raises(RunError, match=r"no second derivative\. Pass path='dense'"):
        torch.autograd.grad(loss, z1, create_graph=True)


def test_a_path_that_is_not_there_is_named() -> None:
    with pytest.raises(RunError, match=r"run on CUDA, the tensors lie on cpu\. Take path='tiles'"):
        nt_xent(_units(4, 3), _units(4, 3), temperature=0.1, path="triton")


TRITON = """
import torch, torch.nn.functional as F
from squint.ops.contrast import info_nce_and_top1, nt_xent_and_top1
for n, k, d in ((5, 3, 7), (70, 130, 33)):
    z1, z2, u1, u2 = F.normalize(torch.randn(4, n, d), dim=2).unbind()
    queue = F.normalize(torch.randn(k, d), dim=1)
    for objective, codes in (
        (nt_xent_and_top1, (z1, z2)),
        (nt_xent_and_top1, (z1, z2, u1, u2)),
        (info_nce_and_top1, (z1, z2, queue)),
    ):
        leaves = [x.clone().requires_grad_() for x in codes]
        answers = []
        for path in ("dense", "triton"):
            nats, top1 = objective(*leaves, temperature=0.1, path=path)
            answers.append([nats.detach(), top1, *torch.autograd.grad(nats, leaves)])
        for ours, reference in zip(*answers, strict=True):
            torch.testing.assert_close(ours, reference, rtol=1e-5, atol=1e-6)
print("equal")
"""


@needs_triton
@needs_loops
def test_the_triton_kernels_equal_the_reference_in_triton_s_interpreter() -> None:
    run_interpreted(TRITON)


@pytest.mark.gpu
def test_the_triton_kernels_equal_the_reference_on_the_device() -> None:
    leaves = [x.cuda().requires_grad_() for x in _units(4, 500, 128, dtype=torch.float32)]
    for objective in OBJECTIVES:
        kernels = _answers(objective, leaves, temperature=0.1, path="triton")
        dense = _answers(objective, leaves, temperature=0.1, path="dense")
        for ours, reference in zip(kernels, dense, strict=True):
            scale = reference.abs().max().item()
            torch.testing.assert_close(ours, reference, rtol=0, atol=1e-5 * scale)


@needs_triton
def test_blocks_are_the_first_that_fit_on_the_chip(monkeypatch: pytest.MonkeyPatch) -> None:
    from squint.ops.contrast_triton_kernels import CHOICE

    class OutOfResources(Exception):
        pass

    room = 2

    def apply(codes: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        if CHOICE.index(rest[-1]) < room:
            raise OutOfResources("shared memory")
        return codes.sum(), codes.sum()

    monkeypatch.setattr(contrast_triton._Contrast, "apply", apply)
    contrast_triton._trial.cache_clear()
    with torch.inference_mode():  # the first to ask may be an evaluation
        assert contrast_triton._trial(torch.device("cpu"), 256) == (CHOICE[2], "")
    contrast_triton._trial.cache_clear()
    room = len(CHOICE)
    with pytest.warns(UserWarning, match="codes of 256 dimensions do not fit on its chip"):
        blocks, reason = contrast_triton._trial(torch.device("cpu"), 256)
    assert blocks is None and "256" in reason
    contrast_triton._trial.cache_clear()
