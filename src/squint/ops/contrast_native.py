"""The contrastive loss on a CPU with AVX-512, by compiled kernels.

As `contrast_tiles.contrast`: blocks of anchors against all keys, three matrix products, the
gradient computed in the forward pass, O(n d) memory, logits in bits. Here similarities become
weights, sums and weighted keys while they are in the cache, and are read once more for the gradient
of the keys.
"""

import ctypes
import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from squint import native
from squint.native.threads import in_shares
from squint.ops.contrast_dense import (
    cross_entropy_nats,
    gradient_wanted,
    mean_hits,
    scaled_gradients,
)
from squint.shapes import Scalar

ROWS, PANEL, CHUNK, STRIDE = 8, 32, 256, 272
"""As in native/contrast.c."""
BLOCK = 2**21
"""Similarities in a block: 8 MiB."""
LEAST_ROWS, MOST_ROWS = 64, 256
"""Anchors in a block, however many or few keys there are."""
MOST_BITS = 60.0
"""Largest logit: up to here sums of exp2 neither overflow nor vanish with no maximum subtracted."""
NOWHERE = -(2**62)
"""First column of a diagonal that is not there."""


def fits(anchors: tuple[Tensor, ...], keys: tuple[Tensor, ...], *, temperature: float) -> bool:
    """Whether the kernels can take these codes on this machine.

    float32 on a CPU with AVX-512; unit rows fit down to temperature 0.024.
    """
    if any(x.device.type != "cpu" or x.dtype != torch.float32 for x in (*anchors, *keys)):
        return False
    library = native.library()
    if library is None or not library.squint_contrast_fits():
        return False
    return _longest(anchors) * _longest(keys) / (temperature * math.log(2)) <= MOST_BITS


def contrast(
    anchors: Float[Tensor, "n d"],
    partners: Float[Tensor, "n d"],
    keys: Float[Tensor, "k d"],
    own: tuple[int, ...],
    *,
    temperature: float,
) -> tuple[Scalar, Scalar]:
    """As `contrast_dense.contrast`, for codes that `fits` takes."""
    wanted = gradient_wanted(anchors, partners, keys)
    return _Native.apply(anchors, partners, keys, own, temperature, wanted)


def _longest(rows: tuple[Tensor, ...]) -> float:
    return max(float(x.detach().square().sum(dim=1).amax()) ** 0.5 for x in rows)


class _Native(torch.autograd.Function):
    """Loss and share of hits; the forward pass computes the loss's gradient too, if wanted."""

    @staticmethod
    def forward(
        ctx: Any,
        anchors: Tensor,
        partners: Tensor,
        keys: Tensor,
        own: tuple[int, ...],
        temperature: float,
        wanted: bool,
    ) -> tuple[Tensor, Tensor]:
        n, d = anchors.shape
        scale = 1 / (temperature * math.log(2))
        positive = (anchors * partners).sum(dim=1) * scale  # (n,)
        block = _Block(anchors * scale, keys, own, wanted, ctx.needs_input_grad[2])
        total, top = torch.empty_like(positive), torch.empty_like(positive)
        by_anchors, miss = torch.empty_like(anchors), torch.empty(n, 1)
        for i in range(0, n, block.rows):
            part = slice(i, min(i + block.rows, n))
            sums, top[part], weighted_keys = block.score(i)
            total[part] = sums.log2()
            every = torch.logaddexp2(total[part], positive[part])
            slope = torch.exp2(-every)[:, None] / (temperature * n)
            # probability of the negatives, over temperature and n
            miss[part] = torch.exp2(total[part] - every)[:, None] / (temperature * n)
            if wanted:
                by_anchors[part] = slope * weighted_keys[:, :d] - miss[part] * partners[part]
                block.add_key_gradient(slope * anchors[part])
        if wanted:
            ctx.save_for_backward(by_anchors, -miss * anchors, block.by_keys[: len(keys), :d])
        top1 = mean_hits(positive > top)
        ctx.mark_non_differentiable(top1)
        return cross_entropy_nats(positive, total).mean(), top1

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return (*scaled_gradients(ctx, grad_outputs[0]), None, None, None)


class _Task(ctypes.Structure):
    """`Contrast` in squint.h."""

    _fields_ = (
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("anchors", "across", "along", "pulls", "weights", "top", "total"),
                *("by_anchors", "by_keys"),
            )
        ),
        *((name, ctypes.c_int64) for name in ("rows", "keys", "width", "candidates")),
        ("own", ctypes.c_int64 * 2),
    )


class _Block:
    """Keys in the kernels' layout, and buffers for one block of anchors at a time."""

    def __init__(
        self, scaled: Tensor, keys: Tensor, own: tuple[int, ...], wanted: bool, by_keys: bool
    ) -> None:
        self.keys = _padded(keys.detach(), PANEL)
        self.k, self.width = self.keys.shape
        self.rows = min(MOST_ROWS, max(LEAST_ROWS, BLOCK // self.k // ROWS * ROWS))
        self.n = len(scaled)
        self.anchors = _padded(scaled.detach(), ROWS)  # (n, width), n a multiple of ROWS
        self.own = own
        self.across = self.keys.view(-1, PANEL, self.width).transpose(1, 2).contiguous()
        self.along = _panels(self.keys)
        self.weights = torch.empty(-(-self.k // CHUNK), self.rows, STRIDE)
        self.top, self.total = torch.empty(2, self.rows)
        self.by_anchors = torch.empty(self.rows, self.width)
        self.with_keys = wanted and by_keys
        self.by_keys = torch.zeros_like(self.keys) if self.with_keys else self.keys.new_empty(0, 0)
        self.task = _Task(
            across=self.across.data_ptr(),
            along=self.along.data_ptr(),
            weights=self.weights.data_ptr(),
            top=self.top.data_ptr(),
            total=self.total.data_ptr(),
            by_anchors=self.by_anchors.data_ptr() if wanted else None,
            by_keys=self.by_keys.data_ptr(),
            keys=self.k,
            width=self.width,
            candidates=len(keys),
        )

    def score(self, first: int) -> tuple[Tensor, Tensor, Tensor]:
        """Sums of weights, largest logits and weighted keys of the block that begins at `first`."""
        rows = min(self.rows, len(self.anchors) - first)  # a multiple of ROWS
        own = [column + first for column in self.own] + [NOWHERE] * (2 - len(self.own))
        self.task.anchors = self.anchors[first:].data_ptr()
        self.task.rows = rows
        self.task.own = (ctypes.c_int64 * 2)(*own)
        self._run(native.demand().squint_contrast_anchors, rows // ROWS)
        there = slice(0, min(rows, self.n - first))  # without the padding
        return self.total[there], self.top[there], self.by_anchors[there]

    def add_key_gradient(self, scaled_anchors: Float[Tensor, "b d"]) -> None:
        """Add the share of the block scored last to the gradient of the keys, if wanted."""
        if self.with_keys:
            panels = _panels(_padded(scaled_anchors, ROWS))
            self.task.pulls = panels.data_ptr()
            self._run(native.demand().squint_contrast_keys, len(self.weights))

    def _run(self, kernel: Any, count: int) -> None:
        def part(first: int, last: int) -> None:
            native.check(
                kernel(ctypes.byref(self.task), ctypes.c_int64(first), ctypes.c_int64(last))
            )

        in_shares(count, part, least=1)


def _padded(x: Float[Tensor, "n d"], rows: int) -> Tensor:
    """Padded with zeros to a multiple of `rows` rows and of PANEL columns; contiguous."""
    n, d = x.shape
    return F.pad(x, (0, -d % PANEL, 0, -n % rows)).contiguous()


def _panels(x: Tensor) -> Tensor:
    """Columns in groups of PANEL, one group after the other."""
    return x.view(len(x), -1, PANEL).transpose(0, 1).contiguous()
