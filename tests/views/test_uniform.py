"""Hashed uniform numbers: against SplitMix64 in Python integers, and their statistics."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from squint import native
from squint.views.uniform import stream, uniform

GAMMA = 0x9E3779B97F4A7C15
int64 = st.integers(-(2**63), 2**63 - 1)


def splitmix64(state: int) -> int:
    """The number SplitMix64 gives in the given state (Steele, Lea & Flood 2014)."""
    z = state % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def test_the_oracle_gives_the_published_sequence() -> None:
    numbers = [splitmix64(1234567 + (step + 1) * GAMMA) for step in range(3)]
    assert numbers == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("compiled", [True, False])
@settings(max_examples=25, deadline=None)
@given(seed=int64, epoch=st.integers(0, 10**6), index=int64, draw=st.integers(0, 10**6))
def test_a_number_is_splitmix64_of_its_place(
    compiled: bool, seed: int, epoch: int, index: int, draw: int
) -> None:
    key = 0
    for part in (seed, epoch, 1):
        key = splitmix64((key ^ part) + GAMMA)
    image = splitmix64(key + (index + 1) * GAMMA)
    expected = (splitmix64(image + (draw + 1) * GAMMA) >> 11) * 2.0**-53
    with pytest.MonkeyPatch.context() as patch:
        if not compiled:
            patch.setattr(native, "library", lambda: None)
        assert uniform(stream(seed, epoch, 1), torch.tensor([index]), draw, 1).item() == expected


@pytest.mark.skipif(native.library() is None, reason="no kernels were built")
def test_the_kernel_gives_torchs_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(-(2**62), 2**62, (700,), generator=generator)
    spread = index.repeat_interleave(2)[::2]  # not in a row
    ours = uniform(stream(3, 1, 0), spread, 5, 37)
    monkeypatch.setattr(native, "library", lambda: None)
    assert torch.equal(ours, uniform(stream(3, 1, 0), index, 5, 37))


def test_a_number_does_not_depend_on_the_range_or_the_batch() -> None:
    key = stream(0, 1, 0)
    every = uniform(key, torch.arange(50), 0, 40)
    assert torch.equal(uniform(key, torch.tensor([31, 7]), 12, 5), every[[31, 7], 12:17])


N = 4096
AXES = {
    "index": lambda: uniform(stream(0, 0, 0), torch.arange(N), 0, 1)[:, 0],
    "far index": lambda: uniform(stream(0, 0, 0), torch.arange(N) * 2**40, 0, 1)[:, 0],
    "draw": lambda: uniform(stream(0, 0, 0), torch.zeros(1, dtype=torch.long), 0, N)[0],
    "epoch": lambda: torch.cat(
        [
            uniform(stream(0, epoch, 0), torch.zeros(1, dtype=torch.long), 0, 1)[0]
            for epoch in range(N // 16)
        ]
    ),
    "seed": lambda: torch.cat(
        [
            uniform(stream(seed, 0, 0), torch.zeros(1, dtype=torch.long), 0, 1)[0]
            for seed in range(N // 16)
        ]
    ),
}


@pytest.mark.parametrize("axis", AXES)
def test_numbers_along_an_axis_are_uniform_and_uncorrelated(axis: str) -> None:
    u = AXES[axis]()
    assert 0 <= u.min() and u.max() < 1
    count = torch.histc(u, 16, 0, 1)
    chi2 = ((count - len(u) / 16) ** 2 / (len(u) / 16)).sum().item()
    assert 3 < chi2 < 40  # 15 degrees of freedom: beyond it once in 1,500 hashes
    for lag in (1, 2, 7):
        r = torch.corrcoef(torch.stack([u[lag:], u[:-lag]]))[0, 1].item()
        assert abs(r) < 4 / len(u) ** 0.5


@pytest.mark.parametrize("other", [(1, 0, 0), (0, 1, 0), (0, 0, 1)], ids=["seed", "epoch", "view"])
def test_streams_are_independent(other: tuple[int, int, int]) -> None:
    index = torch.arange(N)
    here, there = uniform(stream(0, 0, 0), index, 0, 2), uniform(stream(*other), index, 0, 2)
    r = torch.corrcoef(torch.cat([here, there], dim=1).T).fill_diagonal_(0)
    assert r.abs().max() < 4.5 / N**0.5
