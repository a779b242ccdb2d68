"""How much a code keeps, and how much of that the other view knows: nats per image.

A code z is drawn from e(z|x) = vMF(h, kappa_e); the backward encoder b(z|y) = vMF(y, kappa_b) has
seen the other view only (Fischer 2020; Lee et al. 2021). Of what z says about its view x,

    I(X;Z|Y) <= E[log e(z|x) - log b(z|y)]             the rate: `rate`, or `sampled_rate` at one z
    I(Y;Z)   >= E[log b(z|y) - log mean_k b(z|y_k)]    `contrast_info`, at most log k

and the mean rate is a difference: `cross_entropy` of b at z less `vmf.entropy` of e. Rows are unit
vectors; concentrations are one number, or one per row.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from squint.ops import contrast, vmf
from squint.ops.precision import at_least_float32
from squint.shapes import Scalar

Concentration = float | Scalar | Float[Tensor, " n"]

BITS = 1 / math.log(2)
"""Bits in a nat."""

_NEWTON_STEPS = 100
_ROWS = 1024


def rate(
    h: Float[Tensor, "n d"],
    y: Float[Tensor, "n d"],
    kappa_e: Concentration,
    kappa_b: Concentration,
) -> Float[Tensor, " n"]:
    """Closed-form rate KL(e || b) in nats per image: the mean of `sampled_rate` over z."""
    return vmf.kl(h, kappa_e, y, kappa_b)


def sampled_rate(
    z: Float[Tensor, "n d"],
    h: Float[Tensor, "n d"],
    y: Float[Tensor, "n d"],
    kappa_e: Concentration,
    kappa_b: Concentration,
) -> Float[Tensor, " n"]:
    """The rate in nats per image at codes z drawn from e: log e(z|x) - log b(z|y)."""
    # differs from the released code: no gradient through log e(z|x). Exactly it is zero (the
    # reflection keeps h.z fixed); their float32 code adds noise of kappa_e * 1e-7.
    forward = vmf.log_prob(z.detach(), h.detach(), kappa_e)
    return forward - vmf.log_prob(z, y, kappa_b)


def cross_entropy(
    z: Float[Tensor, "n d"], y: Float[Tensor, "n d"], kappa_b: Concentration
) -> Float[Tensor, " n"]:
    """-log b(z|y) in nats per image: what z costs someone who knows the other view."""
    return -vmf.log_prob(z, y, kappa_b)


def contrast_info(
    z: Float[Tensor, "n d"],
    candidates: Float[Tensor, "k d"],
    own: Int[Tensor, " n"],
    kappa: float,
) -> Float[Tensor, " n"]:
    """What z tells about which of k candidates it belongs to, in nats per image.

    log p(z|own) - log mean_k p(z|candidate k) with p = vMF(candidate, kappa) (van den Oord et al.
    2018, with the normaliser's constant cancelled). Its mean is a lower bound of I(Y;Z) when
    candidates are drawn as y is, and never above `contrast.info_cap_nats`. It is exact when the
    candidates are all there are, equally likely, and p is the law of z given y. With the directions
    h as candidates and kappa_e it bounds I(X;Z) instead.

    Args:
        z: codes.
        candidates: unit rows; the more, the higher the cap.
        own: row of the right candidate of each code.
        kappa: concentration of the critic, kappa_b for I(Y;Z).
    """
    values: list[Tensor] = []
    candidates = at_least_float32(candidates)
    for start in range(0, len(z), _ROWS):
        part = z[start : start + _ROWS].to(candidates.dtype)
        logits = kappa * (part @ candidates.T)  # (_ROWS, k)
        right = logits.gather(1, own[start : start + _ROWS, None]).squeeze(1)
        values.append(right - logits.logsumexp(dim=1) + contrast.info_cap_nats(len(candidates)))
    return torch.cat(values)


def concentration(resultant: float, dim: int) -> float:
    """The kappa whose mean cosine A(kappa) is `resultant`: the maximum-likelihood concentration.

    0 for a resultant of at most 0. Newton's method from kappa = dim * resultant, which lies below
    the root as A(kappa) <= kappa / dim; A is concave, so the steps climb to it and never pass it.

    Args:
        resultant: mean cosine, below 1.
        dim: of the sphere's space.
    """
    assert resultant < 1, f"mean cosine {resultant}: only an infinite concentration has 1"
    if resultant <= 0:
        return 0.0
    kappa = torch.tensor(dim * resultant, dtype=torch.float64, requires_grad=True)
    for _ in range(_NEWTON_STEPS):
        with torch.enable_grad():
            value = vmf.mean_resultant(kappa, dim)
            (slope,) = torch.autograd.grad(value, kappa)
        step = (resultant - value.detach()) / slope
        kappa = (kappa.detach() + step.clamp(min=0)).requires_grad_()
        if step <= 1e-13 * kappa.detach():
            break
    return kappa.item()
