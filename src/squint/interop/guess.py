"""What a weights file is, by the names and shapes in it: who saved it, and which ResNet."""

from collections.abc import Iterable, Mapping

from torch import Tensor

from squint.configs import EncoderConfig
from squint.errors import CheckpointError
from squint.interop.weights import PREFIXES, named
from squint.nn.resnet import LAYOUTS, Bottleneck

SOLO_LEARN = "solo-learn"


def origin(names: Iterable[str], prefix: str) -> str:
    """Whose checkpoint it seems to be and which part was taken, in words.

    Args:
        names: of all tensors in the file.
        prefix: what stands before the names of the encoder taken.
    """
    starts = {".".join(name.removeprefix("module.").split(".")[:3]) for name in names}
    part = prefix.removeprefix("module.").rstrip(".")
    if part == "encoder_q":
        version = " v2" if "encoder_q.fc.2" in starts else ""
        return f"MoCo{' v1' if 'encoder_q.fc.weight' in starts else version} checkpoint, {part}"
    if part == "base_encoder":
        return f"MoCo v3 checkpoint, {part}"
    if part == "_feature_blocks":
        return "VISSL checkpoint, trunk"
    if prefix == "backbone.":  # of Lightning, which puts no module. before it
        others = {start.partition(".")[0] for start in starts}
        if others & {"projection_head", "prediction_head"}:
            return f"lightly checkpoint, {part}"
        if others & {"projector", "classifier", "predictor", "momentum_backbone"}:
            return f"{SOLO_LEARN} checkpoint, {part}"
    return f"checkpoint of a training script, {part}" if part else "tensors by the network's names"


def resnet(state: Mapping[str, Tensor], file: str) -> EncoderConfig:
    """The ResNet whose names and shapes a file has.

    Raises:
        CheckpointError: it has no ResNet's. Others can't be told: ViTs of the same shapes may have
            6 heads or 12.
    """
    tensors = named(state)
    for prefix in PREFIXES:
        stem = tensors.get(f"{prefix}conv1.weight")
        if stem is None or stem.ndim != 4:
            continue
        depths = tuple(_depth(tensors, f"{prefix}layer{group}.") for group in (1, 2, 3, 4))
        bottleneck = f"{prefix}layer1.0.conv3.weight" in tensors
        for name, (block, known) in LAYOUTS.items():
            if known == depths and (block is Bottleneck) == bottleneck:
                return EncoderConfig(
                    name=name,
                    stem="cifar" if stem.shape[-1] == 3 else "imagenet",
                    width=stem.shape[0] / 64,
                    in_channels=stem.shape[1],
                )
    raise CheckpointError(
        f"{file} does not say which architecture it is of, and its names are no plain ResNet's. "
        "Name it: --encoder mocov3_vit_small, timm/NAME or torchvision/NAME."
    )


def _depth(tensors: Mapping[str, Tensor], group: str) -> int:
    """How many blocks a group has."""
    return len({n.removeprefix(group).partition(".")[0] for n in tensors if n.startswith(group)})
