"""The contrastive loss on CUDA: similarities never leave the chip.

The same question as `contrast_dense.contrast` and `contrast_tiles.rows`, in O(n d) memory: the
forward pass keeps one sum per anchor, the backward pass makes every similarity again.
"""

import math
import os
import warnings
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from squint.ops.contrast_dense import nats, refuse_second_derivative, share

MOST_DIMENSIONS = 256
"""Rows of a block of codes lie on the chip whole."""


def missing(anchors: Tensor) -> str:
    """Why the kernels can't take these codes, in a few words; empty if they can."""
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if anchors.device.type != "cuda" and not interpreted:
        return f"its kernels run on CUDA, the codes lie on {anchors.device}"
    if anchors.dtype != torch.float32 or anchors.shape[1] > MOST_DIMENSIONS:
        return f"its kernels are for float32 codes of up to {MOST_DIMENSIONS} dimensions"
    if find_spec("triton") is None:
        return "the package triton is not installed"
    return "" if interpreted else _trial(anchors.device)


def contrast(
    anchors: Float[Tensor, "n d"],
    partners: Float[Tensor, "n d"],
    keys: Float[Tensor, "k d"],
    own: tuple[int, ...],
    *,
    temperature: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """As `contrast_dense.contrast`, for codes of which `missing` has nothing to say."""
    return _Contrast.apply(anchors.contiguous(), partners, keys.contiguous(), own, temperature)


class _Contrast(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        anchors: Tensor,
        partners: Tensor,
        keys: Tensor,
        own: tuple[int, ...],
        temperature: float,
    ) -> tuple[Tensor, Tensor]:
        from squint.ops import contrast_triton_kernels as kernels

        scale = 1 / (temperature * math.log(2))  # logits in bits
        total, top = kernels.sums(anchors, keys, own, scale)  # (n,) each, of the negatives
        partner = (anchors * partners).sum(dim=1) * scale  # (n,)
        ctx.save_for_backward(anchors, partners, keys, partner, total)
        ctx.settings = own, temperature, scale
        top1 = share(partner > top)
        ctx.mark_non_differentiable(top1)
        return nats(partner, total).mean(), top1

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        refuse_second_derivative()
        from squint.ops import contrast_triton_kernels as kernels

        anchors, partners, keys, partner, total = ctx.saved_tensors
        own, temperature, scale = ctx.settings
        every = torch.logaddexp2(total, partner)
        weight = grad_outputs[0] / (temperature * len(anchors))
        pull = (torch.exp2(total - every) * weight)[:, None]  # (n, 1)
        by_anchors = kernels.by_anchors(anchors, keys, every, own, scale) * weight - pull * partners
        by_keys = None
        if ctx.needs_input_grad[2]:
            by_keys = kernels.by_keys(anchors, keys, every, own, scale) * weight
        return by_anchors, -pull * anchors, by_keys, None, None


@cache
def _trial(device: torch.device) -> str:
    """Compile and run the kernels once on a few codes; what went wrong, said once, or nothing."""
    codes = torch.zeros(16, 16, device=device, requires_grad=True)
    try:
        torch.autograd.grad(contrast(codes, codes, codes, (0,), temperature=1.0)[0], codes)
    except Exception as error:  # whatever the compiler or the driver does not like
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        warnings.warn(
            f"the Triton kernels of the contrastive loss do not run here ({reason}); the loss is "
            "computed by torch instead, to the same numbers.",
            stacklevel=2,
        )
        return reason
    return ""
