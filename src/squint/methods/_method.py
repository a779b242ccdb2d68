"""What every method is: an algorithm box with an upper and a lower half."""

import abc
from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from squint.shapes import Codes, Image


class Step(NamedTuple):
    """One forward pass."""

    loss: Float[Tensor, ""]
    """What is minimised: mean over images of this rank."""
    logs: dict[str, Tensor]
    """Scalars to write, detached; the terms of the loss by name, in nats where they are nats."""
    keys: Codes | None = None
    """Codes the method wants to remember after the step."""


class Method(nn.Module, abc.ABC):
    """A self-supervised method: `forward` is the upper half of its algorithm box.

    A method knows nothing of data, optimizer or epochs. `forward` changes no state but batch
    norm's statistics; what else must change (target, queue) changes in `after_step`.
    """

    encoder: nn.Module
    """What evaluation and export read."""

    @abc.abstractmethod
    def forward(self, views: Sequence[Image], progress: float = 1.0) -> Step:
        """The loss on two views of the same n images.

        Args:
            views: two tensors (n, c, h, w), row i of both from image i.
            progress: share of training done, 0 to 1, for schedules inside the method.
        """

    def after_step(self, step: Step, progress: float) -> None:
        """The lower half of the box; runs once the optimizer has moved."""
