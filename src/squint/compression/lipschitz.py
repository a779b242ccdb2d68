"""How far a code moves when its image does: local Lipschitz constants of any encoder.

All are lower bounds on a Lipschitz constant. Of the encoder: `steepest`, the largest singular value
of its Jacobian at each image, and `slopes`, the slope on the way to another image, an augmented or
corrupted one. From the divergence of two codes' laws and the distance of their images, with no
gradient: `of_density` for x -> log e(z|x) (Lee et al. 2021), which `of_vmf` sharpens for vMF laws,
and `from_rate` for the direction x -> h.

Distances are Euclidean. An encoder must treat every image of a batch by itself, as any does in
evaluation mode.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from squint.compression.information import Concentration
from squint.ops import vmf

Map = Callable[[Tensor], Tensor]
"""Any encoder: (n, …) -> (n, d)."""

QUANTILES = (0.5, 0.9, 0.99, 1.0)
"""Median, 90 %, 99 %, maximum."""
ITERATIONS = 100
TOLERANCE = 1e-4
"""Relative change of the slope under which the power iteration ends."""


def steepest(
    encoder: Map,
    images: Float[Tensor, "n ..."],
    *,
    iterations: int = ITERATIONS,
    tolerance: float = TOLERANCE,
    batch: int = 16,
    seed: int = 0,
) -> Float[Tensor, " n"]:
    """Lower bound on the slope in the worst direction at each image, by power iteration on J'J.

    It rises to the largest singular value of the Jacobian J with the iterations. Memory is that of
    a backward pass through `batch` images and its derivative.

    Args:
        encoder: differentiable twice (piecewise linear will do).
        images: where; gradients don't flow into them.
        iterations: at most.
        tolerance: relative change of every slope of a batch under which it ends.
        batch: images at once.
        seed: of the first directions.
    """
    generator = torch.Generator().manual_seed(seed)
    found: list[Tensor] = []
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        first = torch.randn(part.shape, generator=generator, dtype=part.dtype).to(part.device)
        found.append(_power(encoder, part, first, iterations, tolerance))
    return torch.cat(found)


def slopes(
    encoder: Map,
    images: Float[Tensor, "n ..."],
    others: Float[Tensor, "n ..."],
    *,
    share: float = 1.0,
    batch: int = 256,
) -> Float[Tensor, " n"]:
    """Lower bound on the Lipschitz constant: distance of codes over distance of images.

    Each image is compared with one that lies part of the way to another image.

    Args:
        encoder: need not be differentiable.
        images: where to start.
        others: in which direction.
        share: of the way, above 0; 1 gives the secant to the other image, a small share the slope
            at the start.
        batch: images at once.

    Returns:
        The slopes; nan where both images are the same.
    """
    found: list[Tensor] = []
    with torch.no_grad():
        for start in range(0, len(images), batch):
            here = images[start : start + batch]
            step = share * (others[start : start + batch] - here)
            moved = encoder(here + step) - encoder(here)  # (n, d)
            found.append(_norm(moved) / _norm(step))
    slope = torch.cat(found)
    return torch.where(slope.isfinite(), slope, torch.nan)


def of_density(
    divergence_nats: Float[Tensor, " n"],
    reverse_nats: Float[Tensor, " n"],
    distance: Float[Tensor, " n"],
) -> Float[Tensor, " n"]:
    """Lower bound on the Lipschitz constant L of x -> log e(z|x), nats per distance, of each pair.

    L^2 |x - x'|^2 >= max(KL(e || e'), KL(e' || e)), the tractable bound of Lee et al. 2021
    (section on Lipschitz continuity and compression; f is the encoder's law, and the distance of
    two laws is the difference of their logs). L holds for every z, so log e(z|x) - log e(z|x') is
    at most s = L |x - x'| everywhere; then KL <= s^2 / 2 (Bun & Steinke 2016, proposition 3.3), and
    the bound is sound with a factor 2 to spare. `of_vmf` is the slope itself.

    Args:
        divergence_nats: KL(e(z|x) || e(z|x')) of each pair.
        reverse_nats: KL(e(z|x') || e(z|x)); the same if all concentrations are.
        distance: of the images of each pair, above 0.
    """
    return torch.maximum(divergence_nats, reverse_nats).clamp(min=0).sqrt() / distance


def of_vmf(
    h: Float[Tensor, "n d"],
    other: Float[Tensor, "n d"],
    kappa: Concentration,
    other_kappa: Concentration,
    distance: Float[Tensor, " n"],
) -> Float[Tensor, " n"]:
    """Lower bound on L as in `of_density`, exact for a pair of vMF laws: at the steepest z.

    log e(z|x) - log e(z|x') is z.(kappa h - kappa' h') and a constant: kappa |h - h'| / |x - x'|
    where both concentrations are the same.

    Args:
        h: directions of e(z|x).
        other: of e(z|x').
        kappa: concentration of e(z|x).
        other_kappa: of e(z|x').
        distance: of the images of each pair, above 0.
    """
    dim = h.shape[1]
    here, there = (
        torch.as_tensor(k, dtype=torch.float64, device=h.device).expand(len(h))
        for k in (kappa, other_kappa)
    )
    constant = vmf.log_normalizer(here, dim) - vmf.log_normalizer(there, dim)
    most = _norm(here[:, None] * h - there[:, None] * other) + constant.abs()
    return most.to(h.dtype) / distance


def from_rate(
    divergence_nats: Float[Tensor, " n"],
    distance: Float[Tensor, " n"],
    *,
    kappa_e: float,
    dim: int,
) -> Float[Tensor, " n"]:
    """Lower bound on the Lipschitz constant of x -> h, from the divergence of two codes' laws.

    Ours: the divergence of `of_density`, read as a distance of directions. For e(z|x) =
    vMF(h, kappa) it is KL = kappa A(kappa) |h - h'|^2 / 2, so that |h - h'| / |x - x'| =
    sqrt(2 KL / (kappa A(kappa))) / |x - x'|. The rate of a method whose b has e's concentration
    and the other view's direction is this KL; compression lowers it, and the bound with it.

    Args:
        divergence_nats: KL(e(z|x) || e(z|x')) of each pair.
        distance: of the images of each pair, above 0.
        kappa_e: concentration of e.
        dim: of codes.
    """
    scale = kappa_e * float(vmf.mean_resultant(kappa_e, dim))
    return (2 * divergence_nats.clamp(min=0) / scale).sqrt() / distance


def quantiles(values: Float[Tensor, " n"], shares: Sequence[float] = QUANTILES) -> list[float]:
    """Quantiles of the values that are numbers; nan if none is."""
    known = values[~values.isnan()].double()
    if not len(known):
        return [torch.nan] * len(shares)
    return [float(torch.quantile(known, share)) for share in shares]


@torch.enable_grad()
def _power(
    encoder: Map, images: Tensor, direction: Tensor, iterations: int, tolerance: float
) -> Tensor:
    """As `steepest`, for one batch.

    J v is the gradient in u of (J'u).v, which is linear in u: two graphs are built once, and every
    iteration is a pass through each.
    """
    x = images.detach().requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):  # the fused attention can't be differentiated twice
        y = encoder(x)
        u = torch.zeros_like(y, requires_grad=True)
        (pulled,) = torch.autograd.grad(y, x, u, create_graph=True)  # J'u
        slope = torch.zeros(len(x), dtype=y.dtype, device=y.device)
        direction = _unit(direction)
        for _ in range(iterations):
            before = slope
            (pushed,) = torch.autograd.grad(pulled, u, direction, retain_graph=True)  # Jv
            slope = _norm(pushed)
            (direction,) = torch.autograd.grad(y, x, pushed, retain_graph=True)  # J'Jv
            direction = _unit(direction)
            if bool(((slope - before).abs() <= tolerance * slope).all()):
                break
    return slope.detach()


def _norm(x: Tensor) -> Tensor:
    return x.flatten(1).square().sum(dim=1).sqrt()


def _unit(x: Tensor) -> Tensor:
    norm = _norm(x).clamp(min=torch.finfo(x.dtype).tiny)
    return x / norm.view(-1, *[1] * (x.ndim - 1))
