"""How much a method's code keeps: rate and information on images it was not trained on.

Every code is measured as if sent through the same channel, e(z|x) = vMF(h, kappa_e), and read by
the same backward encoder, b(z|y) = vMF(y, kappa_b). For a compressed method that is what it was
trained with; for a plain one it is a stated convention that puts both on one axis.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from squint import methods
from squint.compression import CEB
from squint.errors import CheckpointError
from squint.evaluate.bench import Bench
from squint.evaluate.inputs import view_pairs
from squint.methods import Method
from squint.ops import contrast
from squint.shapes import Image

KAPPA_E = 1024.0
"""Concentration of the channel for methods that have none (that of C-SimCLR)."""
KAPPA_B = 10.0
"""Concentration of the backward encoder for methods that have none and no temperature either."""
IMAGES = 2_000
"""Held-out images that are measured."""


class Compression(NamedTuple):
    """Means over images and both directions, in nats per image."""

    rate_nats: float
    """Residual information I(X;Z|Y), closed form."""
    info_nats: float
    """I(Y;Z), lower bound by contrast with the other images of the batch."""
    info_cap_nats: float
    """The most the bound can show: the log of the number of candidates."""


def measured(bench: Bench) -> dict[str, Any]:
    """The protocol: rate and information of a run's code on held-out images."""
    run = bench.run("compression")
    method = methods.build(run.recipe)
    try:
        method.load_state_dict(run.state()["method"])
    except RuntimeError as error:
        raise CheckpointError(f"{run.checkpoint} does not fit its recipe: {error}") from None
    method.to(bench.device)
    channel = channel_of(method)
    pairs = view_pairs(bench.parts.test, run.recipe.views, device=bench.device, limit=IMAGES)
    outcome = measure(method, pairs, channel=channel)
    protocol = (
        f"projector codes of two training views of up to {IMAGES} images, evaluation "
        f"mode, seed 0; e(z|x) = vMF(kappa_e = {channel.kappa_e:g}), b(z|y) = vMF(kappa_b = "
        f"{channel.kappa_b:g}); rate in closed form, information by contrast with the codes "
        f"given in a batch, at most {outcome.info_cap_nats:.2f} nats"
    )
    values = outcome._asdict().items()
    return {name: bench.entry({"trained": value}, protocol) for name, value in values}


@torch.no_grad()
def measure(
    method: Method, batches: Iterable[tuple[Image, Image]], *, channel: CEB, seed: int = 0
) -> Compression:
    """Rate and information of a method's codes on two views of each image.

    Args:
        method: in any mode; measured in evaluation mode and left as it was.
        batches: pairs of views on the method's device; equal batch sizes, each the candidates
            of its own images.
        channel: what the codes are sent through, see `channel_of`.
        seed: of the channel's noise.
    """
    training = method.training
    method.eval()
    rates: list[Tensor] = []
    losses: list[Tensor] = []
    size = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for views in batches:
            for h, given in method.pairs(method.embed(views)):
                z, rate = channel(h, given=given)
                rates.append(rate.mean())
                losses.append(contrast.batch_info_nce(z, given, temperature=1 / channel.kappa_b))
                size = len(h)
    method.train(training)
    cap = contrast.info_cap_nats(size)
    return Compression(
        rate_nats=torch.stack(rates).mean().item(),
        info_nats=cap - torch.stack(losses).mean().item(),
        info_cap_nats=cap,
    )


def channel_of(method: Method) -> CEB:
    """The channel of a method's own bottleneck, or the convention for a method without one.

    Without a bottleneck kappa_e is `KAPPA_E` and kappa_b is 1 / temperature, or `KAPPA_B` for a
    method that has no temperature (BYOL).
    """
    kappa_e, kappa_b = KAPPA_E, 1 / getattr(method, "temperature", 1 / KAPPA_B)
    if isinstance(method.bottleneck, CEB):
        kappa_e, kappa_b = method.bottleneck.kappa_e, method.bottleneck.kappa_b
    return CEB(beta=0.0, kappa_e=kappa_e, kappa_b=kappa_b).train()
