"""`torch.compile` of the encoders, tried out before training starts; without it, all goes on.

Off by default: on the CPUs measured it gained nothing and took a minute (docs/speed.md). On CUDA
there is also "graphs": the compiled encoders are recorded as CUDA graphs and played back, which
spares the host the launch of every kernel.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from squint.errors import RecipeError
from squint.methods import Method
from squint.nn import Encoder
from squint.nn.norm import SyncBatchNorm
from squint.recipe import Recipe
from squint.train.accumulate import buffers_restored
from squint.train.runtime import Runtime


def check_graphs(recipe: Recipe, runtime: Runtime) -> None:
    """Refuse CUDA graphs where there is no CUDA, before anything is written.

    Raises:
        RecipeError: the recipe asks for them on another device.
    """
    if recipe.train.compile == "graphs" and runtime.device.type != "cuda":
        raise RecipeError(
            f"train.compile=graphs records CUDA graphs, and this run is on {runtime.device}. Give "
            "--train.compile off or on, or train on a CUDA device."
        )


def compile_encoders(
    method: Method, recipe: Recipe, runtime: Runtime, *, pieces: int, backend: str = "inductor"
) -> str:
    """Compile the method's encoders in place and try them forward and backward.

    If it can't be done with CUDA graphs it is done without, and if it can't be done at all the
    encoders run as they are written.

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
    images = recipe.train.batch_size // runtime.world_size // pieces
    said = ""
    if recipe.train.compile == "graphs":
        said = _obstacle(method) or _compiled(method, recipe, runtime, images, backend, graphs=True)
        if not said:
            return f"compiled by {backend}, recorded as CUDA graphs"
        said = f"without CUDA graphs ({said}); "
    failure = _compiled(method, recipe, runtime, images, backend, graphs=False)
    return said + (f"not compiled: {failure}" if failure else f"compiled by {backend}")


def begin_step(recipe: Recipe) -> None:
    """Tell recorded graphs that what they gave in the last step may be overwritten."""
    if recipe.train.compile == "graphs":
        torch.compiler.cudagraph_mark_step_begin()


def _obstacle(method: Method) -> str:
    """Why the encoders can't be recorded; empty if nothing is known against it."""
    if any(isinstance(module, (nn.SyncBatchNorm, SyncBatchNorm)) for module in method.modules()):
        return "batch norm talks to the other ranks inside the encoder"
    return ""


def _compiled(
    method: Method, recipe: Recipe, runtime: Runtime, images: int, backend: str, *, graphs: bool
) -> str:
    """Compile and try; what went wrong, in which case nothing is compiled."""
    encoders = [module for module in method.modules() if isinstance(module, Encoder)]
    options = {"triton.cudagraphs": True} if graphs else None
    try:
        for encoder in encoders:
            encoder.compile(backend=backend, dynamic=False, options=options)
        for _ in range(3 if graphs else 1):  # a graph is warmed up, recorded, played back
            begin_step(recipe)
            _try_out(method, recipe, runtime, images)
    except Exception as error:  # a missing compiler, a bug in torch: anything can come out of it
        for encoder in encoders:
            encoder._compiled_call_impl = None
        reason = str(error).strip().splitlines() or [""]
        return f"{type(error).__name__}: {reason[0][:100]}"
    return ""


@contextmanager
def not_compiled(module: nn.Module, recipe: Recipe) -> Iterator[None]:
    """Run a module as it is written, for batches of other sizes than training's."""
    if recipe.train.compile == "off":
        yield
        return
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
