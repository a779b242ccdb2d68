"""Directions away from the mean are uniform, and draws know nothing of each other."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor

from squint.ops import vmf

N = 20_000


def _uniform(n: int, dim: int, seed: int = 1) -> Tensor:
    """Draws at kappa = 0: isotropic, whatever the mean."""
    mu = F.normalize(torch.arange(1.0, dim + 1), dim=0).expand(n, dim)
    return vmf.sample(mu, 0.0, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize("dim", (2, 3, 4, 16, 128))
@pytest.mark.parametrize("kappa", (0.0, 100.0))
def test_directions_away_from_the_mean_are_uniform(dim: int, kappa: float) -> None:
    axis = F.normalize(torch.randn(dim, generator=torch.Generator().manual_seed(0)), dim=0)
    mu = axis.expand(N, dim)
    z = vmf.sample(mu, kappa, generator=torch.Generator().manual_seed(dim)).double()
    basis, _ = torch.linalg.qr(torch.cat((axis[:, None], torch.eye(dim)), dim=1).double())
    away = F.normalize(z @ basis[:, 1:dim], dim=1).numpy()  # (N, dim - 1), off the mean
    if dim == 2:
        assert abs((away > 0).mean() - 0.5) < 4 * 0.5 / np.sqrt(N)
        return
    half = (dim - 2) / 2  # of a coordinate: symmetric Beta on -1..1
    p_values = [stats.kstest((x + 1) / 2, stats.beta(half, half).cdf).pvalue for x in away.T]
    assert min(p_values) > 1e-3 / len(p_values)
    second = away.T @ away / N - np.eye(dim - 1) / (dim - 1)
    assert np.abs(second).max() < 6 * np.sqrt(2 / N) / (dim - 1)


@pytest.mark.parametrize("dim", (2, 3, 16, 128))
def test_rows_are_independent(dim: int) -> None:
    """Their angles follow the law of two independent draws; rows near each other share words."""
    z = _uniform(N, dim)
    half = (dim - 1) / 2
    law = stats.beta(half, half)
    for lag in (1, 2, 3, 4, 5, 64):
        cosine = (z[lag:] * z[:-lag]).sum(dim=1).clamp(-1, 1).numpy()
        for phase in range(4):  # of the four that share words
            p = stats.kstest((cosine[phase::4] + 1) / 2, law.cdf).pvalue
            assert p > 1e-4, (lag, phase)
        sizes = z[:, 1].abs()
        rank = stats.spearmanr(sizes[lag:].numpy(), sizes[:-lag].numpy()).statistic
        assert abs(rank) < 4.5 / np.sqrt(N)


def test_columns_are_independent() -> None:
    x = _uniform(N, 64).numpy() * 8
    for values in (x, x**2, np.abs(x)):
        off = np.corrcoef(values.T) - np.eye(64)
        # one part in 64 of the square is missing elsewhere where one column is large
        assert np.abs(off).max() < 5.5 / np.sqrt(N) + 1 / 63


def test_angles_know_nothing_of_directions() -> None:
    mu = F.one_hot(torch.tensor(0), 8).float().expand(N, 8)
    z = vmf.sample(mu, 5.0, generator=torch.Generator().manual_seed(3)).double()
    away = F.normalize(z[:, 1:], dim=1)
    for column in away.T:
        for values in (column, column.abs()):
            rank = stats.spearmanr(z[:, 0].numpy(), values.numpy()).statistic
            assert abs(rank) < 4.5 / np.sqrt(N)


def test_calls_are_independent() -> None:
    """Next to each other, and from seeds next to each other."""
    generator = torch.Generator().manual_seed(1)
    mu = torch.eye(16)[:1].expand(N, 16)
    first, second = (vmf.sample(mu, 0.0, generator=generator).double() for _ in range(2))
    law = stats.beta(7.5, 7.5)
    for other in (second, _uniform(N, 16, seed=2), first.roll(1, dims=0)):
        cosine = (first * other).sum(dim=1).clamp(-1, 1).numpy()
        assert stats.kstest((cosine + 1) / 2, law.cdf).pvalue > 1e-3
        assert not torch.equal(first, other)
