"""SimCLR (Chen et al. 2020, algorithm 1); with a CEB bottleneck, C-SimCLR (Lee et al. 2021)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from squint.compression import CEB, Open
from squint.methods._method import Method, Step
from squint.ops import contrast, gather
from squint.shapes import Codes, Image


class SimCLR(Method):
    """Two views of an image agree, told apart from all other images of the global batch.

    Args:
        encoder: images (n, c, h, w) -> features (n, f).
        projector: features (n, f) -> codes (n, d), not normalised.
        temperature: of the softmax, above 0; with a CEB bottleneck, 1 / kappa_b.
        bottleneck: `Open()` is SimCLR, `CEB(...)` is C-SimCLR.
    """

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        *,
        temperature: float,
        bottleneck: Open | CEB | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        self.temperature = temperature
        self.bottleneck = Open() if bottleneck is None else bottleneck

    def embed(self, views: Sequence[Image]) -> tuple[Codes, Codes]:
        """Unit codes of both views, from one pass: batch norm sees them together."""
        h = self.projector(self.encoder(torch.cat(list(views))))  # (2n, d)
        u1, u2 = F.normalize(h.float(), dim=1).chunk(2)  # (n, d) each
        return u1, u2

    def forward(self, views: Sequence[Image], progress: float = 1.0) -> Step:
        """Mean over images and both directions of -log softmax(positive) + beta * rate."""
        u1, u2 = self.embed(views)
        z1, rate1 = self.bottleneck(u1, given=u2)  # z ~ e(z|x), rate in nats (n,)
        z2, rate2 = self.bottleneck(u2, given=u1)

        contrast_nats = contrast.nt_xent(z1, z2, u1, u2, temperature=self.temperature)
        rate_nats = (rate1 + rate2).mean() / 2
        beta = self.bottleneck.beta_at(progress)
        loss = contrast_nats + beta * rate_nats if beta else contrast_nats

        cap = contrast.info_cap_nats(len(u1) * gather.world_size())
        logs = {
            "contrast_nats": contrast_nats.detach(),
            "info_nats": cap - contrast_nats.detach(),
            "info_cap_nats": torch.full_like(contrast_nats, cap),
            "contrast_top1": contrast.top1(z1, z2, u1, u2),
        }
        if isinstance(self.bottleneck, CEB):
            logs["rate_nats"] = self.bottleneck.closed_form_rate(u1.detach(), u2.detach()).mean()
            logs["beta"] = torch.full_like(rate_nats, beta)
        return Step(loss, logs)
