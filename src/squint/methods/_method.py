"""The interface of every method.

`forward` is the upper half of the paper's algorithm box, `after_step` the lower half.
"""

import abc
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from squint.compression import Bottleneck, Pair, Price
from squint.nn import Target
from squint.ops import contrast, geometry
from squint.ops.precision import TORCH_LEAST_NORM, at_least_float32
from squint.shapes import Codes, Image, Scalar


class Step(NamedTuple):
    """One forward pass."""

    loss: Scalar
    """What is minimised: the mean over this rank's images."""
    logs: dict[str, Scalar]
    """Detached scalars to log; names ending in `_nats` are in nats."""
    keys: tuple[Codes, ...] = ()
    """Codes that the queue takes after the step."""
    pairs: tuple[Pair, ...] = ()
    """(h, y) of each direction, detached, for `signs`."""


class Method(nn.Module, abc.ABC):
    """A self-supervised method; it knows nothing of data, optimizer or epochs.

    `forward` changes no state but batch norm's statistics; target, queue and price change in
    `after_step`. `forward` has two parts, so that a batch may pass the encoder in pieces: `embed`
    treats every image by itself (batch norm aside), `compare` sees the codes of all images.

    A subclass writes `embed`, `pairs`, `compare` and, if it has a target or a queue, `update`.
    """

    couples_images: ClassVar[bool]
    """Whether the loss of an image depends on the codes of the others in its batch."""

    bottleneck: Bottleneck
    """Each method sets it in its place: checkpoints rely on the order of modules."""

    def __init__(self, encoder: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder  # all that evaluation of features and export need
        self.projector = projector

    def forward(self, views: Sequence[Image], progress: float = 1.0) -> Step:
        """The loss on two views of the same n images.

        Args:
            views: two tensors (n, c, h, w), row i of both from image i.
            progress: share of training done, 0 to 1, for schedules inside the method.
        """
        codes = self.embed(views)
        return self.compare(codes, progress)._replace(pairs=self.seen(codes))

    @abc.abstractmethod
    def embed(self, views: Sequence[Image]) -> tuple[Codes, ...]:
        """All codes of the images that the objective needs, n rows each."""

    @abc.abstractmethod
    def compare(self, codes: Sequence[Codes], progress: float = 1.0) -> Step:
        """The loss on the codes of n images, as `embed` gives them."""

    @abc.abstractmethod
    def pairs(self, codes: Sequence[Codes]) -> list[Pair]:
        """(h, y) of each direction of the objective, as training charges them."""

    def pairs_across(self, codes: Sequence[Codes]) -> list[Pair]:
        """(h, y) pairs in which y is always from the other view, as I(X;Z|Y) requires.

        Evaluation measures these; they equal `pairs` unless training charges for another y
        (C-BYOL).
        """
        return self.pairs(codes)

    def seen(self, codes: Sequence[Codes]) -> tuple[Pair, ...]:
        """The pairs of the objective as numbers alone, for `Step.pairs`."""
        return tuple((h.detach(), y.detach()) for h, y in self.pairs(codes))

    @torch.no_grad()
    def signs(self, step: Step) -> dict[str, Scalar]:
        """Signs of health that are too dear for every step: see docs/metrics.md.

        Of this rank's images, means over directions; `target_gap` where there is a target.

        Args:
            step: what `forward` gave.
        """
        signs = {
            "effective_rank": [geometry.effective_rank(h) for h, _ in step.pairs],
            "alignment": [geometry.alignment(h, y) for h, y in step.pairs],
            "uniformity": [geometry.uniformity(h) for h, _ in step.pairs],
            "negative_cosine": [geometry.negative_cosine(h, y) for h, y in step.pairs],
        }
        means = {name: torch.stack(values).mean() for name, values in signs.items()}
        target = next((child for child in self.children() if isinstance(child, Target)), None)
        if target is not None:
            means["target_gap"] = target.gap(self.encoder, self.projector)
        return means

    def after_step(self, step: Step, progress: float) -> None:
        """The lower half of the box, after the optimizer's step.

        Args:
            step: what `forward` gave.
            progress: as given to `forward`.
        """
        self.update(step, progress)
        self.bottleneck.steer(step.logs)

    def update(self, step: Step, progress: float) -> None:
        """The method's own part of `after_step`: it moves the target and fills the queue."""


def unit(codes: Codes, *, least_norm: float = TORCH_LEAST_NORM) -> Codes:
    """Rows of length 1, in at least float32; rows below `least_norm` are divided by that."""
    return F.normalize(at_least_float32(codes), dim=1, eps=least_norm)


@torch.no_grad()
def code_logs(pairs: Sequence[Pair], bottleneck: Bottleneck, beta: Price) -> dict[str, Scalar]:
    """Diagnostics of the codes, averaged over directions, and those of the bottleneck.

    positive_cosine: between the codes of an image, -1 to 1. std_ratio: spread of the codes over
    the batch, 1 when they fill the sphere evenly, 0 when they have collapsed into one.
    """
    spread = [(h - h.mean(dim=0)).square().sum(dim=1).mean().sqrt() for h, _ in pairs]
    logs = {
        "positive_cosine": torch.stack([(h * y).sum(dim=1).mean() for h, y in pairs]).mean(),
        "std_ratio": torch.stack(spread).mean(),
    }
    return logs | bottleneck.logs(pairs, beta)


def contrast_logs(nats: Scalar, candidates: int, top1: Scalar) -> dict[str, Scalar]:
    """A contrastive term, the lower bound on I(Y;Z) it implies, its cap (nats), and top-1 accuracy.

    Args:
        nats: the term.
        candidates: how many there are for each anchor.
        top1: share of anchors whose partner is the nearest candidate.
    """
    cap = contrast.info_cap_nats(candidates)
    return {
        "contrast_nats": nats.detach(),
        "info_nats": cap - nats.detach(),
        "info_cap_nats": torch.full_like(nats, cap),
        "contrast_top1": top1,
    }
