"""Contrastive objectives: which of these candidates is the other view of the same image?

Similarities are inner products over the temperature, in float32 (float64 stays) whatever
autocast says. Rows are NOT normalised here: callers do it once, and C-SimCLR's sampled codes
are unit vectors already. Values are in nats.

Each objective also exists as `..._and_top1`, whose second value is the share of anchors nearer to
their partner than to any other candidate: it falls out of the same similarities. No gradient, and
a tie is a miss.

All of them are one question, asked by `contrast_dense.contrast` with all similarities at once and
by its faster twins a few at a time; `path` says who answers.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from squint.errors import RunError
from squint.ops import contrast_dense, contrast_native, contrast_tiles, contrast_triton, gather
from squint.ops.precision import at_least_float32

Scalar = Float[Tensor, ""]
Who = Literal["dense", "tiles", "native", "triton"]
Path = Who | Literal["auto"]

DENSE_SIMILARITIES = 2**14
"""Up to so many, all at once is as fast as by tiles (benchmarks/losses.py)."""
NATIVE_ANCHORS, NATIVE_SIMILARITIES = 512, 2**21
"""From so many on, the kernels are faster than tiles: they lay out the keys first."""


def nt_xent(
    z1: Float[Tensor, "n d"],
    z2: Float[Tensor, "n d"],
    keys1: Float[Tensor, "n d"] | None = None,
    keys2: Float[Tensor, "n d"] | None = None,
    *,
    temperature: float,
    path: Path = "auto",
    products: torch.dtype = torch.float32,
) -> Scalar:
    """NT-Xent: cross entropy in nats, mean over both directions and this rank's n anchors.

    Chen et al. 2020, eq. 1. Anchor z1_i has to pick keys2_i out of 2m - 1 candidates: all
    keys2_j, and all keys1_j but its own (the "double batch trick"); anchor z2_i likewise, with
    the roles of 1 and 2 swapped. Candidates are the global batch: keys are gathered over ranks
    in here, so that labels can't be off by a rank.

    Without keys, anchors are their own candidates: SimCLR. With the mean directions of the
    codes as keys and temperature = 1/kappa_b it is C-SimCLR's -I(Y;Z) + log(2m - 1), since
    log b(z|y) = kappa_b z.y + const (Lee et al. 2021).

    The released codes of SimCLR and C-SimCLR add the two directions instead of averaging over
    2n anchors as eq. 1 does: their loss, and its gradient, is exactly twice this one. The method
    `SimCLR(directions="sum")` has theirs.

    Args:
        z1: Anchors of view 1.
        z2: Anchors of view 2, row by row the same images.
        keys1: This rank's rows of the candidates of view 1; default `z1`.
        keys2: This rank's rows of the candidates of view 2; default `z2`.
        temperature: Divides the similarities; positive.
        path: dense, tiles, native or triton; auto takes the fastest. All give the same numbers to
            within rounding.
        products: torch.bfloat16 rounds the factors of float32 similarities and gradients to 8
            bits: faster and coarser, by tiles.

    Raises:
        RunError: The path asked for is not there, or makes no such products.
    """
    return nt_xent_and_top1(
        z1, z2, keys1, keys2, temperature=temperature, path=path, products=products
    )[0]


def nt_xent_and_top1(
    z1: Float[Tensor, "n d"],
    z2: Float[Tensor, "n d"],
    keys1: Float[Tensor, "n d"] | None = None,
    keys2: Float[Tensor, "n d"] | None = None,
    *,
    temperature: float,
    path: Path = "auto",
    products: torch.dtype = torch.float32,
) -> tuple[Scalar, Scalar]:
    """`nt_xent`, and the share of anchors whose partner is the best of 2m - 1 candidates."""
    z1, z2 = at_least_float32(z1), at_least_float32(z2)
    keys1 = z1 if keys1 is None else at_least_float32(keys1)
    keys2 = z2 if keys2 is None else at_least_float32(keys2)
    if keys1 is z1 and keys2 is z2 and gather.world_size() == 1:
        who = _who(path, (z1, z2), (z1, z2), temperature, products)
        tiles = who == "tiles" or (who == "native" and path == "auto")
        if tiles and contrast_tiles.fits_symmetric(z1, z2, temperature):
            return contrast_tiles.symmetric(z1, z2, temperature=temperature, products=products)
    both = gather.rows(torch.stack((keys1, keys2), dim=1))  # (m, 2, d), one collective
    every = torch.cat((both[:, 0], both[:, 1]))  # (2m, d)
    who = _who(path, (z1, z2), (every,), temperature, products)
    first = gather.rank() * len(z1)
    own = (first, first + len(both))
    answers = [
        _answer(who, z, partner, every, own, temperature, products)
        for z, partner in ((z1, keys2), (z2, keys1))
    ]
    nats, top1 = (torch.stack(column).mean() for column in zip(*answers, strict=True))
    # differs from the released codes: the mean of both directions, not their sum (that is for
    # SimCLR(directions="sum")); hits are among 2m - 1 candidates, where SimCLR's are among the m of
    # the other view, CVR's of one direction
    return nats, top1


def info_nce(
    query: Float[Tensor, "n d"],
    key: Float[Tensor, "n d"],
    negatives: Float[Tensor, "k d"],
    *,
    temperature: float,
    path: Path = "auto",
    products: torch.dtype = torch.float32,
) -> Scalar:
    """InfoNCE against a common set of negatives: cross entropy in nats, mean over n.

    He et al. 2020, eq. 1: query i has to pick key i out of key i and the k negatives.

    Args:
        query: This rank's queries.
        key: Row by row the keys of the same images.
        negatives: The queue.
        temperature: Divides the similarities; positive.
        path: As for `nt_xent`.
        products: As for `nt_xent`.

    Raises:
        RunError: As `nt_xent` does.
    """
    return info_nce_and_top1(
        query, key, negatives, temperature=temperature, path=path, products=products
    )[0]


def info_nce_and_top1(
    query: Float[Tensor, "n d"],
    key: Float[Tensor, "n d"],
    negatives: Float[Tensor, "k d"],
    *,
    temperature: float,
    path: Path = "auto",
    products: torch.dtype = torch.float32,
) -> tuple[Scalar, Scalar]:
    """`info_nce`, and the share of queries nearer to their key than to any of the k negatives."""
    query, key, negatives = (at_least_float32(x) for x in (query, key, negatives))
    who = _who(path, (query,), (negatives,), temperature, products)
    return _answer(who, query, key, negatives, (), temperature, products)


def batch_info_nce(
    query: Float[Tensor, "n d"],
    key: Float[Tensor, "n d"],
    *,
    temperature: float,
    path: Path = "auto",
    products: torch.dtype = torch.float32,
) -> Scalar:
    """InfoNCE among the keys of the global batch: cross entropy in nats, mean over n.

    Chen et al. 2021 (MoCo v3), algorithm 1: query i has to pick key i out of m keys, its own and
    those of all other images of all ranks. Keys are gathered without a gradient, as there.

    Args:
        query: This rank's queries.
        key: This rank's keys, row by row the same images.
        temperature: Divides the similarities; positive. MoCo v3 multiplies the loss by twice it.
        path: As for `nt_xent`.
        products: As for `nt_xent`.

    Raises:
        RunError: As `nt_xent` does.
    """
    return batch_info_nce_and_top1(
        query, key, temperature=temperature, path=path, products=products
    )[0]


def batch_info_nce_and_top1(
    query: Float[Tensor, "n d"],
    key: Float[Tensor, "n d"],
    *,
    temperature: float,
    path: Path = "auto",
    products: torch.dtype = torch.float32,
) -> tuple[Scalar, Scalar]:
    """`batch_info_nce`, and the share of queries whose own key is the nearest of all m."""
    query, key = at_least_float32(query), at_least_float32(key.detach())
    keys = gather.rows(key)
    who = _who(path, (query,), (keys,), temperature, products)
    own = (gather.rank() * len(query),)
    return _answer(who, query, key, keys, own, temperature, products)


def info_cap_nats(candidates: int) -> float:
    """The most I(Y;Z) that a choice among so many candidates can show: their log, in nats.

    `info_nats = info_cap_nats - cross entropy` is a lower bound of I(Y;Z) (van den Oord et al.
    2018). Candidates are 2m - 1 for NT-Xent, m for MoCo v3, and 1 + k with a queue.
    """
    return math.log(candidates)


def _who(
    path: Path,
    anchors: tuple[Tensor, ...],
    keys: tuple[Tensor, ...],
    temperature: float,
    products: torch.dtype,
) -> Who:
    """Who answers: whoever was asked for, or the fastest that can.

    Args:
        path: What was asked for.
        anchors: Of one direction each, equally many.
        keys: All that each anchor meets.
        temperature: Divides the similarities.
        products: Type of the factors.

    Raises:
        RunError: Whoever was asked for can't.
    """
    if products != torch.float32:
        if path not in ("auto", "tiles"):
            raise RunError(f"products={products} are made by tiles only. Take path='tiles'.")
        return "tiles"
    if path == "triton" or (path == "auto" and anchors[0].device.type == "cuda"):
        why = contrast_triton.missing(anchors[0])
        if not why:
            return "triton"
        if path == "triton":
            raise RunError(f"path='triton' can't be taken: {why}. Take path='tiles'.")
    if path == "native" and not contrast_native.fits(anchors, keys, temperature=temperature):
        raise RunError(
            "path='native' can't be taken: its kernels are built at installation by a C compiler, "
            "and want float32 codes on a CPU with AVX-512 and logits of at most "
            f"{contrast_native.MOST_BITS * math.log(2):.0f}. Take path='tiles'."
        )
    if path != "auto":
        return path
    similarities = len(anchors[0]) * sum(map(len, keys))
    if similarities <= DENSE_SIMILARITIES:
        return "dense"
    many = len(anchors[0]) >= NATIVE_ANCHORS and similarities >= NATIVE_SIMILARITIES
    fits = many and contrast_native.fits(anchors, keys, temperature=temperature)
    return "native" if fits else "tiles"


def _answer(
    who: Who,
    anchors: Tensor,
    partners: Tensor,
    keys: Tensor,
    own: tuple[int, ...],
    temperature: float,
    products: torch.dtype,
) -> tuple[Scalar, Scalar]:
    if who == "tiles":
        return contrast_tiles.rows(
            anchors, partners, keys, own, temperature=temperature, products=products
        )
    room = {"dense": contrast_dense, "native": contrast_native, "triton": contrast_triton}[who]
    return room.contrast(anchors, partners, keys, own, temperature=temperature)
