"""The gradient of one step, with its batch going through the encoder whole or in pieces.

Pieces cost time and save memory; the step stays that of the whole batch. What a piece means
depends on the method:

- MoCo v1, v2 and BYOL charge every image by itself: gradients of the pieces are averaged.
- SimCLR and MoCo v3 tell every image from all others of the batch: the codes of all pieces are
  computed first, without a graph; the objective on all of them gives the gradient of each code;
  then every piece is computed again and its codes passed their gradient on (Gao et al. 2021,
  "Scaling deep contrastive learning batch size under memory limited setup"). This is the exact
  gradient of the whole batch, for about a third more work.

Batch norm sees a piece at a time, so with it (and not with layer norm) a piece should not be
small. Running statistics move once per piece.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from squint.methods import Method, Step
from squint.shapes import Image
from squint.train.runtime import Runtime

Views = Sequence[Image]


def forward_backward(
    method: Method,
    model: nn.Module,
    views: Views,
    progress: float,
    *,
    pieces: int,
    runtime: Runtime,
    reseed: Callable[[int], None],
) -> Step:
    """One forward and backward pass; gradients of the whole global batch are left in `.grad`.

    Args:
        method: the method, with no gradients.
        model: the method as wrapped for several ranks.
        views: of this rank's images.
        progress: share of training done.
        pieces: parts the batch goes through in; 1 is the usual step.
        runtime: precision, and how ranks average.
        reseed: `reseed(number)` makes later draws a function of the step and the number; 0 is how
            the step begins.
    """
    if pieces == 1:
        with runtime.autocast():
            out = model(views, progress)
        out.loss.backward()
        return out
    parts = list(zip(*(view.chunk(pieces) for view in views), strict=True))
    if method.couples_images:
        out = _in_two_passes(method, parts, progress, runtime, reseed)
    else:
        out = _one_by_one(method, parts, progress, runtime)
    runtime.average_gradients(method)
    return out


def _one_by_one(method: Method, parts: Sequence[Views], progress: float, runtime: Runtime) -> Step:
    outs: list[Step] = []
    for part in parts:
        with runtime.autocast():
            out = method(part, progress)
        (out.loss / len(parts)).backward()
        outs.append(out._replace(loss=out.loss.detach()))
    return Step(
        loss=torch.stack([out.loss for out in outs]).mean(),
        logs={name: torch.stack([out.logs[name] for out in outs]).mean() for name in outs[0].logs},
        keys=tuple(map(torch.cat, zip(*(out.keys for out in outs), strict=True))),
        pairs=outs[-1].pairs,
    )


def _in_two_passes(
    method: Method,
    parts: Sequence[Views],
    progress: float,
    runtime: Runtime,
    reseed: Callable[[int], None],
) -> Step:
    pieces: list[tuple[Tensor, ...]] = []
    with torch.no_grad(), runtime.autocast(), buffers_restored(method):
        for number, part in enumerate(parts, 1):
            reseed(number)
            pieces.append(method.embed(part))
    codes = [torch.cat(columns).requires_grad_() for columns in zip(*pieces, strict=True)]

    reseed(0)
    with runtime.autocast():
        out = method.compare(codes, progress)
    out.loss.backward()

    gradients = [code.grad.chunk(len(parts)) if code.grad is not None else None for code in codes]
    for number, part in enumerate(parts, 1):
        reseed(number)
        with runtime.autocast():
            again = method.embed(part)
        moving = [
            (code, gradient[number - 1])
            for code, gradient in zip(again, gradients, strict=True)
            if code.requires_grad and gradient is not None
        ]
        torch.autograd.backward([code for code, _ in moving], [grad for _, grad in moving])
    return out._replace(loss=out.loss.detach(), pairs=method.seen(codes))


@contextmanager
def buffers_restored(method: nn.Module) -> Iterator[None]:
    """Undo what happens to buffers inside: running statistics must not count a piece twice."""
    buffers = list(method.buffers())
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
