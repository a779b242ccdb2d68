"""Geometry of codes, against slow loops, known spectra and the ends of each scale."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from squint.ops import geometry


def unit(n: int, d: int, seed: int = 0) -> Tensor:
    draws = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(draws, dim=1)


@pytest.mark.parametrize(("n", "d"), [(64, 8), (8, 64), (16, 16)])
def test_effective_rank_is_that_of_the_singular_values(n: int, d: int) -> None:
    x = unit(n, d)
    share = torch.linalg.svdvals(x)
    share = share / share.sum()
    expected = math.exp(-sum(p * math.log(p) for p in share.tolist() if p > 0))
    assert float(geometry.effective_rank(x)) == pytest.approx(expected, rel=1e-5)


def test_effective_rank_of_equal_axes_is_their_number() -> None:
    codes = torch.eye(16)[torch.arange(60) % 6]  # 6 of 16 axes, equally often
    assert float(geometry.effective_rank(codes)) == pytest.approx(6, rel=1e-6)
    assert float(geometry.effective_rank(codes.bfloat16())) == pytest.approx(6, rel=1e-6)


def test_equal_codes_are_the_lower_end() -> None:
    same = unit(1, 12).expand(20, 12)
    # float64 leaves 1e-8 of the largest to every other singular value
    assert float(geometry.effective_rank(same)) == pytest.approx(1, abs=1e-4)
    assert float(geometry.uniformity(same)) == pytest.approx(0, abs=1e-12)
    assert float(geometry.negative_cosine(same, same)) == pytest.approx(1)
    assert float(geometry.alignment(same, same)) == 0
    assert float(geometry.effective_rank(torch.zeros(20, 12))) == 1


def test_uniformity_and_cosines_by_loops() -> None:
    h, y = unit(9, 5), unit(9, 5, seed=1)
    pairs = [(i, j) for i in range(9) for j in range(9) if i != j]
    potential = sum(math.exp(-2 * float((h[i] - h[j]).square().sum())) for i, j in pairs)
    assert float(geometry.uniformity(h)) == pytest.approx(math.log(potential / len(pairs)))
    cosines = [float(h[i] @ y[j]) for i, j in pairs]
    assert float(geometry.negative_cosine(h, y)) == pytest.approx(sum(cosines) / len(pairs))
    squares = [float((a - b).square().sum()) for a, b in zip(h, y, strict=True)]
    assert float(geometry.alignment(h, y)) == pytest.approx(sum(squares) / 9)


def test_even_codes_of_many_dimensions_are_the_upper_end() -> None:
    codes = unit(512, 256)
    assert float(geometry.uniformity(codes)) == pytest.approx(-4 + 8 / 256, abs=0.01)
    assert abs(float(geometry.negative_cosine(codes, unit(512, 256, seed=1)))) < 0.01
    assert float(geometry.effective_rank(codes)) > 200


def test_at_most_so_many_rows_are_compared() -> None:
    codes = unit(geometry.MOST_ROWS + 8, 16)
    few = codes[: geometry.MOST_ROWS]
    for sign in (geometry.effective_rank, geometry.uniformity):
        assert float(sign(codes)) == float(sign(few))
    apart = geometry.negative_cosine
    assert float(apart(codes, codes)) == float(apart(few, few))


def test_autocast_leaves_the_signs_alone() -> None:
    codes = unit(64, 32).float()
    signs = (geometry.effective_rank, geometry.uniformity)
    plain = [float(sign(codes)) for sign in signs]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert [float(sign(codes)) for sign in signs] == plain
