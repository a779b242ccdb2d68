"""BYOL (Grill et al. 2020, algorithm 1); with a CEB bottleneck, C-BYOL (Lee et al. 2021)."""

from collections.abc import Sequence
from functools import partial
from typing import Literal

from torch import nn

from squint.compression import Bottleneck, Open, Pair
from squint.methods._method import Method, Step, code_logs, unit
from squint.nn import Target
from squint.ops import regress
from squint.ops.precision import TENSORFLOW_LEAST_NORM
from squint.shapes import Codes, Image

_unit = partial(unit, least_norm=TENSORFLOW_LEAST_NORM)


class BYOL(Method):
    """A prediction from one view points where the target puts the other view; no negatives.

    Args:
        encoder: images (n, c, h, w) -> features (n, f).
        projector: features (n, f) -> codes (n, d).
        predictor: codes (n, d) -> (n, d); in C-BYOL its direction is the mean of e(z|x).
        target: what is predicted.
        kappa_d: concentration of the decoder d(y|z), above 0; the regression weighs half of it.
        bottleneck: `Open()` is BYOL, `CEB(...)` is C-BYOL.
        readout: z (n, d) -> prediction (n, d); linear in C-BYOL, none in BYOL.
        backward_encoder: target codes (n, d) -> mean of b(z|y) (n, d); none in BYOL.
        backward_view: which view b(z|y) sees: the `same` as z's (released code) or the `other`
            (the paper's text).
    """

    couples_images = False

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        predictor: nn.Module,
        *,
        target: Target,
        kappa_d: float = 2.0,
        bottleneck: Bottleneck | None = None,
        readout: nn.Module | None = None,
        backward_encoder: nn.Module | None = None,
        backward_view: Literal["same", "other"] = "same",
    ) -> None:
        super().__init__(encoder, projector)
        self.predictor = predictor
        self.target = target
        self.kappa_d = kappa_d
        self.bottleneck = bottleneck or Open()
        self.readout = nn.Identity() if readout is None else readout
        self.backward_encoder = nn.Identity() if backward_encoder is None else backward_encoder
        self.backward_view: Literal["same", "other"] = backward_view

    def embed(self, views: Sequence[Image]) -> tuple[Codes, ...]:
        """Unit directions: predictions q1, q2, targets k1, k2, and means b1, b2 of b(z|y)."""
        x1, x2 = views
        q1, q2 = (_unit(self.predictor(self.projector(self.encoder(x)))) for x in (x1, x2))
        k1, k2 = _unit(self.target(x1)), _unit(self.target(x2))  # no gradient
        b1, b2 = _unit(self.backward_encoder(k1)), _unit(self.backward_encoder(k2))
        return q1, q2, k1, k2, b1, b2

    def pairs(self, codes: Sequence[Codes]) -> list[Pair]:
        """Each prediction, and the mean of b(z|y) for y of the same or the other view."""
        q1, q2, _, _, b1, b2 = codes
        return [(q1, b1), (q2, b2)] if self.backward_view == "same" else [(q1, b2), (q2, b1)]

    def pairs_across(self, codes: Sequence[Codes]) -> list[Pair]:
        """Each prediction, and the mean of b(z|y) for y of the other view.

        The rate is then a bound on I(X;Z|Y), whichever view b was trained with.
        """
        q1, q2, _, _, b1, b2 = codes
        return [(q1, b2), (q2, b1)]

    def compare(self, codes: Sequence[Codes], progress: float = 1.0) -> Step:
        """kappa_d/2 |prediction - target|^2 + beta * rate, sum of directions, mean over images."""
        _, _, k1, k2, _, _ = codes
        (q1, given1), (q2, given2) = self.pairs(codes)
        z1, rate1 = self.bottleneck(q1, given=given1)  # z ~ e(z|x), rate in nats (n,)
        z2, rate2 = self.bottleneck(q2, given=given2)

        # differs from the released code: without a readout, predictions are normalised twice. Only
        # rows shorter than 1e-6 notice: the second pass gives them length 1.
        regression1 = regress.cosine_regression(self.readout(z1), k2)
        regression2 = regress.cosine_regression(self.readout(z2), k1)
        beta = self.bottleneck.beta_at(progress)
        # differs from the released code: no online linear classifier adds a term. The rate stays in
        # at beta 0, too: ranks wait for the gradient of the backward encoder.
        loss = self.kappa_d / 2 * (regression1 + regression2) + beta * (rate1 + rate2).mean()

        logs = code_logs(self.pairs(codes), self.bottleneck, beta)
        # replaces that of `code_logs`: between prediction and target, not prediction and mean of b
        logs["positive_cosine"] = 1 - (regression1 + regression2).detach() / 4
        return Step(loss, logs)

    def update(self, step: Step, progress: float) -> None:
        """Target <- m target + (1 - m) online; the predictor has no counterpart."""
        self.target.update(self.encoder, self.projector, progress=progress)
