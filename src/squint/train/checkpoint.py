"""Checkpoints: everything a run needs to go on bit for bit, written atomically.

Order, views, noise and learning rate are functions of (seed, step), so a checkpoint holds
weights, buffers, optimizer state and the step, and nothing else exists to be saved.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from squint import runs
from squint.recipe import Recipe, to_dict


class Position(NamedTuple):
    """How far a run has come, and on what it depends beside the recipe."""

    step: int
    """Optimizer steps done."""
    images: int
    """Readable images in the source; the order depends on their number."""
    fingerprint: str
    """Identity of the source's content."""
    precision: str
    """float32 or bfloat16, as resolved when the run began."""
    pieces: int = 0
    """In which a batch goes through the encoder, likewise; 0: an earlier version did not say."""


def save(
    path: Path,
    method: nn.Module,
    optimizer: torch.optim.Optimizer,
    position: Position,
    recipe: Recipe,
) -> None:
    """Write a checkpoint; readers see the old one or the new one, never a part.

    Raises:
        RunError: it can't be written; the old checkpoint is unharmed.
    """
    state = {
        "format": runs.FORMAT,
        "position": position._asdict(),
        "recipe": json.dumps(to_dict(recipe)),
        "method": method.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    with runs.replacing(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # torch's zip writer hides a full disk behind its own error
            raise OSError(f"no space left, or the disk failed ({error})") from error


def position_of(state: Mapping[str, Any]) -> Position:
    """How far the run of this checkpoint had come."""
    return Position(**state["position"])
