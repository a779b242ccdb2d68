"""Projected gradient descent (Madry et al. 2018) against encoder and linear probe together.

The attack climbs the cross entropy of the probe's answer within a ball around every image, in the
space of values from 0 to 1 after crop and resize, before normalisation. An image counts as right
only if it is at the point of highest loss met, the image itself included.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from squint.evaluate.bench import Bench, Which
from squint.evaluate.features import evaluation_mode
from squint.evaluate.inputs import labelled_squares
from squint.evaluate.labels import Classes
from squint.evaluate.linear import COUNTED, LinearProbe, probe_of
from squint.evaluate.parts import check_labels
from squint.shapes import Image, Rows
from squint.views.normalise import normalise
from squint.views.recipes import ViewsConfig
from squint.views.uniform import stream, uniform

Norm = Literal["linf", "l2"]
Values = Float[Tensor, "n c h w"]
"""Images with values from 0 to 1."""
Classifier = Callable[[Image], Float[Tensor, "n classes"]]

_PURPOSE = 0x706764
_AT_ONCE = 100


def measured(bench: Bench) -> dict[str, Any]:
    """The protocol: accuracy of the linear probe under attack, by radius."""
    options = bench.options.pgd
    for part in bench.parts[:2]:
        check_labels(part)
    right = {which: _shares_right(bench, which) for which in bench.kinds}
    table = {
        f"eps {eps:g}/255": {
            "top1" if which == "trained" else "top1 (random)": right[which][eps]
            for which in bench.kinds
        }
        for eps in (0.0, *options.eps)
    }
    largest = max(options.eps)
    test = len(bench.parts.test)
    count = min(options.images or test, test)
    protocol = (
        f"linear top-1 at eps {largest:g}/255 of {options.norm} on {count} of {test} test images "
        f"(chosen at random, seed 0): PGD on values 0 to 1 after crop and resize, {options.steps} "
        f"steps of 2.5 eps / steps, random start under seed {options.seed}, worst point met; "
        f"{probe_of(bench).fitted}; {COUNTED}"
    )
    values = {which: shares[largest] for which, shares in right.items()}
    return {"pgd_top1": bench.entry(values, protocol, table=table)}


def _shares_right(bench: Bench, which: Which) -> dict[float, float]:
    """Share of test images still right, by eps in 1/255; 0 is no attack."""
    options = bench.options.pgd
    encoder = bench.module(which).to(bench.device)
    classify = classifier(encoder, probe_of(bench, which), bench.views, bench.device)
    right = dict.fromkeys((0.0, *options.eps), 0)
    count = 0
    with evaluation_mode(encoder):
        limit = options.images or None
        for numbers, pixels, labels in labelled_squares(bench.parts.test, bench.views, limit=limit):
            for some in torch.arange(len(labels)).split(_AT_ONCE):
                images = pixels[some].to(bench.device).float() / 255
                truth = labels[some].to(bench.device)
                for eps in right:
                    worst = attack(
                        classify,
                        images,
                        truth,
                        norm=options.norm,
                        eps=eps / 255,
                        steps=options.steps,
                        start=random_start(images, numbers[some], options.norm, options.seed),
                    )
                    with torch.no_grad():
                        right[eps] += int((classify(worst).argmax(dim=1) == truth).sum())
                count += len(some)
    return {eps: hits / count for eps, hits in right.items()}


def classifier(
    encoder: nn.Module, probe: LinearProbe, views: ViewsConfig, device: torch.device
) -> Classifier:
    """Values from 0 to 1 to the probe's logits, with gradients."""
    weight, bias = probe.weight.to(device), probe.bias.to(device)

    def classify(images: Image) -> Float[Tensor, "n classes"]:
        return encoder(normalise(images.clone(), views)).float() @ weight.T + bias

    return classify


def random_start(images: Values, numbers: Rows, norm: Norm, seed: int) -> Values:
    """A point of the unit ball for every image, a function of seed and image alone."""
    size = images[0].numel()
    u = uniform(stream(_PURPOSE, seed), numbers, 0, size + 1).to(images.device)  # (n, size + 1)
    if norm == "linf":
        return (2 * u[:, :size] - 1).view_as(images).to(images.dtype)
    normal = torch.special.ndtri(u[:, :size] + 2.0**-54)
    ball = F.normalize(normal, dim=1) * u[:, size:] ** (1 / size)  # even in volume
    return ball.view_as(images).to(images.dtype)


def attack(
    classify: Classifier,
    images: Values,
    labels: Classes,
    *,
    norm: Norm,
    eps: float,
    steps: int,
    start: Values,
) -> Values:
    """The images of highest cross entropy met within eps of the given ones.

    Args:
        classify: to logits; only its input gets gradients.
        images: values from 0 to 1, where the attack stays too.
        labels: true classes.
        norm: how the distance is measured.
        eps: the largest distance allowed; 0 gives the images back.
        steps: gradient steps, each of 2.5 * eps / steps.
        start: points of the unit ball to begin at.
    """
    worst, highest = images, _loss(classify, images, labels)[0]
    if eps == 0:
        return worst
    x = (images + eps * start).clamp(0, 1)
    for _ in range(steps):
        losses, gradient = _loss(classify, x, labels)
        worst, highest = _higher(worst, highest, x, losses)
        moved = x + 2.5 * eps / steps * _steepest(gradient, norm)
        x = (images + _into_ball(moved - images, norm, eps)).clamp(0, 1)
    losses, _ = _loss(classify, x, labels)
    return _higher(worst, highest, x, losses)[0]


def _loss(classify: Classifier, x: Values, labels: Classes) -> tuple[Float[Tensor, " n"], Values]:
    """Cross entropy of each image in nats, and its gradient."""
    x = x.detach().requires_grad_()
    losses = F.cross_entropy(classify(x), labels, reduction="none")
    (gradient,) = torch.autograd.grad(losses.sum(), x)
    return losses.detach(), gradient


def _higher(
    worst: Values, highest: Float[Tensor, " n"], x: Values, losses: Float[Tensor, " n"]
) -> tuple[Values, Float[Tensor, " n"]]:
    better = losses > highest
    return torch.where(better[:, None, None, None], x, worst), torch.maximum(losses, highest)


def _steepest(gradient: Values, norm: Norm) -> Values:
    """The step of length 1 that gains most."""
    if norm == "linf":
        return gradient.sign()
    return F.normalize(gradient.flatten(1), dim=1).view_as(gradient)


def _into_ball(change: Values, norm: Norm, eps: float) -> Values:
    """The nearest change that is allowed."""
    if norm == "linf":
        return change.clamp(-eps, eps)
    length = change.flatten(1).norm(dim=1)  # (n,)
    return change * (eps / length.clamp(min=eps))[:, None, None, None]
