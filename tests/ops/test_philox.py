"""Philox in torch: the words its authors publish, and the normals made of them."""

import numpy as np
import pytest
import torch
from scipy import stats

from squint.ops import philox


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


@pytest.mark.parametrize(
    ("counters", "key", "expected"),
    [  # known answers that come with Random123, kat_vectors
        ((0,) * 4, 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((2**32 - 1,) * 4, 2**64 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            0x299F31D0_A4093822,
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_known_answers(counters: tuple[int, ...], key: int, expected: tuple[int, ...]) -> None:
    drawn = philox.words(torch.tensor(_signed(key)), *(torch.tensor([c]) for c in counters))
    assert tuple(word.item() for word in drawn) == expected


def _words(n: int) -> tuple[torch.Tensor, ...]:
    zero = torch.zeros(1, dtype=torch.int64)
    return philox.words(torch.tensor(77), torch.arange(n), zero, zero, zero)


def test_uniforms_are_uniform_and_inside() -> None:
    for word in _words(100_000):
        u = philox.uniform(word)
        assert stats.kstest(u.numpy(), "uniform").pvalue > 1e-3
    ends = philox.uniform(torch.tensor([0, 2**32 - 1]))
    assert 0 < ends[0] < 2**-32 and 1 - 2**-32 < ends[1] < 1


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
def test_normals_are_normal_and_independent(dtype: torch.dtype) -> None:
    n = 300_000
    radius, angle, radius2, angle2 = _words(n)
    pairs = (philox.normals(radius, angle, dtype), philox.normals(radius2, angle2, dtype))
    columns = [x.double().numpy() for pair in pairs for x in pair]
    for x in columns:
        assert stats.kstest(x, "norm").pvalue > 1e-3
        for power, moment in ((2, 1), (4, 3), (6, 15)):
            error = np.sqrt(stats.norm.moment(2 * power) - moment**2) / np.sqrt(n)
            assert abs((x**power).mean() - moment) < 4 * error
    for values in (np.stack(columns), np.stack(columns) ** 2, np.abs(np.stack(columns))):
        off = np.corrcoef(values) - np.eye(4)
        assert np.abs(off).max() < 4.5 / np.sqrt(n)


def test_normals_reach_their_ends_and_never_nought() -> None:
    """Nought would make a direction without length of a row of one number."""
    ends = torch.tensor([0, 1, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1])
    radius, angle = (x.flatten() for x in torch.meshgrid(ends, ends, indexing="ij"))
    exact = np.sqrt(-2 * np.log1p(-((2**31 - 1 - (radius.numpy() >> 1)) + 0.5) / 2**31))
    for dtype in (torch.float32, torch.float64):
        x, y = philox.normals(radius, angle, dtype)
        assert (x != 0).all() and (y != 0).all()
        assert np.allclose(torch.hypot(x, y).numpy(), exact, rtol=1e-6, atol=0)
    assert exact.max() == pytest.approx(6.66, abs=0.01)
