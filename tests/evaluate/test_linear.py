"""Linear probe against plain scikit-learn, and the split that chooses its strength."""

import math
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from squint.errors import DataError, RecipeError
from squint.evaluate import linear
from squint.evaluate.bench import Bench
from squint.evaluate.linear import LinearProbe, linear_probe, stratified_split
from squint.evaluate.options import LinearOptions


def classes(seed, images, count=3, width=5):
    """Overlapping Gaussian classes whose dimensions differ a thousandfold in scale."""
    random = np.random.default_rng(seed)
    means = np.random.default_rng(99).normal(size=(count, width))
    labels = random.integers(0, count, images)
    features = (means[labels] + random.normal(size=(images, width))) * np.logspace(-2, 1, width)
    return torch.from_numpy(features).float(), torch.from_numpy(labels)


def test_equals_sklearn_at_the_chosen_strength():
    (x, y), (x_test, y_test) = classes(1, 400), classes(2, 300)
    probe = linear_probe(x, y, x_test, y_test, strengths=(0.01, 1.0))
    scaler = StandardScaler().fit(x.double().numpy())
    oracle = LogisticRegression(C=1 / (probe.strength * 400), tol=1e-8, max_iter=1000)
    oracle.fit(scaler.transform(x.double().numpy()), y.numpy())
    expected = oracle.score(scaler.transform(x_test.double().numpy()), y_test.numpy())
    assert probe.top1 == pytest.approx(expected, abs=0.004)  # one image of 300
    assert probe.converged and 0.6 < probe.top1 < 0.95


def test_strength_is_the_one_best_on_held_out_train():
    (x, y), (x_test, y_test) = classes(1, 400), classes(2, 300)
    x, x_test = x.repeat(1, 40), x_test.repeat(1, 40)
    x, x_test = x + torch.randn(x.shape), x_test + torch.randn(x_test.shape)
    probe = linear_probe(x, y, x_test, y_test)
    strengths = sorted((1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0), reverse=True)
    assert probe.strength == strengths[int(np.argmax(probe.held_out_top1))]
    assert len(set(probe.held_out_top1)) > 1


def test_equally_good_strengths_give_the_strongest():
    x = torch.tensor([[-1.0], [-1.1], [1.0], [1.1]] * 10)
    y = torch.tensor([0, 0, 1, 1] * 10)
    assert linear_probe(x, y, x, y, strengths=(0.01, 0.1)).strength == 0.1


def test_scale_shift_and_constant_dimensions_do_not_matter():
    (x, y), (x_test, y_test) = classes(1, 200), classes(2, 200)

    def moved(features):
        return torch.cat([1000 * features + 5, torch.full((200, 1), 0.3)], dim=1)

    assert linear_probe(moved(x), y, moved(x_test), y_test).top1 == pytest.approx(
        linear_probe(x, y, x_test, y_test).top1, abs=0.01
    )


def test_same_seed_same_outcome():
    (x, y), (x_test, y_test) = classes(1, 200), classes(2, 200)
    assert linear_probe(x, y, x_test, y_test) == linear_probe(x, y, x_test, y_test)


def test_iteration_limit_is_reported_not_warned(monkeypatch):
    monkeypatch.setattr(linear, "_MAX_ITERATIONS", 2)
    x, y = classes(1, 200)
    probe = linear_probe(x, y, x, y)
    assert isinstance(probe, LinearProbe) and not probe.converged


def test_protocol_says_everything():
    x, y = classes(1, 200)
    protocol = linear_probe(x, y, x, y, strengths=(0.5, 0.25), held_out=0.2, seed=7).protocol
    for part in ("standardised", "{0.5, 0.25}", "20 %", "seed 7", "200 train images", "refit"):
        assert part in protocol


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=60),
    st.floats(0.05, 0.9),
    st.integers(0, 3),
)
def test_split_is_stratified_and_a_partition(labels, share, seed):
    y = np.array(labels)
    fit, held = stratified_split(y, share=share, seed=seed)
    assert sorted([*fit, *held]) == list(range(len(y)))
    for label in np.unique(y):
        count, held_count = (y == label).sum(), (y[held] == label).sum()
        assert (y[fit] == label).any()
        assert held_count == 0 if count == 1 else held_count >= 1
        assert abs(held_count - share * count) <= 1
    again = stratified_split(y, share=share, seed=seed)
    assert all(np.array_equal(a, b) for a, b in zip((fit, held), again, strict=True))


def test_errors():
    x, y = classes(1, 30)
    with pytest.raises(DataError, match="The test split has no labels"):
        linear_probe(x, y, x, None)
    with pytest.raises(DataError, match="All 30 train images are of one class"):
        linear_probe(x, torch.ones_like(y), x, y)
    with pytest.raises(DataError, match=r"1 of 1 classes of the test images never occur .* \(2\)"):
        linear_probe(x, y % 2, x, torch.full_like(y, 2))
    with pytest.raises(DataError, match="can be held out"):
        linear_probe(x[:3], torch.arange(3), x[:3], torch.arange(3))
    with pytest.raises(RecipeError, match="strengths"):
        linear_probe(x, y, x, y, strengths=(0.0,))
    with pytest.raises(RecipeError, match="held_out"):
        linear_probe(x, y, x, y, held_out=1.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [("strengths", ()), ("strengths", (1.0, -1.0)), ("strengths", (math.nan,))]
    + [("held_out", share) for share in (0.0, 1.0, 2.0, math.nan)],
)
def test_settings_out_of_range_are_refused_when_made(field: str, value: Any) -> None:
    with pytest.raises(RecipeError, match=rf"linear\.{field}="):
        LinearOptions(**{field: value})


def test_weight_and_bias_read_raw_features_and_classes_keep_their_numbers():
    (x, y), (x_test, y_test) = classes(1, 200), classes(2, 200)
    x, x_test = 3 * x + 5, 3 * x_test + 5
    moved = [
        torch.where(each > 0, each + 2, each) for each in (y, y_test)
    ]  # classes 1, 2 are absent
    for train, test in ((y, y_test), moved):
        probe = linear_probe(x, train, x_test, test)
        logits = x_test @ probe.weight.T + probe.bias
        assert (logits.argmax(dim=1) == test).double().mean().item() == pytest.approx(probe.top1)


@pytest.mark.parametrize("strength", [1e-5, 1e-4])
def test_weak_penalties_are_felt(strength: float) -> None:
    """Where features tell classes apart, the penalty alone says how far weights grow."""
    random = np.random.default_rng(0)
    spread = np.linalg.qr(random.normal(size=(96, 96)))[0] / np.arange(1, 97)[:, None]
    y = torch.from_numpy(random.integers(0, 5, 200))
    x = torch.from_numpy(np.maximum(random.normal(size=(200, 96)) @ spread, 0)).float()
    probe = linear_probe(x, y, x, y, strengths=(strength,))
    assert probe.converged
    scaler = StandardScaler().fit(x.double().numpy())
    model = LogisticRegression(C=1 / (strength * len(x)), max_iter=20_000, tol=1e-8)
    expected = model.fit(scaler.transform(x.double().numpy()), y.numpy()).coef_
    found = (probe.weight * torch.from_numpy(scaler.scale_)).numpy()
    assert np.linalg.norm(found - expected) < 0.03 * np.linalg.norm(expected)


def test_a_probe_that_did_not_converge_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = classes(1, 200)
    monkeypatch.setattr(linear, "_MAX_ITERATIONS", 2)
    monkeypatch.setattr(linear, "probe_of", lambda *_: linear_probe(x, y, x, y))
    bench = MagicMock(spec=Bench, kinds=("trained",))
    bench.entry.side_effect = lambda *_, **more: more
    with pytest.warns(UserWarning, match="probe of the trained encoder stopped after 2 iterations"):
        entry = linear.measured(bench)["linear_top1"]
    assert entry["converged"] is False
