"""How much a code keeps: rate and information, in nats per image.

Every code is measured as if sent through a channel, e(z|x) = vMF(h, kappa_e), and read by a
backward encoder, b(z|y) = vMF(y, kappa_b). Here the channel is a method's own: what a compressed
method was trained with; for a plain one `KAPPA_E` and kappa_b 1 / temperature, so that the two can
be compared. y is always the other view, also where training charged for b of the same one (C-BYOL):
the bounds hold for any b. `fitted` has a channel for encoders without a method.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from squint import methods
from squint.compression import CEB, information
from squint.data import Images
from squint.errors import CheckpointError
from squint.evaluate.bench import Bench
from squint.evaluate.features import evaluation_mode
from squint.evaluate.inputs import view_pairs
from squint.methods import Method
from squint.ops import contrast, vmf
from squint.shapes import Image

KAPPA_E = 1024.0
"""Concentration of the channel for methods that have none (that of C-SimCLR)."""
KAPPA_B = 10.0
"""Concentration of the backward encoder for methods that have none and no temperature either."""
IMAGES = 2_000
"""Images of each part that are measured, at most."""
PAIRS = 2
"""Pairs of views over which the rate of one image is averaged where that image is asked about."""

Pairs = Sequence[tuple[Tensor, Tensor]]
"""Unit directions h of e(z|x) and y of b(z|y), (k, d) each, for each direction of a method."""
Views = tuple[Image, Image]


class Compression(NamedTuple):
    """Means over images and directions, in nats per image."""

    rate_nats: float
    """Residual information I(X;Z|Y), closed form."""
    info_nats: float
    """I(Y;Z), lower bound by contrast with all images measured."""
    info_cap_nats: float
    """The most the bound can show: the log of the number of candidates."""
    sampled_rate_nats: float
    """The rate at one z per image; its mean over z is the closed form."""
    sampled_error_nats: float
    """Standard error of `sampled_rate_nats` that the draw of z causes."""
    entropy_nats: float
    """Differential entropy H(Z|X) of e."""
    cross_entropy_nats: float
    """E[-log b(z|y)]: what z costs one who knows the other view."""


class Coder(NamedTuple):
    """From views to pairs of directions, and the channel they are sent through."""

    pairs: Callable[[Views], Pairs]
    channel: CEB
    module: torch.nn.Module
    """What computes them, to be put into evaluation mode first."""


def measured(bench: Bench) -> dict[str, Any]:
    """The protocol: rate and information of a run's code through the method's own channel."""
    method = method_of(bench, "compression")
    channel = channel_of(method)
    pairs = _code_pairs(bench)
    images = {name: len(part[0][0]) for name, part in pairs.items()}
    parts = {name: summary(part, channel) for name, part in pairs.items()}
    held_out = parts["held_out"]
    protocol = (
        f"projector codes of two training views of {images['held_out']} held-out and "
        f"{images['train']} training images, evaluation mode, seed 0; "
        f"{describe(channel)}; rate in closed form, information by contrast with all images "
        f"measured, at most {held_out.info_cap_nats:.2f} nats"
    )
    main = ("rate_nats", "info_nats", "info_cap_nats")
    entries = {
        name: bench.entry({"trained": getattr(held_out, name)}, protocol, own_view=False)
        for name in main
    }
    entries["rate_nats"]["table"] = table(parts)
    return entries


@torch.no_grad()
def summary(
    pairs: Pairs, channel: CEB, *, critic: float | None = None, seed: int = 0
) -> Compression:
    """Means over all rows of all directions; rows of one direction are each other's candidates.

    `critic` is the concentration information is read with, `channel.kappa_b` unless given: any
    makes a lower bound.
    """
    rows = [
        per_image(h, y, channel, critic=critic or channel.kappa_b, seed=seed + i)
        for i, (h, y) in enumerate(pairs)
    ]
    table = {name: torch.cat([row[name] for row in rows]).double() for name in rows[0]}
    noise = table["sampled_rate_nats"] - table["rate_nats"]
    return Compression(
        **{name: values.mean().item() for name, values in table.items()},
        info_cap_nats=contrast.info_cap_nats(len(pairs[0][0])),
        sampled_error_nats=noise.std().item() / len(noise) ** 0.5,
    )


@torch.no_grad()
def per_image(
    h: Tensor, y: Tensor, channel: CEB, *, critic: float, seed: int = 0
) -> dict[str, Tensor]:
    """Rate, information and entropies of each row, (k,) each, in nats."""
    kappa_e, kappa_b = channel.kappa_e_of(h), channel.kappa_b
    generator = torch.Generator(h.device).manual_seed(seed)
    z = vmf.sample(h, kappa_e, generator=generator)
    own = torch.arange(len(h), device=h.device)
    return {
        "rate_nats": information.rate(h, y, kappa_e, kappa_b),
        "info_nats": information.contrast_info(z, y, own, critic),
        "sampled_rate_nats": information.sampled_rate(z, h, y, kappa_e, kappa_b),
        "entropy_nats": vmf.entropy(kappa_e, h.shape[1]).expand(len(h)),
        "cross_entropy_nats": information.cross_entropy(z, y, kappa_b),
    }


@torch.no_grad()
def collect(
    pairs_of: Callable[[Views], Pairs], batches: Iterable[Views], module: torch.nn.Module
) -> Pairs:
    """Directions of all batches, one after another; `module` is in evaluation mode meanwhile."""
    with evaluation_mode(module):
        found = [pairs_of(views) for views in batches]
    return [
        (torch.cat([h for h, _ in direction]), torch.cat([y for _, y in direction]))
        for direction in zip(*found, strict=True)
    ]


def method_of(bench: Bench, protocol: str) -> Method:
    """The run's whole method with the weights of the subject's checkpoint, on the bench's device.

    Raises:
        RunError: the subject is a bare encoder.
        CheckpointError: the checkpoint does not fit the recipe.
    """
    run = bench.run(protocol)

    def make() -> Method:
        method = methods.build(run.recipe)
        assert bench.subject.checkpoint is not None, "it is of a run"
        try:
            method.load_state_dict(bench.subject.checkpoint["method"])
        except RuntimeError as error:
            raise CheckpointError(f"{run.checkpoint} does not fit its recipe: {error}") from None
        return method.to(bench.device)

    return bench.once("method", make)


def coder_of(method: Method) -> Coder:
    """A method's codes, each with y of the other view, and its channel."""
    return Coder(lambda views: method.pairs_across(method.embed(views)), channel_of(method), method)


def channel_of(method: Method) -> CEB:
    """The channel of a method's own bottleneck, or the convention for a method without one.

    Without a bottleneck kappa_e is `KAPPA_E` and kappa_b is 1 / temperature, or `KAPPA_B` for a
    method that has no temperature (BYOL).
    """
    if isinstance(method.bottleneck, CEB):
        return method.bottleneck
    kappa_b = 1 / getattr(method, "temperature", 1 / KAPPA_B)
    return CEB(beta=0.0, kappa_e=KAPPA_E, kappa_b=kappa_b)


def _code_pairs(bench: Bench) -> Mapping[str, Pairs]:
    """A run's directions of two training views, of the held-out and the train part."""
    method = method_of(bench, "compression")
    views = bench.run("compression").recipe.views
    parts = {"held_out": bench.parts.test, "train": bench.parts.train}

    def make(images: Images) -> Pairs:
        batches = view_pairs(images, views, device=bench.device, limit=IMAGES)
        return collect(coder_of(method).pairs, batches, method)

    return {
        name: bench.once(("code pairs", name), lambda images=images: make(images))
        for name, images in parts.items()
    }


def table(parts: Mapping[str, Compression]) -> dict[str, dict[str, float]]:
    """Every quantity of both parts in nats, and of the held-out part in bits."""
    return {
        name: {part: getattr(outcome, name) for part, outcome in parts.items()}
        | {"held_out_bits": getattr(parts["held_out"], name) * information.BITS}
        for name in Compression._fields
    }


def rates_of(coder: Coder, views: Views) -> Tensor:
    """Rate of each image of a batch in nats, mean over directions, (n,)."""
    channel = coder.channel
    found = [channel.closed_form_rate(h, y) for h, y in coder.pairs(views)]
    return torch.stack(found).mean(dim=0)


def describe(channel: CEB) -> str:
    """The channel in words, for a protocol."""
    kappa_e = f"kappa_e = {channel.kappa_e:g}"
    if channel.kappa_e_range != "off":
        low, high = channel.kappa_e_range
        kappa_e = f"kappa_e of each image, learned from {low:g} to {high:g}"
    law = f"vMF(kappa_b = {channel.kappa_b:g})"
    return f"e(z|x) = vMF({kappa_e}), b(z|y) = {law}, y the other view, whatever training charged"
