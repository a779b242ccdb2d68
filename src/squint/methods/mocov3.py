"""MoCo v3 (Chen et al. 2021, algorithm 1); with a CEB bottleneck, C-MoCo v3."""

from collections.abc import Sequence

from torch import nn

from squint.compression import Bottleneck, Open, Pair
from squint.methods._method import Method, Step, code_logs, contrast_logs, unit
from squint.nn import Target
from squint.ops import contrast, gather
from squint.shapes import Codes, Image


class MoCoV3(Method):
    """A prediction from one view finds the target's key of the other among those of the batch.

    Args:
        encoder: images (n, c, h, w) -> features (n, f).
        projector: features (n, f) -> codes (n, d).
        predictor: codes (n, d) -> queries (n, d).
        target: makes the keys.
        temperature: of the softmax, above 0; with a CEB bottleneck, 1 / kappa_b.
        bottleneck: `Open()` is MoCo v3, `CEB(...)` is C-MoCo v3.
    """

    couples_images = True

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        predictor: nn.Module,
        *,
        target: Target,
        temperature: float,
        bottleneck: Bottleneck | None = None,
    ) -> None:
        super().__init__(encoder, projector)
        self.predictor = predictor
        self.target = target
        self.temperature = temperature
        self.bottleneck = bottleneck or Open()

    def embed(self, views: Sequence[Image]) -> tuple[Codes, ...]:
        """Unit queries and keys q1, q2, k1, k2; one pass per view, so batch norm sees one view."""
        x1, x2 = views
        q1, q2 = (unit(self.predictor(self.projector(self.encoder(x)))) for x in (x1, x2))
        k1, k2 = unit(self.target(x1)), unit(self.target(x2))  # no gradient
        return q1, q2, k1, k2

    def pairs(self, codes: Sequence[Codes]) -> list[Pair]:
        """Each query predicts the key of the other view."""
        q1, q2, k1, k2 = codes
        return [(q1, k2), (q2, k1)]

    def compare(self, codes: Sequence[Codes], progress: float = 1.0) -> Step:
        """2 temperature (-log softmax(key) + beta * rate), sum of directions, mean over images."""
        q1, q2, k1, k2 = codes
        z1, rate1 = self.bottleneck(q1, given=k2)  # z ~ e(z|x), rate in nats (n,)
        z2, rate2 = self.bottleneck(q2, given=k1)

        nats1, hits1 = contrast.batch_info_nce_and_top1(z1, k2, temperature=self.temperature)
        nats2, hits2 = contrast.batch_info_nce_and_top1(z2, k1, temperature=self.temperature)
        beta = self.bottleneck.beta_at(progress)
        loss = 2 * self.temperature * (nats1 + nats2 + beta * (rate1 + rate2).mean())

        candidates, top1 = len(q1) * gather.world_size(), (hits1 + hits2) / 2
        logs = contrast_logs((nats1 + nats2) / 2, candidates, top1)
        return Step(loss, logs | code_logs(self.pairs(codes), self.bottleneck, beta))

    def update(self, step: Step, progress: float) -> None:
        """f_k <- m f_k + (1 - m) f_q; the predictor has no counterpart."""
        # differs from the released code: m is that of the step just done, not of the next one
        self.target.update(self.encoder, self.projector, progress=progress)
