"""What a run needs beside its folder, made from recipe and images before anything is written."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from squint import methods
from squint.data import Images
from squint.errors import CheckpointError
from squint.methods import Method
from squint.recipe import Recipe
from squint.train import optim
from squint.train.compiling import check_graphs
from squint.train.feed import Readable, check_decode
from squint.train.pieces import pieces_of
from squint.train.runtime import Runtime, seed_everything
from squint.train.schedule import Plan
from squint.train.trackers import check_trackers
from squint.views.paths import pick


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """All that a run needs beside its folder, in place and not yet trained."""

    recipe: Recipe
    images: Images
    readable: Readable
    method: Method
    optimizer: torch.optim.Optimizer
    pieces: int
    """Parts in which a batch goes through the encoder."""
    runtime: Runtime

    @property
    def count(self) -> int:
        """Images that are trained on."""
        return len(self.readable.images)

    @property
    def plan(self) -> Plan:
        """The numbers of the run."""
        return Plan.of(self.recipe, self.count)


def set_up(
    recipe: Recipe, images: Images, readable: Readable, runtime: Runtime, *, pieces_before: int = 0
) -> Setup:
    """What a recipe asks for, made; the method with its first weights.

    Before anything is written: a recipe that can't be made leaves no folder behind.
    """
    pick(recipe.train.views_path, runtime.device)  # says what is missing
    check_graphs(recipe, runtime)
    check_decode(recipe, runtime)
    check_trackers(recipe)
    seed_everything(recipe.train.seed, -1)
    method = methods.build(recipe, images=len(readable.images))
    pieces = pieces_of(method, recipe, runtime, pieces_before=pieces_before)
    runtime.place(method)
    return Setup(
        recipe=recipe,
        images=images,
        readable=readable,
        method=method,
        optimizer=optimizer_of(method, recipe),
        pieces=pieces,
        runtime=runtime,
    )


def optimizer_of(method: Method, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimizer a recipe asks for, over all that is trained in its method."""
    config = recipe.optim
    return optim.build(
        method,
        config.name,
        lr=recipe.scaled_lr,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        decay_norm_and_bias=config.decay_norm_and_bias,
        form=config.lars_form,
        trust_coefficient=config.trust_coefficient,
    )


def restore(state: Mapping[str, Any], method: Method, optimizer: torch.optim.Optimizer) -> None:
    """Load a checkpoint's weights and optimizer state.

    Raises:
        CheckpointError: they are of another recipe.
    """
    try:
        method.load_state_dict(state["method"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(
            "The checkpoint does not fit the run's recipe: recipe.json or last.pt was changed. "
            f"Restore them. ({str(error).splitlines()[-1].strip()})"
        ) from None
