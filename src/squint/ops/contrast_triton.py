"""The contrastive loss on CUDA: similarities never leave the chip.

As `contrast_dense.contrast`, in O(n d) memory: the forward pass keeps one sum per anchor, the
backward pass computes every similarity again.
"""

import math
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from squint import trial
from squint.ops.contrast_dense import cross_entropy_nats, mean_hits, refuse_second_derivative
from squint.shapes import Scalar

MOST_DIMENSIONS = 256
"""Whole rows of a block of codes must fit on the chip."""


def missing(anchors: Tensor) -> str:
    """Why the kernels can't take these codes, in a few words; empty if they can."""
    if why := trial.absent(anchors.device):
        return why
    if anchors.dtype != torch.float32 or anchors.shape[1] > MOST_DIMENSIONS:
        return f"its kernels are for float32 codes of up to {MOST_DIMENSIONS} dimensions"
    return "" if trial.interpreted() else _trial(anchors.device, anchors.shape[1])[1]


def contrast(
    anchors: Float[Tensor, "n d"],
    partners: Float[Tensor, "n d"],
    keys: Float[Tensor, "k d"],
    own: tuple[int, ...],
    *,
    temperature: float,
) -> tuple[Scalar, Scalar]:
    """As `contrast_dense.contrast`, for codes for which `missing` is empty."""
    blocks = _blocks(anchors)
    contiguous = anchors.contiguous(), partners, keys.contiguous()
    with trial.on(anchors.device):
        return _Contrast.apply(*contiguous, own, temperature, blocks)


class _Contrast(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        anchors: Tensor,
        partners: Tensor,
        keys: Tensor,
        own: tuple[int, ...],
        temperature: float,
        blocks: Any,
    ) -> tuple[Tensor, Tensor]:
        from squint.ops import contrast_triton_kernels as kernels

        scale = 1 / (temperature * math.log(2))  # logits in bits
        total, top = kernels.sums(anchors, keys, own, scale, blocks)  # (n,) each, of the negatives
        positive = (anchors * partners).sum(dim=1) * scale  # (n,)
        ctx.save_for_backward(anchors, partners, keys, positive, total)
        ctx.settings = own, temperature, scale, blocks
        top1 = mean_hits(positive > top)
        ctx.mark_non_differentiable(top1)
        return cross_entropy_nats(positive, total).mean(), top1

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        refuse_second_derivative()
        from squint.ops import contrast_triton_kernels as kernels

        anchors, partners, keys, positive, total = ctx.saved_tensors
        own, temperature, scale, blocks = ctx.settings
        inputs = anchors, keys
        every = torch.logaddexp2(total, positive)
        weight = grad_outputs[0] / (temperature * len(anchors))
        miss = (torch.exp2(total - every) * weight)[:, None]  # (n, 1), of the negatives
        by_anchors = kernels.by_anchors(*inputs, every, own, scale, blocks) * weight
        by_anchors -= miss * partners
        by_keys = None
        if ctx.needs_input_grad[2]:
            by_keys = kernels.by_keys(*inputs, every, own, scale, blocks) * weight
        return by_anchors, -miss * anchors, by_keys, None, None, None


def _blocks(anchors: Tensor) -> Any:
    from squint.ops import contrast_triton_kernels as kernels

    if trial.interpreted():
        return kernels.CHOICE[0]
    return _trial(anchors.device, anchors.shape[1])[0]


@cache
def _trial(device: torch.device, dimensions: int) -> tuple[Any, str]:
    """The first blocks that fit on the chip and "", or None and what went wrong."""
    from squint.ops import contrast_triton_kernels as kernels

    fitting: list[kernels.Blocks] = []

    def run() -> str:
        for blocks in kernels.CHOICE:
            try:
                with torch.inference_mode(False), torch.enable_grad(), trial.on(device):
                    codes = torch.zeros(16, dimensions, device=device, requires_grad=True)
                    loss, _ = _Contrast.apply(codes, codes, codes, (0,), 1.0, blocks)
                    torch.autograd.grad(loss, codes)
            except Exception as error:
                if type(error).__name__ != "OutOfResources":
                    raise
            else:
                fitting.append(blocks)
                return ""
        return f"codes of {dimensions} dimensions do not fit on its chip"

    instead = "the loss is computed by torch instead, to the same numbers"
    reason = trial.failure(run, of="the contrastive loss", instead=instead)
    return (fitting[0] if fitting else None), reason
