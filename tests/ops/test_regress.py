"""Cosine regression against BYOL's official loss and the paper's two forms."""

import pytest
import torch
import torch.nn.functional as F

import golden
from squint.ops.regress import cosine_regression


@pytest.mark.parametrize("case", golden.cases("byol", lambda c: c.name.startswith("loss")))
def test_byol_official(case: golden.Case) -> None:
    p1, p2 = (case[f"pred_view{view}"].requires_grad_() for view in (1, 2))
    t1, t2 = case["target_view1"], case["target_view2"]
    loss = cosine_regression(p1, t2) + cosine_regression(p2, t1)
    torch.testing.assert_close(loss, case["loss"], rtol=1e-10, atol=0)
    loss.backward()
    for leaf, name in ((p1, "grad_pred_view1"), (p2, "grad_pred_view2")):
        torch.testing.assert_close(leaf.grad, case[name], rtol=1e-9, atol=1e-13)


def _normalised(case: golden.Case) -> bool:
    return case.name.startswith("byol") and case.settings["hidden_norm"]


@pytest.mark.parametrize("case", golden.cases("cvr_byol", _normalised))
def test_c_byol_baseline_official(case: golden.Case) -> None:
    hidden = case["hidden"].requires_grad_()
    loss = case.settings["weight"] * cosine_regression(*hidden.chunk(2))
    torch.testing.assert_close(loss, case["loss"], rtol=1e-10, atol=0)
    loss.backward()
    torch.testing.assert_close(hidden.grad, case["grad_hidden"], rtol=1e-9, atol=1e-13)


def _raw(case: golden.Case) -> bool:
    return case.name.startswith("byol") and not case.settings["hidden_norm"]


@pytest.mark.parametrize("case", golden.cases("cvr_byol", _raw))
def test_c_byol_baseline_without_normalisation(case: golden.Case) -> None:
    """|p - t|^2 = |p|^2 + |t|^2 - |p| |t| (2 - r), r our regression of the row alone."""
    hidden = case["hidden"].requires_grad_()
    raw = []
    for p, t in zip(*hidden.chunk(2), strict=True):
        r = cosine_regression(p[None], t[None])
        raw.append(p.square().sum() + t.square().sum() - p.norm() * t.norm() * (2 - r))
    loss = case.settings["weight"] * torch.stack(raw).mean()
    torch.testing.assert_close(loss, case["loss"], rtol=1e-9, atol=0)
    loss.backward()
    torch.testing.assert_close(hidden.grad, case["grad_hidden"], rtol=1e-9, atol=1e-11)


def test_is_two_minus_two_cosines() -> None:
    p, t = torch.randn(2, 8, 5, dtype=torch.float64)
    expected = 2 - 2 * F.cosine_similarity(p, t).mean()
    torch.testing.assert_close(cosine_regression(p, t), expected)
    torch.testing.assert_close(cosine_regression(3 * p, 0.1 * t), expected)
    assert cosine_regression(p.bfloat16(), t.bfloat16()).dtype == torch.float32


def test_norms_end_at_a_millionth() -> None:
    """x rsqrt(max(|x|^2, 1e-12)), as in the official codes, and its gradient."""
    p, t = torch.randn(2, 5, 4, dtype=torch.float64)
    lengths = torch.tensor([1.0, 2e-6, 5e-7, 1e-9, 0.0], dtype=torch.float64)[:, None]
    p = (F.normalize(p, dim=1) * lengths).requires_grad_()
    t = (F.normalize(t, dim=1) * lengths.flip(0)).requires_grad_()
    a, b = (x * x.square().sum(1, keepdim=True).clamp(min=1e-12).rsqrt() for x in (p, t))
    official = (a - b).square().sum(dim=1).mean()
    loss = cosine_regression(p, t)
    torch.testing.assert_close(loss, official, rtol=1e-12, atol=0)
    ours, theirs = (torch.autograd.grad(value, (p, t)) for value in (loss, official))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-6)
