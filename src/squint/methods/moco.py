"""MoCo v1 (He et al. 2020, algorithm 1) and v2 (Chen et al. 2020); with a CEB bottleneck C-MoCo."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from squint.compression import Bottleneck, Open, Pair
from squint.methods._method import Method, Step, code_logs, contrast_logs, unit
from squint.nn import Queue, Target
from squint.ops import contrast, gather
from squint.shapes import Codes, Image


class MoCo(Method):
    """A query finds the key of its own image among the keys of many past ones.

    Args:
        encoder: images (n, c, h, w) -> features (n, f).
        projector: features (n, f) -> codes (n, d): a linear layer in v1, an MLP in v2.
        target: makes the keys.
        queue: past keys, the negatives.
        temperature: of the softmax, above 0; with a CEB bottleneck, 1 / kappa_b.
        symmetric: each view is query and key; otherwise view 1 is the query and view 2 the key.
        shuffle: keys pass batch norm in a random order, so that its statistics can't tell which
            key belongs to which query; needs a batch norm that sees parts of the batch apart.
        bottleneck: `Open()` is MoCo, `CEB(...)` is C-MoCo.
    """

    couples_images = False

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        *,
        target: Target,
        queue: Queue,
        temperature: float,
        symmetric: bool = False,
        shuffle: bool = True,
        bottleneck: Bottleneck | None = None,
    ) -> None:
        super().__init__(encoder, projector)
        self.target = target
        self.queue = queue
        self.temperature = temperature
        self.symmetric = symmetric
        self.shuffle = shuffle
        self.bottleneck = bottleneck or Open()

    def embed(self, views: Sequence[Image]) -> tuple[Codes, ...]:
        """Unit queries and keys in turn: q1, k2, and if symmetric q2, k1."""
        x1, x2 = views
        codes = (self._query(x1), self._key(x2))
        return (*codes, self._query(x2), self._key(x1)) if self.symmetric else codes

    def pairs(self, codes: Sequence[Codes]) -> list[Pair]:
        """Each query predicts the key of its image."""
        return list(zip(codes[::2], codes[1::2], strict=True))

    def compare(self, codes: Sequence[Codes], progress: float = 1.0) -> Step:
        """Mean over images of -log softmax(key) + beta * rate."""
        losses: list[Tensor] = []
        rates: list[Tensor] = []
        hits: list[Tensor] = []
        for q, k in self.pairs(codes):
            z, rate = self.bottleneck(q, given=k)  # z ~ e(z|x), rate in nats (n,)
            nats, top1 = contrast.info_nce_and_top1(
                z, k, self.queue.codes, temperature=self.temperature
            )
            losses.append(nats)
            rates.append(rate.mean())
            hits.append(top1)
        contrast_nats = torch.stack(losses).mean()
        beta = self.bottleneck.beta_at(progress)
        loss = contrast_nats + beta * torch.stack(rates).mean()

        logs = contrast_logs(contrast_nats, 1 + len(self.queue), torch.stack(hits).mean())
        logs |= code_logs(self.pairs(codes), self.bottleneck, beta)
        return Step(loss, logs, keys=tuple(codes[1::2]))

    def update(self, step: Step, progress: float) -> None:
        """f_k <- m f_k + (1 - m) f_q; then this batch's keys replace the oldest."""
        # differs from the released code, which moves the target at the start of the next step: the
        # same targets make the same keys, as its very first update mixes two equal networks
        self.target.update(self.encoder, self.projector, progress=progress)
        for keys in step.keys:
            self.queue.push(keys)

    def _query(self, images: Image) -> Codes:
        return unit(self.projector(self.encoder(images)))

    def _key(self, images: Image) -> Codes:
        if not (self.shuffle and self.training):
            return unit(self.target(images))
        order = gather.agreed(torch.randperm(len(images) * gather.world_size()), images.device)
        keys = self.target(gather.permute(images, order))
        return unit(gather.permute(keys, order.argsort()))
