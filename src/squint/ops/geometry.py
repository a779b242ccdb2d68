"""How codes lie on the sphere: what tells, without labels, a living representation from a dead one.

Of all images at most the first `MOST_ROWS` are looked at; the numbers hardly move beyond.
"""

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from squint.ops.precision import at_least_float32, full_precision
from squint.shapes import Scalar

MOST_ROWS = 512


def effective_rank(codes: Float[Tensor, "n d"]) -> Scalar:
    """Dimensions that codes use, from 1 (all on one line) to min(n, d) (all alike).

    exp of the entropy of the singular values, which are scaled to sum to 1 (Roy & Vetterli 2007);
    RankMe (Garrido et al. 2023, eq. 1) without its small constant. Codes are not centred: equal
    ones count as one dimension.
    """
    values = _singular_values(codes[:MOST_ROWS])
    share = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny)
    return torch.exp(-torch.xlogy(share, share).sum()).to(codes.device, torch.float32)


def alignment(h: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> Scalar:
    """Squared distance of the two codes of an image, mean over n; 0 if they agree, 2 if unrelated.

    Wang & Isola 2020, eq. 1 with alpha = 2.

    Args:
        h: Unit rows.
        y: Unit rows, row by row of the same images.
    """
    return (at_least_float32(h) - at_least_float32(y)).square().sum(dim=1).mean()


def uniformity(codes: Float[Tensor, "n d"]) -> Scalar:
    """How evenly unit codes fill the sphere: 0 if all are equal, about -4 at best.

    Log of the mean of exp(-2 |h_i - h_j|^2) over pairs of different images (Wang & Isola 2020, eq.
    2 with t = 2). Evenly spread codes of many dimensions have about -4 + 8 / d.

    Args:
        codes: Unit rows, at least 2.
    """
    cosines = _cosines(codes, codes)
    n = len(cosines)
    logits = 4 * (cosines - 1)  # -2 |h_i - h_j|^2 of unit rows
    logits.fill_diagonal_(-torch.inf)
    return logits.flatten().logsumexp(dim=0) - math.log(n * (n - 1))


def negative_cosine(h: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> Scalar:
    """Cosine between the codes of different images, mean over pairs; 1 if all codes are equal.

    Args:
        h: Unit rows, at least 2.
        y: Unit rows, row by row of the same images.
    """
    cosines = _cosines(h, y)
    n = len(cosines)
    return (cosines.sum() - cosines.trace()) / (n * (n - 1))


def _cosines(h: Tensor, y: Tensor) -> Float[Tensor, "n n"]:
    h, y = (at_least_float32(x[:MOST_ROWS]) for x in (h, y))
    with full_precision(h):
        return h @ y.T


def _singular_values(x: Float[Tensor, "n d"]) -> Float64[Tensor, " r"]:
    """In float64 on the CPU: a small matrix is quickest there, and a device must wait anyway."""
    x = x.detach().cpu().double()
    smaller = x.T @ x if x.shape[1] < len(x) else x @ x.T
    return torch.linalg.eigvalsh(smaller).clamp(min=0).sqrt()  # pyright: ignore
