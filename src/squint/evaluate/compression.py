"""How much a code keeps: rate and information, in nats per image.

Over 300 lines because a method's own channel and the fitted one share every step but the first.
Every code is measured as if sent through a channel, e(z|x) = vMF(h, kappa_e), and read by a
backward encoder, b(z|y) = vMF(y, kappa_b). Two channels:

- A method's own (`compression`): what a compressed method was trained with; for a plain one
  kappa_e is stated and kappa_b is 1 / temperature, so that both stand on one axis.
- One fitted after the fact (`fitted`): kappa_e is stated, b's head and kappa_b are of maximum
  likelihood on training images. It needs no training with a bottleneck, and no heads: any encoder
  can be measured by it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from squint import methods
from squint.compression import CEB, information
from squint.compression.backward import Fit, fit_backward
from squint.data import Images
from squint.errors import CheckpointError
from squint.evaluate.bench import Bench, Which
from squint.evaluate.features import evaluation_mode
from squint.evaluate.inputs import view_pairs
from squint.methods import Method
from squint.ops import vmf
from squint.shapes import Image

KAPPA_E = 1024.0
"""Concentration of the channel for methods that have none (that of C-SimCLR)."""
KAPPA_B = 10.0
"""Concentration of the backward encoder for methods that have none and no temperature either."""
IMAGES = 2_000
"""Images of each part that are measured."""
FIT_IMAGES = 5_000
"""Training images that a backward encoder is fitted on, and measured as "train"."""

_LEAST_KAPPA = 1e-3
"""In place of 0, for views that tell nothing of each other."""

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


def measured(bench: Bench) -> dict[str, Any]:
    """The protocol: rate and information of a run's code through the method's own channel."""
    method = method_of(bench, "compression")
    channel = channel_of(method)
    parts = {name: summary(pairs, channel) for name, pairs in _code_pairs(bench).items()}
    held_out = parts["held_out"]
    protocol = (
        f"projector codes of two training views of up to {IMAGES} images of each part, evaluation "
        f"mode, seed 0; {said(channel)}; rate in closed form, information by contrast with all "
        f"images measured, at most {held_out.info_cap_nats:.2f} nats"
    )
    main = ("rate_nats", "info_nats", "info_cap_nats")
    entries = {name: bench.entry({"trained": getattr(held_out, name)}, protocol) for name in main}
    entries["rate_nats"]["table"] = _table(parts)
    return entries


def fitted(bench: Bench) -> dict[str, Any]:
    """The protocol: rate and information through a backward encoder fitted after the fact."""
    options = bench.options.fitted
    parts = {which: _fitted_parts(bench, which) for which in bench.kinds}
    fit, critic = feature_fit(bench, "trained"), _critic(bench, "trained")
    protocol = (
        "encoder features of two training views, less their mean over training images, as "
        f"directions; e(z|x) = vMF(kappa_e = {options.kappa_e:g}), stated; b(z|y) fitted after the "
        f"fact: {options.head} head and kappa_b = {fit.kappa_b:.3g} by maximum likelihood on up to "
        f"{FIT_IMAGES} training images, of which a tenth stops the fit; measured on up to {IMAGES} "
        "held-out images, evaluation mode, seed 0; rate in closed form, information by contrast "
        f"with all images measured, critic exp({critic:.3g} cosine) of the best bound on training "
        f"images, at most {parts['trained']['held_out'].info_cap_nats:.2f} nats"
    )
    entries = {
        f"fitted_{name}": bench.entry(
            {which: getattr(parts[which]["held_out"], name) for which in bench.kinds}, protocol
        )
        for name in ("rate_nats", "info_nats", "info_cap_nats")
    }
    entries["fitted_rate_nats"] |= {"table": _table(parts["trained"]), "kappa_b": fit.kappa_b}
    return entries


def _fitted_parts(bench: Bench, which: Which) -> dict[str, Compression]:
    fit, pairs = feature_fit(bench, which), feature_pairs(bench, which)
    channel = channel_of_fit(fit, bench.options.fitted.kappa_e)
    critic = _critic(bench, which)
    return {
        name: summary(directed(pairs[name], fit), channel, critic=critic)
        for name in ("held_out", "train")
    }


def _critic(bench: Bench, which: Which) -> float:
    """Of the fractions of kappa_b the one with the highest bound on training images.

    One kappa for all directions of the sphere is too narrow a law for features of few dimensions:
    as a density it is the best there is, as a critic it is overconfident.
    """

    def made() -> float:
        fit = feature_fit(bench, which)
        channel = channel_of_fit(fit, bench.options.fitted.kappa_e)
        h, y = directed(feature_pairs(bench, which)["train"], fit)[0]
        h, y = h[:IMAGES], y[:IMAGES]
        fractions = [channel.kappa_b * 2.0**-halvings for halvings in range(-1, 10)]
        found = {
            kappa: per_image(h, y, channel, critic=kappa)["info_nats"].mean().item()
            for kappa in fractions
        }
        return max(found, key=lambda kappa: found[kappa])

    return bench.once(("critic", which), made)


def measure(
    method: Method, batches: Iterable[Views], *, channel: CEB, seed: int = 0
) -> Compression:
    """Rate and information of a method's codes on two views of each image.

    Args:
        method: in any mode; measured in evaluation mode and left as it was.
        batches: pairs of views on the method's device; all of them are candidates of each image.
        channel: what the codes are sent through, see `channel_of`.
        seed: of the channel's noise.
    """
    return summary(collect(coder_of(method).pairs, batches, method), channel, seed=seed)


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
        info_cap_nats=information.cap(len(pairs[0][0])),
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
        "entropy_nats": information.entropy(kappa_e, h.shape[1]).expand(len(h)),
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
    """The run's whole method with its last weights, on the bench's device.

    Raises:
        RunError: the subject is a bare encoder.
        CheckpointError: the checkpoint does not fit the recipe.
    """
    run = bench.run(protocol)

    def made() -> Method:
        method = methods.build(run.recipe)
        try:
            method.load_state_dict(run.state()["method"])
        except RuntimeError as error:
            raise CheckpointError(f"{run.checkpoint} does not fit its recipe: {error}") from None
        return method.to(bench.device)

    return bench.once("method", made)


def coder_of(method: Method) -> Coder:
    """A method's codes and its channel."""
    return Coder(lambda views: method.pairs(method.embed(views)), channel_of(method))


def channel_of(method: Method) -> CEB:
    """The channel of a method's own bottleneck, or the convention for a method without one.

    Without a bottleneck kappa_e is `KAPPA_E` and kappa_b is 1 / temperature, or `KAPPA_B` for a
    method that has no temperature (BYOL).
    """
    if isinstance(method.bottleneck, CEB):
        return method.bottleneck
    kappa_b = 1 / getattr(method, "temperature", 1 / KAPPA_B)
    return CEB(beta=0.0, kappa_e=KAPPA_E, kappa_b=kappa_b)


def channel_of_fit(fit: Fit, kappa_e: float) -> CEB:
    """The channel of a fitted backward encoder."""
    return CEB(beta=0.0, kappa_e=kappa_e, kappa_b=max(fit.kappa_b, _LEAST_KAPPA))


def feature_fit(bench: Bench, which: Which) -> Fit:
    """The backward encoder fitted to an encoder's features on the training part."""
    options = bench.options.fitted

    def made() -> Fit:
        pairs = feature_pairs(bench, which)["train"]
        h, y = (torch.cat(column) for column in zip(*pairs, strict=True))
        return fit_backward(y, h, kappa_e=options.kappa_e, kind=options.head)

    return bench.once(("fit", which), made)


def directed(pairs: Pairs, fit: Fit) -> Pairs:
    """The pairs with the other view's direction replaced by what the fitted encoder makes of it."""
    return [(h, fit.encoder(y)) for h, y in pairs]


def feature_pairs(bench: Bench, which: Which) -> Mapping[str, Pairs]:
    """Directions of centred features of two training views, of the train and held-out part."""

    def made() -> Mapping[str, Pairs]:
        coder = feature_coder(bench, which)
        return {name: coder(part) for name, part in _raw_features(bench, which).items()}

    return bench.once(("feature pairs", which), made)


def feature_coder(bench: Bench, which: Which) -> Callable[[tuple[Tensor, Tensor]], Pairs]:
    """From the features of two views to directions about the mean of training features."""
    mean = torch.cat(_raw_features(bench, which)["train"]).mean(dim=0)

    def code(features: tuple[Tensor, Tensor]) -> Pairs:
        u1, u2 = (F.normalize(part - mean.to(part), dim=1) for part in features)
        return [(u1, u2), (u2, u1)]

    return code


def _raw_features(bench: Bench, which: Which) -> Mapping[str, tuple[Tensor, Tensor]]:
    """Features of both training views of each image, (k, f) each, by part."""

    def made() -> Mapping[str, tuple[Tensor, Tensor]]:
        module = bench.module(which).to(bench.device)
        parts = {"train": (bench.parts.train, FIT_IMAGES), "held_out": (bench.parts.test, IMAGES)}
        found: dict[str, tuple[Tensor, Tensor]] = {}
        for name, (images, limit) in parts.items():
            batches = view_pairs(images, bench.views, device=bench.device, limit=limit)
            with evaluation_mode(module), torch.no_grad():
                features = [tuple(module(view).float() for view in views) for views in batches]
            first, second = map(torch.cat, zip(*features, strict=True))
            found[name] = first, second
        return found

    return bench.once(("view features", which), made)


def _code_pairs(bench: Bench) -> Mapping[str, Pairs]:
    """A run's directions of two training views, of the held-out and the train part."""
    method = method_of(bench, "compression")
    views = bench.run("compression").recipe.views
    parts = {"held_out": bench.parts.test, "train": bench.parts.train}

    def made(images: Images) -> Pairs:
        batches = view_pairs(images, views, device=bench.device, limit=IMAGES)
        return collect(coder_of(method).pairs, batches, method)

    return {
        name: bench.once(("code pairs", name), lambda images=images: made(images))
        for name, images in parts.items()
    }


def _table(parts: Mapping[str, Compression]) -> dict[str, dict[str, float]]:
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


def said(channel: CEB) -> str:
    """The channel in words, for a protocol."""
    kappa_e = f"kappa_e = {channel.kappa_e:g}"
    if channel.kappa_e_range != "off":
        low, high = channel.kappa_e_range
        kappa_e = f"kappa_e of each image, learned from {low:g} to {high:g}"
    return f"e(z|x) = vMF({kappa_e}), b(z|y) = vMF(kappa_b = {channel.kappa_b:g})"
