"""Formulas of the papers as explicit loops, written without looking at the library."""

import torch
from torch import Tensor


def contrastive_direction(
    anchors: Tensor,
    positives: Tensor,
    same_view: Tensor | None,
    temperature: float,
) -> Tensor:
    """Mean over i of -log of the softmax weight of positives_i among the candidates of anchor i.

    Candidates: every row of `positives`, and with `same_view` (the "double batch trick") every
    row of it but row i.
    """
    losses: list[Tensor] = []
    for i in range(len(anchors)):
        logits = [anchors[i].dot(positives[j]) / temperature for j in range(len(positives))]
        if same_view is not None:
            for j in range(len(same_view)):
                if j != i:
                    logits.append(anchors[i].dot(same_view[j]) / temperature)
        losses.append(torch.logsumexp(torch.stack(logits), dim=0) - logits[i])
    return torch.stack(losses).mean()


def nt_xent(z1: Tensor, z2: Tensor, keys1: Tensor, keys2: Tensor, temperature: float) -> Tensor:
    """Chen et al. 2020, eq. 1, with candidates apart from anchors: mean over 2n anchors."""
    forward = contrastive_direction(z1, keys2, keys1, temperature)
    backward = contrastive_direction(z2, keys1, keys2, temperature)
    return (forward + backward) / 2
