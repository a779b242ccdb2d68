"""How much a method's code keeps: rate and information on images it was not trained on.

Every code is measured as if sent through the same channel, e(z|x) = vMF(h, kappa_e), and read by
the same backward encoder, b(z|y) = vMF(y, kappa_b). For a compressed method that is what it was
trained with; for a plain one it is a stated convention that puts both on one axis.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from squint.compression import CEB
from squint.methods import Method, SimCLR
from squint.ops import contrast
from squint.shapes import Image

KAPPA_E = 1024.0
"""Concentration of the channel for methods that have none (that of C-SimCLR)."""


class Compression(NamedTuple):
    """Means over images and both directions, in nats per image."""

    rate_nats: float
    """Residual information I(X;Z|Y), closed form."""
    info_nats: float
    """I(Y;Z), lower bound by contrast with the other images of the batch."""
    info_cap_nats: float
    """The most the bound can show: the log of the number of candidates."""


@torch.no_grad()
def measure(
    method: SimCLR, batches: Iterable[tuple[Image, Image]], *, kappa_e: float, seed: int = 0
) -> Compression:
    """Rate and information of a method's codes on two views of each image.

    Args:
        method: in any mode; measured in evaluation mode and left as it was.
        batches: pairs of views on the method's device; equal batch sizes, each the candidates
            of its own images.
        kappa_e: concentration of the channel.
        seed: of the channel's noise.
    """
    channel = CEB(beta=0.0, kappa_e=kappa_e, kappa_b=1 / method.temperature).train()
    training = method.training
    method.eval()
    rates: list[Tensor] = []
    losses: list[Tensor] = []
    size = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for views in batches:
            u1, u2 = method.embed(views)
            z1, rate1 = channel(u1, given=u2)
            z2, rate2 = channel(u2, given=u1)
            rates.append((rate1 + rate2).mean() / 2)
            losses.append(contrast.nt_xent(z1, z2, u1, u2, temperature=method.temperature))
            size = len(u1)
    method.train(training)
    cap = contrast.info_cap_nats(size)
    return Compression(
        rate_nats=torch.stack(rates).mean().item(),
        info_nats=cap - torch.stack(losses).mean().item(),
        info_cap_nats=cap,
    )


def channel_of(method: Method) -> float:
    """kappa_e of a method's own bottleneck, or the convention for a method without one."""
    bottleneck = getattr(method, "bottleneck", None)
    return bottleneck.kappa_e if isinstance(bottleneck, CEB) else KAPPA_E
