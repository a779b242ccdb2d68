"""Triton kernels of the contrastive loss; imported only where they run.

All logits are in bits: similarity / (temperature ln 2). A program takes a block of anchors over all
keys, or a block of keys over all anchors. Key first + i is no candidate of anchor i; up to two such
`first` are given as `own`.
"""

# pyright: basic, reportCallIssue=false

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor


class Blocks(NamedTuple):
    """Sizes of what is on the chip at once."""

    rows: int
    """Anchors of a block; tl.dot wants at least 16."""
    columns: int
    """Keys of a block, likewise."""
    stages: int
    """Blocks being loaded ahead."""


CHOICE = (
    Blocks(64, 64, 3),
    Blocks(64, 64, 1),
    Blocks(64, 32, 2),
    Blocks(32, 32, 2),
    Blocks(32, 32, 1),
    Blocks(16, 16, 1),
)
"""The fastest first. An H100 has room for the first with codes of 128 dimensions, and for the third
with 256; smaller devices have room for less."""
NOWHERE = -(2**30)
"""First column of a diagonal that is not there."""


def width(dimensions: int) -> int:
    """Dimensions of a code on the chip, padded to a power of 2."""
    return max(16, triton.next_power_of_2(dimensions))


def sums(
    anchors: Tensor, keys: Tensor, own: tuple[int, ...], scale: float, blocks: Blocks
) -> tuple[Tensor, Tensor]:
    """Base-2 logarithm of each anchor's sum over its negatives, and its largest negative."""
    total, top = anchors.new_empty(len(anchors)), anchors.new_empty(len(anchors))
    _sums[(triton.cdiv(len(anchors), blocks.rows),)](
        anchors, keys, total, top, *_sizes(anchors, keys, own), scale, **_shape(anchors, blocks)
    )
    return total, top


def by_anchors(
    anchors: Tensor,
    keys: Tensor,
    every: Tensor,
    own: tuple[int, ...],
    scale: float,
    blocks: Blocks,
) -> Tensor:
    """Keys weighted by their probability, per anchor; `every` is the sum over all candidates."""
    gradient = torch.empty_like(anchors)
    _by_anchors[(triton.cdiv(len(anchors), blocks.rows),)](
        anchors,
        keys,
        every,
        gradient,
        *_sizes(anchors, keys, own),
        scale,
        **_shape(anchors, blocks),
    )
    return gradient


def by_keys(
    anchors: Tensor,
    keys: Tensor,
    every: Tensor,
    own: tuple[int, ...],
    scale: float,
    blocks: Blocks,
) -> Tensor:
    """Anchors weighted by the probability they give a key, per key."""
    gradient = torch.empty_like(keys)
    _by_keys[(triton.cdiv(len(keys), blocks.columns),)](
        anchors,
        keys,
        every,
        gradient,
        *_sizes(anchors, keys, own),
        scale,
        **_shape(anchors, blocks),
    )
    return gradient


def _sizes(anchors: Tensor, keys: Tensor, own: tuple[int, ...]) -> tuple[int, ...]:
    first, second = (*own, NOWHERE, NOWHERE)[:2]
    return len(anchors), len(keys), anchors.shape[1], first, second


def _shape(anchors: Tensor, blocks: Blocks) -> dict[str, int]:
    return {
        "ROWS": blocks.rows,
        "COLUMNS": blocks.columns,
        "WIDTH": width(anchors.shape[1]),
        "num_stages": blocks.stages,
    }


@triton.jit
def _codes(pointer, rows, count, dimensions, WIDTH: tl.constexpr):
    """Rows of a matrix of codes, with zeros beyond its end."""
    columns = tl.arange(0, WIDTH)
    inside = (rows[:, None] < count) & (columns[None, :] < dimensions)
    return tl.load(pointer + rows[:, None] * dimensions + columns[None, :], mask=inside, other=0.0)


@triton.jit
def _store_codes(pointer, codes, rows, count, dimensions, WIDTH: tl.constexpr):
    columns = tl.arange(0, WIDTH)
    inside = (rows[:, None] < count) & (columns[None, :] < dimensions)
    tl.store(pointer + rows[:, None] * dimensions + columns[None, :], codes, mask=inside)


@triton.jit
def _logits(a, b, i, j, k, first, second, scale):
    """Logits of anchors i against keys j, in bits; minus infinity where there is no candidate."""
    bits = tl.dot(a, tl.trans(b), input_precision="tf32x3") * scale
    lag = j[None, :] - i[:, None]
    out = (lag == first) | (lag == second) | (j[None, :] >= k)
    return tl.where(out, float("-inf"), bits)


@triton.jit
def _sums(
    anchors, keys, total, top, n, k, d, first, second, scale,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    a = _codes(anchors, i, n, d, WIDTH)
    most = tl.full((ROWS,), -3.0e38, tl.float32)
    running = tl.zeros((ROWS,), tl.float32)
    for start in range(0, k, COLUMNS):
        j = start + tl.arange(0, COLUMNS)
        bits = _logits(a, _codes(keys, j, k, d, WIDTH), i, j, k, first, second, scale)
        new = tl.maximum(most, tl.max(bits, 1))
        running = running * tl.exp2(most - new) + tl.sum(tl.exp2(bits - new[:, None]), 1)
        most = new
    tl.store(total + i, most + tl.log2(running), mask=i < n)
    tl.store(top + i, most, mask=i < n)


@triton.jit
def _by_anchors(
    anchors, keys, every, gradient, n, k, d, first, second, scale,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    a = _codes(anchors, i, n, d, WIDTH)
    norm = tl.load(every + i, mask=i < n, other=float("inf"))
    by = tl.zeros((ROWS, WIDTH), tl.float32)
    for start in range(0, k, COLUMNS):
        j = start + tl.arange(0, COLUMNS)
        b = _codes(keys, j, k, d, WIDTH)
        weights = tl.exp2(_logits(a, b, i, j, k, first, second, scale) - norm[:, None])
        by += tl.dot(weights, b, input_precision="tf32x3")
    _store_codes(gradient, by, i, n, d, WIDTH)


@triton.jit
def _by_keys(
    anchors, keys, every, gradient, n, k, d, first, second, scale,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    j = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    b = _codes(keys, j, k, d, WIDTH)
    by = tl.zeros((COLUMNS, WIDTH), tl.float32)
    for start in range(0, n, ROWS):
        i = start + tl.arange(0, ROWS)
        a = _codes(anchors, i, n, d, WIDTH)
        norm = tl.load(every + i, mask=i < n, other=float("inf"))
        weights = tl.exp2(_logits(a, b, i, j, k, first, second, scale) - norm[:, None])
        by += tl.dot(tl.trans(weights), a, input_precision="tf32x3")
    _store_codes(gradient, by, j, k, d, WIDTH)
