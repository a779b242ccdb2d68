"""Recipes of earlier versions: the fields that came later, and what was done before they existed.

Whoever adds a field to a recipe adds a line here, so that older runs can be resumed and evaluated.
A field that is missing for any other reason stays an error.
"""

import types
from collections.abc import Mapping
from typing import Any, TypeVar

from squint import codec
from squint.configs import (
    CEBConfig,
    EncoderConfig,
    OptimConfig,
    ProjectorConfig,
    SimCLRConfig,
    TrainConfig,
)
from squint.views.recipes import View, ViewsConfig

ADDED: Mapping[type, Mapping[str, Any]] = types.MappingProxyType(
    {
        EncoderConfig: {"zero_init_residual": True, "init": "simclr", "freeze_patch": True},
        SimCLRConfig: {"directions": "mean"},
        ProjectorConfig: {"bias": False, "output_bias": False, "hidden_norm": True},
        View: {"gray_before_jitter": False},
        ViewsConfig: {"exact": True},
        OptimConfig: {"lars_form": "simclr", "trust_coefficient": 1e-3, "decay_epochs": ()},
        TrainConfig: {
            "micro_batch_size": "off",
            "views_path": "auto",
            "compile": "off",
            "decode": "workers",
            "step_count": "whole_epochs",
            "health_every_steps": 0,
            "initial_weights": "random",
            "trackers": (),
        },
        CEBConfig: {"target_rate_nats": "off", "kappa_e_range": "off"},
    }
)
"""Fields since the first recipe was written, by their group, with the value before each existed."""

Group = TypeVar("Group")


def decode(kind: type[Group], tree: Mapping[str, Any], path: str = "") -> tuple[Group, list[str]]:
    """A group of fields written by this or an earlier version, and what had to be filled in.

    Args:
        kind: the dataclass.
        tree: as it was written.
        path: dotted name of the group, for errors.

    Returns:
        The instance, and "dotted.name=value" of every field that the tree lacked.

    Raises:
        RecipeError: an unknown or ill-typed field, or a missing one that was always there.
    """
    value = codec.decode(kind, tree, path, added=ADDED)
    given = codec.leaves(tree)
    found = codec.leaves(codec.encode(value))
    return value, [f"{name}={found[name]}" for name in found if name not in given]
