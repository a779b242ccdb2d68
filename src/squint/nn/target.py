"""The target network: encoder and projector that follow the online ones slowly."""

# pyright: reportPrivateImportUsage=false
# (torch's multi-tensor functions, torch._foreach_*, have no public name; its optimisers use them)

import copy
import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from squint.errors import RecipeError
from squint.shapes import Codes, Image, Scalar


class Target(nn.Module):
    """Moving average of an encoder and a projector; no gradient ever reaches it.

    Only parameters are averaged. Buffers are neither averaged nor copied: the target runs in
    training mode, so its batch norm normalises by the batch it sees and keeps running statistics
    of its own (as MoCo and BYOL do).

    Args:
        encoder: images (n, c, h, w) -> features (n, f); becomes part of the target.
        projector: features (n, f) -> codes (n, d); likewise.
        momentum: share of itself that it keeps in each step, 0 (becomes the online network) to 1
            (never moves).
        schedule: constant, or cosine: from `momentum` at the start of training to 1 at its end.

    Raises:
        RecipeError: momentum is out of range.
    """

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        *,
        momentum: float,
        schedule: Literal["constant", "cosine"] = "constant",
    ) -> None:
        super().__init__()
        if not 0 <= momentum <= 1:
            raise RecipeError(
                f"target_momentum={momentum} must be from 0 to 1: it is the share of itself that "
                "the target keeps in each step, usually 0.99 to 0.999."
            )
        self.encoder = encoder.requires_grad_(False)
        self.projector = projector.requires_grad_(False)
        self.momentum = momentum
        self.schedule = schedule

    @classmethod
    def copy_of(
        cls,
        encoder: nn.Module,
        projector: nn.Module,
        *,
        momentum: float,
        schedule: Literal["constant", "cosine"] = "constant",
    ) -> "Target":
        """A target that starts where the online network is (MoCo)."""
        copies = copy.deepcopy(encoder), copy.deepcopy(projector)
        return cls(*copies, momentum=momentum, schedule=schedule)

    @torch.no_grad()
    def forward(self, images: Image) -> Codes:
        """Codes of images, not normalised, without a gradient: (n, c, h, w) -> (n, d)."""
        return self.projector(self.encoder(images))

    @torch.no_grad()
    def update(self, encoder: nn.Module, projector: nn.Module, *, progress: float) -> None:
        """Move every parameter: target <- m target + (1 - m) online.

        Args:
            encoder: the online encoder, of the same architecture.
            projector: the online projector.
            progress: share of training done, 0 to 1, for the schedule of m.
        """
        ours, online = self._parameters_with(encoder, projector)
        torch._foreach_lerp_(ours, online, 1 - self.momentum_at(progress))  # pyright: ignore

    @torch.no_grad()
    def gap(self, encoder: nn.Module, projector: nn.Module) -> Scalar:
        """How far the target lags: norm of the difference of all parameters over the online's."""
        ours, online = self._parameters_with(encoder, projector)
        apart = [a - b for a, b in zip(ours, online, strict=True)]
        return get_total_norm(apart) / get_total_norm(online)

    def _parameters_with(
        self, encoder: nn.Module, projector: nn.Module
    ) -> tuple[list[Tensor], list[Tensor]]:
        ours: list[Tensor] = [*self.encoder.parameters(), *self.projector.parameters()]
        return ours, [*encoder.parameters(), *projector.parameters()]

    def momentum_at(self, progress: float) -> float:
        """Share of itself that the target keeps, at a share of training from 0 to 1."""
        if self.schedule == "cosine":
            return cosine_to_one(self.momentum, progress)
        return self.momentum

    def extra_repr(self) -> str:
        """What `print(model)` shows inside the brackets."""
        return f"momentum={self.momentum}, schedule={self.schedule!r}"


def cosine_to_one(base: float, progress: float) -> float:
    """Momentum of a target: `base` at progress 0, 1 from progress 1 on, along half a cosine.

    Grill et al. 2020, section 3.3 (BYOL); MoCo v3 has the same.

    Args:
        base: first value, 0 to 1.
        progress: share of training that is done, 0 to 1.
    """
    return 1 - (1 - base) * 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
