"""Rate and information of any encoder, through a channel fitted after the fact.

e(z|x) = vMF(u, kappa_e) around the direction u of the features, kappa_e stated; b(z|y) has a head
and a kappa_b of maximum likelihood on training images, the latter on those the head has not seen.
It needs no training with a bottleneck, and no heads of a method: compressed, plain and foreign
encoders stand on one axis.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from squint.compression import CEB
from squint.compression.backward import Fit, fit_backward
from squint.evaluate.bench import Bench, Which
from squint.evaluate.compression import (
    IMAGES,
    Coder,
    Compression,
    Pairs,
    Views,
    per_image,
    summary,
    table,
)
from squint.evaluate.features import evaluation_mode
from squint.evaluate.inputs import view_pairs

FIT_IMAGES = 5_000
"""Training images that a backward encoder is fitted on, and measured as "train"."""

_LEAST_KAPPA = 1e-3
"""In place of 0, for views that tell nothing of each other."""


def measured(bench: Bench) -> dict[str, Any]:
    """The protocol: rate and information through a backward encoder fitted after the fact."""
    options = bench.options.fitted
    parts = {which: _fitted_parts(bench, which) for which in bench.kinds}
    fit, critic = feature_fit(bench, "trained"), _critic(bench, "trained")
    held_out = len(feature_pairs(bench, "trained")["held_out"][0][0])
    protocol = (
        "encoder features of two training views, less their mean over training images, as "
        f"directions; e(z|x) = vMF(kappa_e = {options.kappa_e:g}), stated; b(z|y) fitted after the "
        f"fact: {options.head} head and kappa_b = {fit.kappa_b:.3g} by maximum likelihood on up to "
        f"{FIT_IMAGES} training images, of which a tenth, held out with both views, stops the fit "
        f"and gives kappa_b; measured on {held_out} "
        "held-out images, evaluation mode, seed 0; rate in closed form, information by contrast "
        f"with all images measured, critic exp({critic:.3g} cosine) of the best bound on that "
        f"tenth, at most {parts['trained']['held_out'].info_cap_nats:.2f} nats"
    )
    entries = {
        f"fitted_{name}": bench.entry(
            {which: getattr(parts[which]["held_out"], name) for which in bench.kinds},
            protocol,
            own_view=False,
        )
        for name in ("rate_nats", "info_nats", "info_cap_nats")
    }
    entries["fitted_rate_nats"] |= {"table": table(parts["trained"]), "kappa_b": fit.kappa_b}
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
    """Of the fractions of kappa_b the one with the highest bound on images held out of the fit.

    One kappa for all directions of the sphere is too narrow a law for features of few dimensions:
    as a density it is the best there is, as a critic it is overconfident.
    """

    def make() -> float:
        fit = feature_fit(bench, which)
        channel = channel_of_fit(fit, bench.options.fitted.kappa_e)
        h, y = directed(feature_pairs(bench, which)["train"], fit)[0]
        held = fit.held[fit.held < len(h)]  # in the first direction, as all are in the second
        h, y = h[held], y[held]
        fractions = [channel.kappa_b * 2.0**-halvings for halvings in range(-1, 10)]
        found = {
            kappa: per_image(h, y, channel, critic=kappa)["info_nats"].mean().item()
            for kappa in fractions
        }
        return max(found, key=lambda kappa: found[kappa])

    return bench.once(("critic", which), make)


def coder_of(bench: Bench, which: Which = "trained") -> Coder:
    """Directions of features, and the channel fitted to them."""
    fit = feature_fit(bench, which)
    module = bench.module(which).to(bench.device)
    code = feature_coder(bench, which)

    def pairs(views: Views) -> Pairs:
        first, second = (module(view).float() for view in views)
        return directed(code((first, second)), fit)

    return Coder(pairs, channel_of_fit(fit, bench.options.fitted.kappa_e), module)


def channel_of_fit(fit: Fit, kappa_e: float) -> CEB:
    """The channel of a fitted backward encoder."""
    return CEB(beta=0.0, kappa_e=kappa_e, kappa_b=max(fit.kappa_b, _LEAST_KAPPA))


def feature_fit(bench: Bench, which: Which) -> Fit:
    """The backward encoder fitted to an encoder's features on the training part."""
    options = bench.options.fitted

    def make() -> Fit:
        pairs = feature_pairs(bench, which)["train"]
        h, y = (torch.cat(column) for column in zip(*pairs, strict=True))
        images = torch.cat([torch.arange(len(direction)) for direction, _ in pairs])
        return fit_backward(y, h, kappa_e=options.kappa_e, images=images, kind=options.head)

    return bench.once(("fit", which), make)


def directed(pairs: Pairs, fit: Fit) -> Pairs:
    """The pairs with the other view's direction replaced by what the fitted encoder makes of it."""
    return [(h, fit.encoder(y)) for h, y in pairs]


def feature_pairs(bench: Bench, which: Which) -> Mapping[str, Pairs]:
    """Directions of centred features of two training views, of the train and held-out part."""

    def make() -> Mapping[str, Pairs]:
        coder = feature_coder(bench, which)
        return {name: coder(part) for name, part in _raw_features(bench, which).items()}

    return bench.once(("feature pairs", which), make)


def feature_coder(bench: Bench, which: Which) -> Callable[[tuple[Tensor, Tensor]], Pairs]:
    """From the features of two views to directions about the mean of training features."""
    mean = torch.cat(_raw_features(bench, which)["train"]).mean(dim=0)

    def code(features: tuple[Tensor, Tensor]) -> Pairs:
        u1, u2 = (F.normalize(part - mean.to(part), dim=1) for part in features)
        return [(u1, u2), (u2, u1)]

    return code


def _raw_features(bench: Bench, which: Which) -> Mapping[str, tuple[Tensor, Tensor]]:
    """Features of both training views of each image, (k, f) each, by part."""

    def make() -> Mapping[str, tuple[Tensor, Tensor]]:
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

    return bench.once(("view features", which), make)
