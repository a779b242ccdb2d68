"""Contrastive objectives: which of these candidates is the other view of the same image?

Similarities are inner products over the temperature, in float32 (float64 stays) whatever
autocast says. Rows are NOT normalised here: callers do it once, and C-SimCLR's sampled codes
are unit vectors already. Values are in nats.

Each objective also exists as `..._and_top1`, whose second value is the share of anchors nearer to
their partner than to any other candidate, from the same similarities. It has no gradient, and a
tie is a miss.

All objectives are one masked cross entropy. `contrast_dense.contrast` is its reference;
`contrast_tiles`, `contrast_native` and `contrast_triton` give the same numbers block by block.
`path` selects one.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from squint.errors import RunError
from squint.ops import contrast_dense, contrast_native, contrast_tiles, contrast_triton, gather
from squint.ops.precision import at_least_float32
from squint.shapes import Scalar

Chosen = Literal["dense", "tiles", "native", "triton"]
Path = Chosen | Literal["auto"]

DENSE_SIMILARITIES = 2**14
"""Up to this many similarities the dense path is as fast as tiles (benchmarks/losses.py)."""
NATIVE_ANCHORS, NATIVE_SIMILARITIES = 512, 2**21
"""From this many on the native kernels, which first lay out the keys, beat tiles."""


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
            bits: faster and coarser; only tiles can.

    Raises:
        RunError: The path asked for is not available here, or can't make such products.
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
        chosen = _choose(path, (z1, z2), (z1, z2), temperature, products, symmetric=True)
        if chosen == "tiles" and contrast_tiles.fits_symmetric(z1, z2, temperature):
            return contrast_tiles.symmetric(z1, z2, temperature=temperature, products=products)
    both = gather.rows(torch.stack((keys1, keys2), dim=1))  # (m, 2, d), one collective
    every = torch.cat((both[:, 0], both[:, 1]))  # (2m, d)
    chosen = _choose(path, (z1, z2), (every,), temperature, products)
    first = gather.rank() * len(z1)
    own = (first, first + len(both))
    directions = [
        _loss_and_top1(chosen, z, partner, every, own, temperature, products)
        for z, partner in ((z1, keys2), (z2, keys1))
    ]
    nats, top1 = (torch.stack(column).mean() for column in zip(*directions, strict=True))
    # differs from the released codes: the mean of both directions, not their sum (that is for
    # SimCLR(directions="sum")); top1 is among 2m - 1 candidates, in SimCLR's code among the m of
    # the other view, in CVR's that of one direction
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
    chosen = _choose(path, (query,), (negatives,), temperature, products)
    return _loss_and_top1(chosen, query, key, negatives, (), temperature, products)


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
    chosen = _choose(path, (query,), (keys,), temperature, products)
    own = (gather.rank() * len(query),)
    return _loss_and_top1(chosen, query, key, keys, own, temperature, products)


def info_cap_nats(candidates: int) -> float:
    """Cap of the bound on I(Y;Z) from a choice among so many candidates: their log, in nats.

    `info_nats = info_cap_nats - cross entropy` is a lower bound of I(Y;Z) (van den Oord et al.
    2018). Candidates are 2m - 1 for NT-Xent, m for MoCo v3, and 1 + k with a queue.
    """
    return math.log(candidates)


def _choose(
    path: Path,
    anchors: tuple[Tensor, ...],
    keys: tuple[Tensor, ...],
    temperature: float,
    products: torch.dtype,
    *,
    symmetric: bool = False,
) -> Chosen:
    """The path asked for; for auto, the fastest that takes these codes.

    Args:
        path: What was asked for.
        anchors: Those of each direction, equally many.
        keys: All that each anchor is compared with.
        temperature: Divides the similarities.
        products: Type of the factors.
        symmetric: Whether the keys are the anchors: then tiles, which compute each similarity
            once, beat the native kernels.

    Raises:
        RunError: The path asked for can't take these codes, or the temperature is a tensor.
    """
    if isinstance(temperature, Tensor):  # nobody would tell that it gets no gradient
        raise RunError(
            "temperature is a tensor, and no gradient would reach it. Give float(temperature); to "
            "train it, divide the anchors by it (in nt_xent both views by its square root) and "
            "give temperature=1."
        )
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
    if symmetric or not many:
        return "tiles"
    return "native" if contrast_native.fits(anchors, keys, temperature=temperature) else "tiles"


def _loss_and_top1(
    chosen: Chosen,
    anchors: Tensor,
    partners: Tensor,
    keys: Tensor,
    own: tuple[int, ...],
    temperature: float,
    products: torch.dtype,
) -> tuple[Scalar, Scalar]:
    codes = anchors, partners, keys
    match chosen:
        case "dense":
            return contrast_dense.contrast(*codes, own, temperature=temperature)
        case "tiles":
            return contrast_tiles.contrast(*codes, own, temperature=temperature, products=products)
        case "native":
            return contrast_native.contrast(*codes, own, temperature=temperature)
        case "triton":
            return contrast_triton.contrast(*codes, own, temperature=temperature)
