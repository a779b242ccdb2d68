"""In how many pieces a batch goes through the encoder: as many as asked for, or as memory demands.

On CUDA running out of memory is an error that can be caught, so `auto` tries. On a CPU the system
kills the process that runs out of it: there, what a few views keep for the backward pass says how
much a batch would need, and a step that can't fit is refused before anything is written.
"""

import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch

from squint.configs import MoCoConfig
from squint.errors import RecipeError, RunError
from squint.methods import Method
from squint.recipe import Recipe
from squint.train import memory
from squint.train.accumulate import buffers_restored
from squint.train.runtime import Runtime

WORTH_A_LOOK = 2**22
"""Pixels of a batch's views, one channel, below which its memory is nobody's concern."""

MARGIN = 1.25
"""What a step takes in all, over what it keeps for the backward pass; 1.1 was measured."""


def pieces_of(method: Method, recipe: Recipe, runtime: Runtime, *, pieces_before: int = 0) -> int:
    """Parts in which a batch goes through the encoder; 1 is the whole batch at once.

    Called before the ranks' batch norms are joined. Where nothing is known of memory (neither CUDA
    nor a CPU under Linux), `auto` is the whole batch.

    Args:
        method: not yet on its device.
        recipe: says how many images a piece has.
        runtime: device, and share of the batch.
        pieces_before: parts in which the run that is resumed began, which `auto` keeps, since
            batch norm sees a piece at a time. 0: a new run.

    Raises:
        RecipeError: a piece can't be shared out over the ranks.
        RunError: what is asked for can't fit; not even a piece of 2 images fits.
    """
    micro, batch, ranks = recipe.train.micro_batch_size, recipe.train.batch_size, runtime.world_size
    if micro == "auto" and pieces_before:
        micro = batch // pieces_before
    if micro not in ("off", "auto") and micro % ranks:
        raise RecipeError(
            f"train.micro_batch_size={micro} is global and can't be split evenly over "
            f"{ranks} ranks. Make it a multiple of {ranks}."
        )
    host = _host_of(method, recipe, runtime) if runtime.device.type == "cpu" else None
    if micro != "auto":
        images = batch if micro == "off" else micro
        if host and not host.has_room_for(images // ranks):
            _refuse_or_warn(host, recipe, images // ranks)
        return batch // images
    fits = host.has_room_for if host else partial(_fits, method, recipe, runtime)
    if host is None and runtime.device.type != "cuda":
        return 1
    pieces = 1
    while not fits(batch // pieces // ranks):
        pieces *= 2
        if batch % (pieces * ranks) or batch // pieces < 2 * ranks:
            raise RunError(
                f"{recipe.encoder.name} at {recipe.views.size} px does not fit into the memory of "
                f"{runtime.device}, not even in pieces of {2 * batch // pieces} images. Take a "
                "smaller encoder or smaller views."
            )
    return int(runtime.most(pieces))


@contextmanager
def memory_errors_explained(recipe: Recipe, runtime: Runtime, pieces: int) -> Iterator[None]:
    """Say in a sentence if memory runs out inside, and what takes less of it.

    Raises:
        RunError: it did.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        out = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not (out or "can't allocate memory" in str(error)):
            raise
        images = recipe.train.batch_size // pieces
        less = _smaller_piece(recipe, runtime.world_size, images)
        advice = f"--train.micro-batch-size {less} (the same step, in pieces), " if less else ""
        raise RunError(
            f"The memory of {runtime.device} does not hold a step with {images} images at once in "
            f"two views of {recipe.views.size} px through {recipe.encoder.name}. Give {advice}"
            "a smaller --batch-size, or a smaller encoder."
        ) from None


def _smaller_piece(recipe: Recipe, ranks: int, images: int) -> int | None:
    """The largest piece of at most half as many images that the recipe may have, if any."""
    groups = getattr(recipe.method, "norm_groups", 1)
    batch, unit = recipe.train.batch_size, math.lcm(ranks, groups)
    sizes = range(images // 2 // unit * unit, max(1, 2 * groups - 1), -unit)
    return next((size for size in sizes if batch % size == 0), None)


@dataclass(frozen=True, kw_only=True)
class _Host:
    """A CPU's memory, and what a recipe needs of it."""

    free: int
    """Bytes, for this rank."""
    per_image: float
    """Bytes that an image's views keep for the backward pass."""

    def needs(self, images: int) -> float:
        """Bytes that a step in which so many images are one piece takes at the least."""
        return images * self.per_image

    def has_room_for(self, images: int) -> bool:
        """Whether a piece of so many images fits, as far as can be told."""
        return MARGIN * self.needs(images) <= self.free


def _host_of(method: Method, recipe: Recipe, runtime: Runtime) -> _Host | None:
    """None where memory is plenty, or nobody says how much there is."""
    size, batch = recipe.views.size, recipe.train.batch_size // runtime.world_size
    free = memory.free_bytes()
    if free is None or 2 * batch * size**2 < WORTH_A_LOOK:
        return None
    # twice, for what does not grow with the number of views: weights in bfloat16
    least = 2 * max(1, getattr(recipe.method, "norm_groups", 1) // runtime.world_size)
    few, more = (_graph_bytes(method, recipe, runtime, views) for views in (least, 2 * least))
    asymmetric = isinstance(recipe.method, MoCoConfig) and not recipe.method.symmetric
    neighbours = int(os.environ.get("LOCAL_WORLD_SIZE", runtime.world_size))
    return _Host(free=free // neighbours, per_image=(more - few) / least * (1 if asymmetric else 2))


def _graph_bytes(method: Method, recipe: Recipe, runtime: Runtime, views: int) -> int:
    x = torch.zeros(views, recipe.encoder.in_channels, recipe.views.size, recipe.views.size)
    x = x.contiguous(memory_format=runtime.memory_format)
    with buffers_restored(method), runtime.autocast():
        return memory.graph_bytes(method, lambda: method.projector(method.encoder(x)))


def _refuse_or_warn(host: _Host, recipe: Recipe, images: int) -> None:
    least, gib = host.needs(images), 2**30
    step = (
        f"A step with {images} images at once in two views of {recipe.views.size} px through "
        f"{recipe.encoder.name}"
    )
    advice = (
        f"and {host.free / gib:.1f} GiB are free. Give --train.micro-batch-size auto (the same "
        "step, in pieces that fit), a smaller --batch-size, or a smaller encoder."
    )
    if least > host.free:
        raise RunError(f"{step} takes more than {least / gib:.1f} GiB of memory, {advice}")
    warnings.warn(
        f"{step} takes {least / gib:.1f} to {MARGIN * least / gib:.1f} GiB of memory, {advice}",
        stacklevel=4,
    )


def _fits(method: Method, recipe: Recipe, runtime: Runtime, images: int) -> bool:
    """Whether both views of so many images, and a tenth more, can be trained on at once."""
    size, channels = recipe.views.size, recipe.encoder.in_channels
    method.to(runtime.device)
    try:
        with buffers_restored(method):
            x = torch.zeros(2 * images + images // 5, channels, size, size, device=runtime.device)
            groups = getattr(recipe.method, "norm_groups", 1) // runtime.world_size or 1
            x = x[: len(x) // groups * groups].contiguous(memory_format=runtime.memory_format)
            with runtime.autocast():
                codes = method.projector(method.encoder(x))
            codes.float().square().sum().backward()
    except torch.OutOfMemoryError:
        return False
    finally:
        method.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
    return True
