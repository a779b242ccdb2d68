"""The reference of the contrastive loss: all similarities at once, differentiated by autograd.

Below it are the helpers that the faster paths share.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from squint.errors import RunError
from squint.ops.precision import full_precision
from squint.shapes import Scalar


def contrast(
    anchors: Float[Tensor, "n d"],
    partners: Float[Tensor, "n d"],
    keys: Float[Tensor, "k d"],
    own: tuple[int, ...],
    *,
    temperature: float,
) -> tuple[Scalar, Scalar]:
    """Cross entropy in nats and share of hits, means over n; every faster path gives the same.

    Anchor i has to pick partners_i out of partners_i and the keys of other images. Memory: n * k
    numbers for the similarities and several times that for their gradient.

    Args:
        anchors: Rows in float32 or float64; not normalised here.
        partners: Row by row what the anchors have to find.
        keys: The negatives of all anchors, apart from those of `own`.
        own: Rows of anchor 0's own image among the keys; anchor i's are i further on. They are no
            candidates.
        temperature: Divides the similarities; positive.
    """
    with full_precision(anchors):
        positive = (anchors * partners).sum(dim=1, keepdim=True)  # (n, 1)
        negative = anchors @ keys.T  # (n, k)
    for first in own:
        column = torch.arange(first, first + len(anchors), device=keys.device)  # (n,)
        negative = negative.scatter(1, column[:, None], -torch.inf)
    logits = torch.cat((positive, negative), dim=1) / temperature  # (n, 1 + k)
    hits = (positive > negative).all(dim=1)
    return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.int64)), mean_hits(
        hits
    )


def refuse_second_derivative() -> None:
    """Call it in a backward pass that autograd can't differentiate again.

    Raises:
        RunError: Autograd wants to.
    """
    if torch.is_grad_enabled():  # it is in a backward pass only with create_graph=True
        raise RunError(
            "The contrastive loss was asked for a gradient with create_graph=True, and its fast "
            "paths have no second derivative. Pass path='dense' to the loss."
        )


def gradient_wanted(*codes: Tensor) -> bool:
    """Whether a backward pass may follow."""
    return torch.is_grad_enabled() and any(x.requires_grad for x in codes)


def scaled_gradients(ctx: Any, by_loss: Tensor) -> Iterator[Tensor | None]:
    """The gradients saved in the forward pass, times the gradient `by_loss` of the loss itself."""
    refuse_second_derivative()
    for gradient, needed in zip(ctx.saved_tensors, ctx.needs_input_grad, strict=False):
        yield gradient * by_loss if needed else None


def cross_entropy_nats(positive: Tensor, total: Tensor) -> Tensor:
    """Cross entropy in nats of each row, exact near 0 too.

    Args:
        positive: Logit of the partner, in bits.
        total: Base-2 logarithm of the sum of 2^logit over the negatives.
    """
    return -F.logsigmoid((positive - total) * math.log(2))


def mean_hits(hits: Tensor) -> Scalar:
    """Mean of a mask, in float32."""
    return hits.float().mean()
