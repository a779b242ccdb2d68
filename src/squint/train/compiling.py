"""`torch.compile` of the encoders, tried out before training starts; without it, all goes on.

Off by default: on the CPUs measured it gained nothing and took a minute (docs/speed.md).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from squint.methods import Method
from squint.nn import Encoder
from squint.recipe import Recipe
from squint.train.accumulate import buffers_restored
from squint.train.runtime import Runtime


def compile_encoders(
    method: Method, recipe: Recipe, runtime: Runtime, *, pieces: int, backend: str = "inductor"
) -> str:
    """Compile the method's encoders in place and try them forward and backward.

    Names of weights stay as they are, and so do weights and buffers. What compiles differs in its
    last bits from what does not; the same machine compiles alike every time.

    Args:
        method: on its device.
        recipe: says whether to, in train.compile.
        runtime: device, precision, layout and share of the batch.
        pieces: parts in which a batch passes the encoder.
        backend: of torch.compile.

    Returns:
        What to tell the user; empty if the recipe did not ask.
    """
    if recipe.train.compile == "off":
        return ""
    encoders = [module for module in method.modules() if isinstance(module, Encoder)]
    for encoder in encoders:
        encoder.compile(backend=backend, dynamic=False)
    try:
        _try_out(method, recipe, runtime, recipe.train.batch_size // runtime.world_size // pieces)
    except Exception as error:  # a missing compiler, a bug in torch: anything can come out of it
        for encoder in encoders:
            encoder._compiled_call_impl = None
        reason = str(error).strip().splitlines() or [""]
        return f"not compiled: {type(error).__name__}: {reason[0][:100]}"
    return f"compiled by {backend}"


@contextmanager
def not_compiled(module: nn.Module) -> Iterator[None]:
    """Run a module as it is written, for batches of other sizes than training's."""
    compiled, module._compiled_call_impl = module._compiled_call_impl, None
    try:
        yield
    finally:
        module._compiled_call_impl = compiled


def _try_out(method: Method, recipe: Recipe, runtime: Runtime, images: int) -> None:
    """One pass forward and backward, of which nothing stays but the compiled code."""
    size, channels = recipe.views.size, recipe.encoder.in_channels
    view = torch.zeros(images, channels, size, size, device=runtime.device)
    view = view.contiguous(memory_format=runtime.memory_format)
    try:
        with buffers_restored(method):
            with runtime.autocast():
                codes = method.embed((view, view.clone()))
            learned = [code.float().square().sum() for code in codes if code.requires_grad]
            torch.stack(learned).sum().backward()
    finally:
        method.zero_grad(set_to_none=True)
