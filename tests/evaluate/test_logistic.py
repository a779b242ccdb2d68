"""Logistic regression at many strengths against scikit-learn's at one."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import cross_entropy

from squint.evaluate import logistic
from squint.evaluate.linear import linear_probe

STRENGTHS = (1.0, 0.1, 1e-2, 1e-3)


def correlated(images: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Standardised features with strong correlations, as an encoder's are."""
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, images)
    means = random.normal(size=(classes, 20))
    latent = (means[labels] + random.normal(size=(images, 20))) * np.logspace(0, -2, 20)
    features = latent @ random.normal(size=(20, 30)) + 0.01 * random.normal(size=(images, 30))
    features = (features - features.mean(0)) / features.std(0)
    return torch.from_numpy(features).float(), torch.from_numpy(labels)


def objective(
    model: LogisticRegression, x: torch.Tensor, y: torch.Tensor, strength: float
) -> float:
    weight, bias = torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)
    penalty = strength / 2 * weight.square().sum()
    return (cross_entropy(x.double() @ weight.T + bias, y) + penalty).item()


def test_every_strength_reaches_the_minimum_scikit_learn_finds() -> None:
    x, y = correlated(600, 4)
    found = logistic.fit(x, y, STRENGTHS, classes=4, tolerance=1e-6, max_iterations=500)
    for row, strength in enumerate(STRENGTHS):
        model = LogisticRegression(C=1 / (strength * len(x)), tol=1e-10, max_iter=5000)
        model.fit(x.double().numpy(), y.numpy())
        assert found.loss[row].item() == pytest.approx(objective(model, x, y, strength), rel=1e-5)
        np.testing.assert_allclose(found.weight[row].numpy(), model.coef_, atol=2e-3)


def test_blocks_of_rows_and_company_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = correlated(300, 3)
    together = logistic.fit(x, y, STRENGTHS, classes=3)
    monkeypatch.setattr(logistic, "_CELLS", 300)
    alone = [logistic.fit(x, y, (strength,), classes=3).loss.item() for strength in STRENGTHS]
    np.testing.assert_allclose(together.loss.numpy(), alone, rtol=1e-4)


def test_a_start_at_the_minimum_stays_there() -> None:
    x, y = correlated(300, 3)
    found = logistic.fit(x, y, STRENGTHS, classes=3)
    again = logistic.fit(x, y, STRENGTHS, classes=3, start=found)
    assert again.iterations == 0 and torch.equal(again.weight, found.weight)


def test_two_classes_have_the_penalty_of_a_binary_model() -> None:
    x, y = correlated(300, 2)
    probe = linear_probe(x, y, x, y, strengths=(0.1,))
    model = LogisticRegression(C=1 / (0.1 * 300), tol=1e-8).fit(x.numpy(), y.numpy())
    difference = probe.weight[1] - probe.weight[0]
    deviation = x.std(dim=0, correction=0)
    np.testing.assert_allclose((difference * deviation).numpy(), model.coef_[0], atol=3e-3)
