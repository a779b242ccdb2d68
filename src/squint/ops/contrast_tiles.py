"""The contrastive loss by tiles: similarities are computed, used and dropped a few MiB at a time.

Beside inputs and gradients it takes O(n d) memory. Two forms:

`contrast` takes a block of anchors against all keys. It has whole rows of the softmax, so the
forward pass computes the gradient too, which the backward pass only scales: three matrix products.

`symmetric` is for codes that are each other's keys (SimCLR on one rank). A tile of similarities
serves its rows and its columns; the backward pass computes it again: the work of two products.

Logits are in bits, similarity / (temperature ln 2), because exp2 is faster than exp. With p the
logit of a row's positive and t the sum of 2^logit over its negatives: loss = ln 2 log2(1 + t 2^-p).
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from squint.ops.contrast_dense import (
    cross_entropy_nats,
    gradient_wanted,
    mean_hits,
    refuse_second_derivative,
    scaled_gradients,
)
from squint.ops.products import times_transposed
from squint.shapes import Scalar

BLOCK = 2**20
"""Similarities in a block of rows: 4 MiB of float32."""
LEAST_ROWS = 64
"""Anchors in a block however many keys there are: fewer would leave a product's cache unused."""
SIDE = 512
"""Rows and columns of a symmetric tile: 1 MiB of float32."""


def contrast(
    anchors: Float[Tensor, "n d"],
    partners: Float[Tensor, "n d"],
    keys: Float[Tensor, "k d"],
    own: tuple[int, ...],
    *,
    temperature: float,
    products: torch.dtype = torch.float32,
) -> tuple[Scalar, Scalar]:
    """As `contrast_dense.contrast`; `products` = torch.bfloat16 is cheaper and coarser."""
    wanted = gradient_wanted(anchors, partners, keys)
    return _Rows.apply(anchors, partners, keys, own, temperature, products, wanted)


def symmetric(
    z1: Float[Tensor, "n d"],
    z2: Float[Tensor, "n d"],
    *,
    temperature: float,
    products: torch.dtype = torch.float32,
) -> tuple[Scalar, Scalar]:
    """NT-Xent and its share of hits when codes are their own keys and no other rank has any.

    Args:
        z1: Codes of view 1, for which `fits_symmetric` holds.
        z2: Codes of view 2, row by row the same images.
        temperature: Divides the similarities; positive.
        products: As for `contrast`.
    """
    return _Symmetric.apply(torch.cat((z1, z2)), temperature, products, SIDE)


def fits_symmetric(z1: Tensor, z2: Tensor, temperature: float) -> bool:
    """Whether exp2 of no logit can overflow or vanish, so that no maximum need be subtracted.

    Always true of unit rows down to temperature 0.024 (float32). Waits for the device.
    """
    squares = torch.stack([z.detach().square().sum(dim=1).amax() for z in (z1, z2)])
    most = 500.0 if z1.dtype == torch.float64 else 60.0  # bits
    return float(squares.amax()) / (temperature * math.log(2)) <= most


class _Rows(torch.autograd.Function):
    """Loss and share of hits; the forward pass computes the loss's gradient too, if wanted."""

    @staticmethod
    def forward(
        ctx: Any,
        anchors: Tensor,
        partners: Tensor,
        keys: Tensor,
        own: tuple[int, ...],
        temperature: float,
        products: torch.dtype,
        wanted: bool,
    ) -> tuple[Tensor, Tensor]:
        block = max(LEAST_ROWS, BLOCK // len(keys))
        scale = 1 / (temperature * math.log(2))
        by_anchors, by_partners = torch.empty_like(anchors), torch.empty_like(partners)
        by_keys = torch.zeros_like(keys.T, memory_format=torch.contiguous_format)  # (d, k)
        losses: list[Tensor] = []
        hits: list[Tensor] = []
        for i in range(0, len(anchors), block):
            part = slice(i, i + block)
            a, p = anchors[part], partners[part]
            bits = times_transposed(a * scale, keys, products)  # (b, k)
            for first in own:
                _strike(bits, first + i)
            positive = (a * p).sum(dim=1) * scale  # (b,)
            top = bits.amax(dim=1).clamp(min=torch.finfo(bits.dtype).min)  # all struck: n = 1
            weights = bits.sub_(top[:, None]).exp2_()  # (b, k), unnormalised
            total = top + weights.sum(dim=1).log2()
            losses.append(cross_entropy_nats(positive, total))
            hits.append(positive > top)
            if not wanted:
                continue
            every = torch.logaddexp2(total, positive)
            # miss is the probability of the negatives, over temperature and n
            slope = torch.exp2(top - every)[:, None] / (temperature * len(anchors))
            miss = torch.exp2(total - every)[:, None] / (temperature * len(anchors))
            by_anchors[part] = slope * times_transposed(weights, keys.T, products) - miss * p
            by_partners[part] = -miss * a
            if ctx.needs_input_grad[2]:
                by_keys += times_transposed((slope * a).T, weights.T, products)
        if wanted:
            ctx.save_for_backward(by_anchors, by_partners, by_keys.T)
        top1 = mean_hits(torch.cat(hits))
        ctx.mark_non_differentiable(top1)
        return torch.cat(losses).mean(), top1

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return (*scaled_gradients(ctx, grad_outputs[0]), None, None, None, None)


class _Symmetric(torch.autograd.Function):
    """Loss and share of hits of codes z = (z1, z2); the backward pass computes each tile again."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, temperature: float, products: torch.dtype, side: int
    ) -> tuple[Tensor, Tensor]:
        n, scale = len(z) // 2, 1 / (temperature * math.log(2))
        positive = ((z[:n] * z[n:]).sum(dim=1) * scale).repeat(2)  # (2n,)
        total, top = z.new_zeros(len(z)), z.new_full((len(z),), -torch.inf)
        for i, j, bits in _tiles(z, scale, products, side):
            top[i] = torch.maximum(top[i], bits.amax(dim=1))
            top[j] = torch.maximum(top[j], bits.amax(dim=0))
            weights = bits.exp2_()
            total[i] += weights.sum(dim=1)
            if i != j:
                total[j] += weights.sum(dim=0)
        total = total.log2()
        ctx.save_for_backward(z, positive, total)
        ctx.settings = temperature, scale, products, side
        top1 = mean_hits(positive > top)
        ctx.mark_non_differentiable(top1)
        return cross_entropy_nats(positive, total).mean(), top1

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        refuse_second_derivative()
        z, positive, total = ctx.saved_tensors
        temperature, scale, products, side = ctx.settings
        every = torch.logaddexp2(total, positive)
        slope = torch.exp2(-every)  # (2n,)
        by = torch.zeros_like(z.T, memory_format=torch.contiguous_format)  # (d, 2n)
        for i, j, bits in _tiles(z, scale, products, side):
            weights = bits.exp2_().mul_(slope[i, None] + slope[j])  # of row and of column
            by[:, i] += times_transposed(z[j].T, weights, products)
            if i != j:
                by[:, j] += times_transposed(z[i].T, weights.T, products)
        miss = torch.exp2(total - every)[:, None]  # (2n, 1), probability of the negatives
        gradient = by.T - (miss + miss.roll(len(z) // 2, 0)) * z.roll(len(z) // 2, 0)
        return gradient * (grad_outputs[0] / (temperature * len(z))), None, None, None


def _tiles(z: Tensor, scale: float, products: torch.dtype, side: int) -> Any:
    """Tiles on and above the diagonal: rows, columns, and logits (of one image: -inf)."""
    n = len(z) // 2
    for i in range(0, len(z), side):
        a = z[i : i + side] * scale
        for j in range(i, len(z), side):
            bits = times_transposed(a, z[j : j + side], products)  # (side, side)
            for first in (-n, 0, n):
                _strike(bits, i + first - j)
            yield slice(i, i + side), slice(j, j + side), bits


def _strike(bits: Tensor, first: int) -> None:
    """Exclude column first + i from row i, where there is such a column."""
    if -len(bits) < first < bits.shape[1]:
        bits.diagonal(first).fill_(-torch.inf)
