"""Contrastive objectives: which of these candidates is the other view of the same image?

Similarities are inner products over the temperature, in float32 (float64 stays) whatever
autocast says. Rows are NOT normalised here: callers do it once, and C-SimCLR's sampled codes
are unit vectors already. Values are in nats.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from squint.ops import gather
from squint.ops.precision import at_least_float32, full_precision


def nt_xent(
    z1: Float[Tensor, "n d"],
    z2: Float[Tensor, "n d"],
    keys1: Float[Tensor, "n d"] | None = None,
    keys2: Float[Tensor, "n d"] | None = None,
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    """NT-Xent: cross entropy in nats, mean over both directions and this rank's n anchors.

    Chen et al. 2020, eq. 1. Anchor z1_i has to pick keys2_i out of 2m - 1 candidates: all
    keys2_j, and all keys1_j but its own (the "double batch trick"); anchor z2_i likewise, with
    the roles of 1 and 2 swapped. Candidates are the global batch: keys are gathered over ranks
    in here, so that labels can't be off by a rank.

    Without keys, anchors are their own candidates: SimCLR. With the mean directions of the
    codes as keys and temperature = 1/kappa_b it is C-SimCLR's -I(Y;Z) + log(2m - 1), since
    log b(z|y) = kappa_b z.y + const (Lee et al. 2021).

    The released codes of SimCLR and C-SimCLR add the two directions instead of averaging over
    2n anchors as eq. 1 does: their loss, and its gradient, is exactly twice this one.

    Args:
        z1: Anchors of view 1.
        z2: Anchors of view 2, row by row the same images.
        keys1: This rank's rows of the candidates of view 1; default `z1`.
        keys2: This rank's rows of the candidates of view 2; default `z2`.
        temperature: Divides the similarities; positive.
    """
    z1, z2, keys1, keys2, own = _global(z1, z2, keys1, keys2)
    with full_precision(z1):
        forward = _pick(z1, keys2, keys1, own, temperature)
        backward = _pick(z2, keys1, keys2, own, temperature)
    # differs from the released code: the mean of both directions, not their sum
    return (F.cross_entropy(forward, own) + F.cross_entropy(backward, own)) / 2


def info_nce(
    query: Float[Tensor, "n d"],
    key: Float[Tensor, "n d"],
    negatives: Float[Tensor, "k d"],
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    """InfoNCE against a common set of negatives: cross entropy in nats, mean over n.

    He et al. 2020, eq. 1: query i has to pick key i out of key i and the k negatives.
    """
    logits = _queue_logits(query, key, negatives, temperature)
    return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.int64))


def batch_info_nce(
    query: Float[Tensor, "n d"], key: Float[Tensor, "n d"], *, temperature: float
) -> Float[Tensor, ""]:
    """InfoNCE among the keys of the global batch: cross entropy in nats, mean over n.

    Chen et al. 2021 (MoCo v3), algorithm 1: query i has to pick key i out of m keys, its own and
    those of all other images of all ranks. Keys are gathered without a gradient, as there.

    Args:
        query: This rank's queries.
        key: This rank's keys, row by row the same images.
        temperature: Divides the similarities; positive. MoCo v3 multiplies the loss by twice it.
    """
    logits, own = _batch_logits(query, key, temperature)
    return F.cross_entropy(logits, own)


@torch.no_grad()
def info_nce_top1(
    query: Float[Tensor, "n d"], key: Float[Tensor, "n d"], negatives: Float[Tensor, "k d"]
) -> Float[Tensor, ""]:
    """Share of queries nearer to their key than to any of the k negatives."""
    return (_queue_logits(query, key, negatives, 1.0).argmax(dim=1) == 0).float().mean()


@torch.no_grad()
def batch_top1(query: Float[Tensor, "n d"], key: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Share of queries whose own key is the nearest of all keys of the global batch."""
    logits, own = _batch_logits(query, key, 1.0)
    return (logits.argmax(dim=1) == own).float().mean()


@torch.no_grad()
def top1(
    z1: Float[Tensor, "n d"],
    z2: Float[Tensor, "n d"],
    keys1: Float[Tensor, "n d"] | None = None,
    keys2: Float[Tensor, "n d"] | None = None,
) -> Float[Tensor, ""]:
    """Share of anchors, over both directions, whose positive is the best of 2m - 1 candidates.

    The arguments of `nt_xent`; no gradient. A tie counts for the first candidate.
    """
    z1, z2, keys1, keys2, own = _global(z1, z2, keys1, keys2)
    with full_precision(z1):
        forward = _pick(z1, keys2, keys1, own).argmax(dim=1) == own
        backward = _pick(z2, keys1, keys2, own).argmax(dim=1) == own
    return torch.cat((forward, backward)).float().mean()


def info_cap_nats(candidates: int) -> float:
    """The most I(Y;Z) that a choice among so many candidates can show: their log, in nats.

    `info_nats = info_cap_nats - cross entropy` is a lower bound of I(Y;Z) (van den Oord et al.
    2018). Candidates are 2m - 1 for NT-Xent, m for MoCo v3, and 1 + k with a queue.
    """
    return math.log(candidates)


def _queue_logits(query: Tensor, key: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Similarity to the own key, then to every negative, over the temperature: (n, 1 + k)."""
    query, key, negatives = (at_least_float32(x) for x in (query, key, negatives))
    with full_precision(query):
        positive = (query * key).sum(dim=1, keepdim=True)  # (n, 1)
        return torch.cat((positive, query @ negatives.T), dim=1) / temperature  # (n, 1 + k)


def _batch_logits(
    query: Tensor, key: Tensor, temperature: float
) -> tuple[Float[Tensor, "n m"], Int[Tensor, " n"]]:
    """Similarity to every key of the global batch over the temperature; column of the own key."""
    query, key = at_least_float32(query), at_least_float32(key.detach())
    own = torch.arange(len(query), device=query.device) + gather.rank() * len(query)  # (n,)
    with full_precision(query):
        return query @ gather.rows(key).T / temperature, own  # (n, m)


def _global(
    z1: Tensor, z2: Tensor, keys1: Tensor | None, keys2: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Int[Tensor, " n"]]:
    """Local anchors (n, d), candidates of the global batch (m, d), column of each own image."""
    z1, z2 = at_least_float32(z1), at_least_float32(z2)
    local1 = z1 if keys1 is None else at_least_float32(keys1)
    local2 = z2 if keys2 is None else at_least_float32(keys2)
    both = gather.rows(torch.stack((local1, local2), dim=1))  # (m, 2, d), one collective
    own = torch.arange(len(z1), device=z1.device) + gather.rank() * len(z1)  # (n,)
    return z1, z2, both[:, 0], both[:, 1], own


def _pick(
    anchors: Float[Tensor, "n d"],
    other: Float[Tensor, "m d"],
    same: Float[Tensor, "m d"],
    own: Int[Tensor, " n"],
    temperature: float = 1.0,
) -> Float[Tensor, "n two_m"]:
    """Logits over the other view's keys, then the same view's with the own image struck out."""
    negatives = (anchors @ same.T).scatter(1, own[:, None], -torch.inf)  # (n, m)
    return torch.cat((anchors @ other.T, negatives), dim=1) / temperature  # (n, 2m)
