"""What every method is: an algorithm box with an upper and a lower half."""

import abc
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from squint.compression import CEB, Open
from squint.ops import contrast
from squint.ops.precision import TORCH_LEAST_NORM, at_least_float32
from squint.shapes import Codes, Image

Pair = tuple[Codes, Codes]
"""Unit directions h of e(z|x) and y of b(z|y): what is coded, and what the code has to predict."""

Scalar = Float[Tensor, ""]
Price = float | Scalar
"""Of a nat of rate; a tensor where it is moved while training."""


class Step(NamedTuple):
    """One forward pass."""

    loss: Float[Tensor, ""]
    """What is minimised: mean over images of this rank."""
    logs: dict[str, Tensor]
    """Scalars to write, detached; the terms of the loss by name, in nats where they are nats."""
    keys: tuple[Codes, ...] = ()
    """Codes the method wants to remember after the step."""


class Method(nn.Module, abc.ABC):
    """A self-supervised method: `forward` is the upper half of its algorithm box.

    A method knows nothing of data, optimizer or epochs. `forward` changes no state but batch
    norm's statistics; what else must change (target, queue) changes in `after_step`.

    The upper half has two parts, so that a batch may pass the encoder in pieces: `embed` treats
    every image by itself (batch norm aside), `compare` looks at the codes of all of them.
    """

    couples_images: ClassVar[bool]
    """Whether the loss of an image depends on the codes of the others in its batch."""

    encoder: nn.Module
    """What evaluation and export read."""
    projector: nn.Module
    bottleneck: Open | CEB

    def forward(self, views: Sequence[Image], progress: float = 1.0) -> Step:
        """The loss on two views of the same n images.

        Args:
            views: two tensors (n, c, h, w), row i of both from image i.
            progress: share of training done, 0 to 1, for schedules inside the method.
        """
        return self.compare(self.embed(views), progress)

    @abc.abstractmethod
    def embed(self, views: Sequence[Image]) -> tuple[Codes, ...]:
        """All codes of the images that the objective needs, n rows each."""

    @abc.abstractmethod
    def compare(self, codes: Sequence[Codes], progress: float = 1.0) -> Step:
        """The loss on the codes of n images, as `embed` gives them."""

    @abc.abstractmethod
    def pairs(self, codes: Sequence[Codes]) -> list[Pair]:
        """Where the bottleneck sits: (h, y) for each direction of the objective."""

    def pairs_across(self, codes: Sequence[Codes]) -> list[Pair]:
        """(h, y) with y of the other view than h, which I(X;Z|Y) and I(Y;Z) are about.

        What evaluation measures; those of `pairs`, unless a method charges something else.
        """
        return self.pairs(codes)

    def after_step(self, step: Step, progress: float) -> None:
        """The lower half of the box; runs once the optimizer has moved.

        Args:
            step: what `forward` gave.
            progress: as given to `forward`.
        """

    def steer(self, step: Step) -> None:
        """Move the price of the rate towards its target, where there is one; after `after_step`."""
        if isinstance(self.bottleneck, CEB):
            self.bottleneck.steer(step.logs["rate_nats"])


def unit(codes: Codes, *, least_norm: float = TORCH_LEAST_NORM) -> Codes:
    """Rows of length 1, in at least float32; rows below `least_norm` are divided by that."""
    return F.normalize(at_least_float32(codes), dim=1, eps=least_norm)


def priced(nats: Scalar, beta: Price, rate_nats: Scalar) -> Scalar:
    """An objective and the price of its rate; without a price the objective, to the bit."""
    charged = isinstance(beta, Tensor) or beta > 0
    return nats + beta * rate_nats if charged else nats


@torch.no_grad()
def code_logs(
    pairs: Sequence[Pair], bottleneck: Open | CEB, beta: Price
) -> dict[str, Float[Tensor, ""]]:
    """How codes lie, means over directions; with a bottleneck, its rate in nats per image too.

    positive_cosine: between the codes of an image, -1 to 1. std_ratio: spread of the codes over
    the batch, 1 when they fill the sphere evenly, 0 when they have collapsed into one.
    """
    device = pairs[0][0].device
    spread = [(h - h.mean(dim=0)).square().sum(dim=1).mean().sqrt() for h, _ in pairs]
    logs = {
        "positive_cosine": torch.stack([(h * y).sum(dim=1).mean() for h, y in pairs]).mean(),
        "std_ratio": torch.stack(spread).mean(),
    }
    if isinstance(bottleneck, CEB):
        rates = [bottleneck.closed_form_rate(h, y).mean() for h, y in pairs]
        logs["rate_nats"] = torch.stack(rates).mean()
        logs["beta"] = beta if isinstance(beta, Tensor) else torch.full((), beta, device=device)
        if bottleneck.kappa_head is not None:
            logs["kappa_e"] = torch.cat([bottleneck.kappa_head(h) for h, _ in pairs]).mean()
    return logs


def contrast_logs(
    nats: Float[Tensor, ""], candidates: int, top1: Float[Tensor, ""]
) -> dict[str, Float[Tensor, ""]]:
    """A contrastive term and what it shows of I(Y;Z), both in nats, and its hits."""
    cap = contrast.info_cap_nats(candidates)
    return {
        "contrast_nats": nats.detach(),
        "info_nats": cap - nats.detach(),
        "info_cap_nats": torch.full_like(nats, cap),
        "contrast_top1": top1,
    }
