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
Path = Literal["auto", "dense", "tiles", "native", "triton"]

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
            bits: faster and coarser (tiles only).

    Raises:
        RunError: The path asked for is not there.
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
    alone = gather.world_size() == 1
    chosen = _path(path, z1, candidates=2 * len(z1) * gather.world_size())
    if chosen in ("auto", "tiles") and alone and keys1 is z1 and keys2 is z2:
        if contrast_tiles.fits_symmetric(z1, z2, temperature):
            return contrast_tiles.symmetric(z1, z2, temperature=temperature, products=products)
    both = gather.rows(torch.stack((keys1, keys2), dim=1))  # (m, 2, d), one collective
    every = torch.cat((both[:, 0], both[:, 1]))  # (2m, d)
    first = gather.rank() * len(z1)
    own = (first, first + len(both))
    answers = [
        _answer(chosen, z, partner, every, own, temperature, products)
        for z, partner in ((z1, keys2), (z2, keys1))
    ]
    nats, top1 = (torch.stack(column).mean() for column in zip(*answers, strict=True))
    # differs from the released code, which adds both directions: SimCLR(directions="sum") does
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
    chosen = _path(path, query, candidates=len(negatives))
    return _answer(chosen, query, key, negatives, (), temperature, products)


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
    chosen = _path(path, query, candidates=len(key) * gather.world_size())
    own = (gather.rank() * len(query),)
    return _answer(chosen, query, key, gather.rows(key), own, temperature, products)


def info_cap_nats(candidates: int) -> float:
    """The most I(Y;Z) that a choice among so many candidates can show: their log, in nats.

    `info_nats = info_cap_nats - cross entropy` is a lower bound of I(Y;Z) (van den Oord et al.
    2018). Candidates are 2m - 1 for NT-Xent, m for MoCo v3, and 1 + k with a queue.
    """
    return math.log(candidates)


def _path(wanted: Path, anchors: Tensor, *, candidates: int) -> Path:
    """Who answers; auto if it is one of those that hold few similarities, see `_answer`."""
    if wanted == "triton" or (wanted == "auto" and anchors.device.type == "cuda"):
        if why := contrast_triton.missing(anchors):
            if wanted == "triton":
                raise RunError(f"path='triton' can't be taken: {why}. Take path='tiles'.")
            wanted = "auto"
        else:
            return "triton"
    few = len(anchors) * candidates <= DENSE_SIMILARITIES
    return "dense" if wanted == "auto" and few else wanted


def _answer(
    path: Path,
    anchors: Tensor,
    partners: Tensor,
    keys: Tensor,
    own: tuple[int, ...],
    temperature: float,
    products: torch.dtype,
) -> tuple[Scalar, Scalar]:
    if path == "dense":
        return contrast_dense.contrast(anchors, partners, keys, own, temperature=temperature)
    if path == "triton":
        return contrast_triton.contrast(anchors, partners, keys, own, temperature=temperature)
    many = len(anchors) >= NATIVE_ANCHORS and len(anchors) * len(keys) >= NATIVE_SIMILARITIES
    if path == "native" or (path == "auto" and many and products == torch.float32):
        if contrast_native.fits(anchors, keys, temperature):
            return contrast_native.contrast(anchors, partners, keys, own, temperature=temperature)
        if path == "native":
            raise RunError(
                "path='native' can't be taken: its kernels are built at installation by a C "
                "compiler, and want float32 codes on a CPU with AVX-512 and logits of at most "
                f"{contrast_native.MOST_BITS * math.log(2):.0f}. Take path='tiles'."
            )
    return contrast_tiles.rows(
        anchors, partners, keys, own, temperature=temperature, products=products
    )
