"""A run small enough for tests: 96 noise pictures, a ResNet-10 of 8 channels, 6 steps an epoch."""

from pathlib import Path

import numpy as np
import torch

from squint import presets
from squint.configs import MoCoConfig
from squint.ops import gather
from squint.recipe import Recipe
from squint.runs import Run
from squint.train.runtime import Runtime

IMAGES, BATCH = 96, 16


def source(folder: Path) -> str:
    """Noise pictures of 16 px with labels, as a .npz; returns its path."""
    rng = np.random.default_rng(0)
    path = folder / "noise.npz"
    pixels = rng.integers(0, 256, (IMAGES, 16, 16, 3), dtype=np.uint8)
    np.savez(path, images=pixels, labels=np.arange(IMAGES) % 4)
    return str(path)


def recipe(name: str = "c-simclr", **changes: object) -> Recipe:
    """Two epochs at most, every random part switched on; fields by dotted name."""
    tiny = presets.recipe(f"{name}@tiny")
    heads = {
        f"method.{head}.hidden_dim": 16
        for head in ("projector", "predictor")
        if hasattr(tiny.method, head)
    }
    if isinstance(tiny.method, MoCoConfig):
        heads |= {"method.queue_size": 40, "method.norm_groups": 2}
    return tiny.override(
        heads
        | {
            "encoder.width": 0.125,
            "method.projector.out_dim": 8,
            "optim.warmup_epochs": 0.5,
            "train.epochs": 1.0,
            "train.batch_size": BATCH,
            "train.precision": "float32",
            "train.device": "cpu",
            "train.log_every_steps": 1,
            "train.knn_every_epochs": 0,
        }
        | {name.replace("__", "."): value for name, value in changes.items()}
    )


def runtime(device: str = "cpu") -> Runtime:
    """This rank's, in float32."""
    return Runtime(
        rank=gather.rank(),
        world_size=gather.world_size(),
        device=torch.device(device),
        precision="float32",
        channels_last=False,
    )


def weights(run: Run) -> dict[str, torch.Tensor]:
    """Every tensor of the last checkpoint: weights, buffers and optimizer state, by name."""
    state = run.state()
    found = {f"method.{name}": value for name, value in state["method"].items()}
    for number, entry in state["optimizer"]["state"].items():
        found |= {f"optimizer.{number}.{name}": value for name, value in entry.items()}
    return {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}


def assert_same_bits(first: Run, second: Run) -> None:
    """Two runs ended with the same bits everywhere."""
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert not different, f"{len(different)} of {len(ours)} tensors differ, first {different[0]}"


def curve(run: Run) -> list[tuple[int, float]]:
    """Loss at every step."""
    return [(record["step"], record["loss"]) for record in run.records() if "loss" in record]
