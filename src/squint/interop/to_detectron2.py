"""An encoder as detectron2's .pkl: its names, numpy arrays."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from squint import runs
from squint.interop import elsewhere
from squint.interop.encoder import PretrainedEncoder


class _Pickler(pickle.Pickler):
    """Arrays by names that every numpy has: numpy 2's own are unknown to those before 1.26."""

    def reducer_override(self, obj: Any) -> Any:
        """How an object is made again: an array of its shape, kind of number and bytes."""
        if isinstance(obj, np.ndarray):
            return np.ndarray, (obj.shape, obj.dtype.str, bytearray(obj.tobytes()))
        return NotImplemented


def write(out: Path, encoder: PretrainedEncoder) -> None:
    """Write the file, whole or not at all.

    Raises:
        RunError: it can't be written.
    """
    state = encoder.encoder.state_dict()
    content = {
        "model": {renamed(key): array_of(value) for key, value in state.items()},
        "__author__": "Squint",
        "matching_heuristics": True,
    }
    with runs.replacing(out) as temporary, temporary.open("wb") as file:
        _Pickler(file, protocol=4).dump(content)


def renamed(key: str) -> str:
    """detectron2's name of a ResNet's tensor: layer1.0.bn2.bias is res2.0.conv2.norm.bias."""
    group, *rest = key.split(".")
    if group.startswith("layer"):
        parts = [f"res{int(group.removeprefix('layer')) + 1}", *rest]
    else:
        parts = ["stem", group, *rest]
    name = ".".join(parts)
    for number in (1, 2, 3):
        name = name.replace(f".bn{number}.", f".conv{number}.norm.")
    return name.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")


def array_of(value: Tensor) -> np.ndarray:
    """A tensor as numpy's, on the CPU."""
    return value.detach().cpu().numpy()


def lines(out: Path, encoder: PretrainedEncoder) -> str:
    """Python that makes it the backbone of a detector."""
    depth, views = elsewhere.in_detectron2(encoder.config), encoder.views
    narrow = ", cfg.MODEL.RESNETS.RES2_OUT_CHANNELS" if depth in (18, 34) else ""
    mean, std = _in_bytes(views.mean), _in_bytes(views.std)
    return (
        "from detectron2.config import get_cfg\n"
        "cfg = get_cfg()\n"
        f"cfg.MODEL.WEIGHTS, cfg.MODEL.RESNETS.DEPTH{narrow} = "
        f"{str(out)!r}, {depth}{', 64' if narrow else ''}\n"
        "cfg.MODEL.RESNETS.STRIDE_IN_1X1, cfg.MODEL.RESNETS.NORM = False, 'SyncBN'\n"
        "cfg.INPUT.FORMAT, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = "
        f"'RGB', {mean}, {std}"
    )


def _in_bytes(numbers: tuple[float, ...]) -> list[float]:
    """Of three channels in 0..255, from one number or one for each in 0..1."""
    each = numbers * 3 if len(numbers) == 1 else numbers
    return [round(255 * number, 4) for number in each]
