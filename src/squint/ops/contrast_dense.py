"""The reference of the contrastive loss: all similarities at once, differentiated by autograd.

Below it, what its fast twins share.
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


def contrast(
    anchors: Float[Tensor, "n d"],
    partners: Float[Tensor, "n d"],
    keys: Float[Tensor, "k d"],
    own: tuple[int, ...],
    *,
    temperature: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Cross entropy in nats and share of hits, means over n: the contract of all its fast twins.

    Anchor i has to pick partners_i out of partners_i and the keys that are not its own image's.
    It takes n * k numbers for the similarities and several times that for their gradient.

    Args:
        anchors: Rows in float32 or float64; not normalised here.
        partners: Row by row what the anchors have to find.
        keys: The negatives of all anchors, but for:
        own: Columns of anchor 0's own image among the keys; anchor i's are i further on.
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
    return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.int64)), share(hits)


def refuse_second_derivative() -> None:
    """For backward passes that autograd can't differentiate again.

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
    """The gradients saved for a loss that is wanted once, times the one it got."""
    refuse_second_derivative()
    for gradient, needed in zip(ctx.saved_tensors, ctx.needs_input_grad, strict=False):
        yield gradient * by_loss if needed else None


def nats(positive: Tensor, total: Tensor) -> Tensor:
    """Cross entropy in nats of each row, from the bits of its positive and of its negatives' sum.

    Exact when it is nearly 0, too.
    """
    return -F.logsigmoid((positive - total) * math.log(2))


def share(hits: Tensor) -> Float[Tensor, ""]:
    """Mean of a mask, in float32."""
    return hits.float().mean()
