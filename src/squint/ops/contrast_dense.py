"""The reference of the contrastive loss: all similarities at once, differentiated by autograd."""

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


def share(hits: Tensor) -> Float[Tensor, ""]:
    """Mean of a mask, in float32."""
    return hits.float().mean()
