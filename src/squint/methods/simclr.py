"""SimCLR (Chen et al. 2020, algorithm 1); with a CEB bottleneck, C-SimCLR (Lee et al. 2021)."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from squint.compression import Bottleneck, Open, Pair
from squint.methods._method import Method, Step, code_logs, contrast_logs, unit
from squint.ops import contrast, gather
from squint.ops.precision import TENSORFLOW_LEAST_NORM
from squint.shapes import Codes, Image


class SimCLR(Method):
    """Two views of an image agree, told apart from all other images of the global batch.

    Args:
        encoder: images (n, c, h, w) -> features (n, f).
        projector: features (n, f) -> codes (n, d), not normalised.
        temperature: of the softmax, above 0; with a CEB bottleneck, 1 / kappa_b.
        directions: the loss is their `mean`, or their `sum` (released code).
        bottleneck: `Open()` is SimCLR, `CEB(...)` is C-SimCLR.
    """

    couples_images = True

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        *,
        temperature: float,
        directions: Literal["mean", "sum"] = "mean",
        bottleneck: Bottleneck | None = None,
    ) -> None:
        super().__init__(encoder, projector)
        self.temperature = temperature
        self.directions: Literal["mean", "sum"] = directions
        self.bottleneck = bottleneck or Open()

    def embed(self, views: Sequence[Image]) -> tuple[Codes, ...]:
        """Unit codes u1, u2 of both views, from one pass: batch norm sees them together."""
        h = self.projector(self.encoder(torch.cat(list(views))))  # (2n, d)
        return unit(h, least_norm=TENSORFLOW_LEAST_NORM).chunk(2)  # (n, d) each

    def pairs(self, codes: Sequence[Codes]) -> list[Pair]:
        """Each view's code predicts the other's."""
        u1, u2 = codes
        return [(u1, u2), (u2, u1)]

    def compare(self, codes: Sequence[Codes], progress: float = 1.0) -> Step:
        """Mean over images of -log softmax(positive) + beta * rate, mean or sum over directions."""
        u1, u2 = codes
        z1, rate1 = self.bottleneck(u1, given=u2)  # z ~ e(z|x), rate in nats (n,)
        z2, rate2 = self.bottleneck(u2, given=u1)

        contrast_nats, top1 = contrast.nt_xent_and_top1(
            z1, z2, u1, u2, temperature=self.temperature
        )
        rate_nats = (rate1 + rate2).mean() / 2
        beta = self.bottleneck.beta_at(progress)
        # differs from the released code: no online linear classifier adds a term
        loss = contrast_nats + beta * rate_nats
        if self.directions == "sum":
            loss = 2 * loss

        candidates = 2 * len(u1) * gather.world_size() - 1
        logs = contrast_logs(contrast_nats, candidates, top1)
        return Step(loss, logs | code_logs(self.pairs(codes), self.bottleneck, beta))
