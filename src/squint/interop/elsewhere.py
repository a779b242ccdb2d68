"""The same network in other libraries: its name and arguments there, and lines that load it."""

import importlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from squint.configs import EncoderConfig
from squint.data.decode import PICTURE_CHANNELS
from squint.nn import encoders, foreign, vit
from squint.nn.resnet import LAYOUTS
from squint.views.recipes import ViewsConfig

_PLAIN = [name for name in LAYOUTS if name != "resnet10"]
"""ResNets of ours that timm and torchvision have too, with the same key names."""
_POSITIONS = 224
"""Side in pixels of the images whose positions our ViTs keep."""
_PATCH = 16
"""Side in pixels of what they see as one token."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A network as another library makes it."""

    library: Literal["timm", "torchvision"]
    name: str
    args: dict[str, Any] = field(default_factory=dict[str, Any])
    """Arguments of its constructor beside the number of classes."""

    @property
    def own_positions(self) -> bool:
        """Whether its table of positions is another than the one an encoder of ours keeps."""
        return "img_size" in self.args


def in_timm(config: EncoderConfig, size: int) -> Model | str:
    """The network in timm for an architecture at `size` px, or a sentence why it has none."""
    library, name = encoders.library_of(config.name), _bare(config)
    args = {"in_chans": config.in_channels} if config.in_channels != 3 else {}
    if name in vit.LAYOUTS:
        if name not in vit.LINEAR_PATCHES:
            return f"timm has no ViT with MoCo v3's stem of convolutions, as {name} has."
        args |= {"num_heads": 12} | ({"img_size": size} if size != _POSITIONS else {})
        model = f"vit_{name.removeprefix('mocov3_vit_')}_patch16_224"
        return Model(library="timm", name=model, args=args)
    if reason := _other_shape("timm", config):
        return reason
    if config.name == "resnet10":
        return Model(library="timm", name="resnet18", args={"layers": (1, 1, 1, 1)} | args)
    if library == "torchvision" and name not in _PLAIN:
        return f"{name} is torchvision's, and timm has none with the same key names."
    return Model(library="timm", name=name, args=args)


def in_torchvision(config: EncoderConfig) -> Model | str:
    """The network in torchvision for an architecture, or a sentence why it has none."""
    library, name = encoders.library_of(config.name), _bare(config)
    if reason := _other_shape("torchvision", config):
        return reason
    if name not in _PLAIN and library != "torchvision":
        return f"torchvision has no {config.name}."
    if config.in_channels != 3:
        return f"torchvision's networks read 3 channels, and this one reads {config.in_channels}."
    return Model(library="torchvision", name=name)


def in_detectron2(config: EncoderConfig) -> int | str:
    """The depth of the ResNet in detectron2 for an architecture, or a sentence why it has none."""
    name = _bare(config)
    if name not in _PLAIN:
        return f"detectron2's own networks are {', '.join(_PLAIN)}; {config.name} is none of them."
    if reason := _other_shape("detectron2", config):
        return reason
    if config.in_channels != 3:
        return f"detectron2 reads 3 channels, and this encoder reads {config.in_channels}."
    return int(name.removeprefix("resnet"))


def state(encoder: nn.Module, model: Model) -> dict[str, Tensor]:
    """An encoder's tensors as the other library's network has them, its classifier apart."""
    tensors = encoder.state_dict()
    if model.own_positions:
        dim, grid = tensors["pos_embed"].shape[-1], model.args["img_size"] // _PATCH
        tensors["pos_embed"] = vit.sincos_2d(grid, grid, dim)
    return tensors


def lines(model: Model, views: ViewsConfig, file: Path) -> str:
    """Python that makes a weights file, as written, a model that gives features.

    It needs only the library. Names or shapes that do not fit are an error in it.
    """
    if file.suffix.lower() == ".safetensors":
        module, state = "safetensors.torch", f"safetensors.torch.load_file({str(file)!r})"
    else:
        module, state = "torch", f"torch.load({str(file)!r}, weights_only=True)"
    if model.library == "timm":
        args = "".join(f", {name}={value!r}" for name, value in model.args.items())
        return (
            f"import {module}, timm\n"
            f"model = timm.create_model({model.name!r}, num_classes=0{args}).eval()\n"
            f"model.load_state_dict({state})\n"
            f"{_timm_transform(views, model.args.get('in_chans', 3))}"
        )
    modules = ", ".join(dict.fromkeys((module, "torch", "torchvision")))
    return (
        f"import {modules}\n"
        "from torchvision.transforms import v2\n"
        f"model = torchvision.models.get_model({model.name!r}, weights=None).eval()\n"
        f"model.{_classifier(model.name)} = torch.nn.Identity()\n"
        f"model.load_state_dict({state})\n"
        f"{_torchvision_transform(views)}"
    )


def _bare(config: EncoderConfig) -> str:
    return config.name.rpartition("/")[2]


def _other_shape(library: str, config: EncoderConfig) -> str:
    """A sentence, if a ResNet of ours has a shape that other libraries do not give theirs."""
    stem = "the cifar stem" if config.stem == "cifar" else ""
    width = f"width {config.width:g}" if config.width != 1 else ""
    if not stem and not width:
        return ""
    shape = " and ".join(part for part in (stem, width) if part)
    said = f"{library}'s ResNets can't be made with {shape}."
    if stem and not width and config.name in _PLAIN and library != "detectron2":
        said += " (By hand they can: docs/weights.md, cifar stem.)"
    return said


def _timm_transform(views: ViewsConfig, channels: int) -> str:
    shown = views.evaluation
    if channels not in PICTURE_CHANNELS:
        shape = f"(n, {channels}, {shown.size}, {shown.size})"
        return f"# images: float32 {shape} in 0..1, less {views.mean} over {views.std}"
    return (
        f"transform = timm.data.create_transform({shown.size}, crop_pct={shown.crop!r}, "
        f"interpolation={shown.interpolation!r}, mean={views.mean}, std={views.std})"
    )


def _torchvision_transform(views: ViewsConfig) -> str:
    shown = views.evaluation
    by = f"v2.InterpolationMode.{shown.interpolation.upper()}"
    return (
        f"square = v2.Resize({round(shown.size / shown.crop)}, {by}), v2.CenterCrop({shown.size})\n"
        "scaled = v2.ToImage(), v2.ToDtype(torch.float32, scale=True)\n"
        f"transform = v2.Compose([*square, *scaled, v2.Normalize({views.mean}, {views.std})])"
    )


def _classifier(name: str) -> str:
    """Where torchvision's network keeps its classifier, as Python writes it: heads.head, fc."""
    if name in _PLAIN:
        return "fc"
    models: Any = importlib.import_module("torchvision.models")
    with torch.device("meta"):
        whole = models.get_model(name, weights=None).state_dict()
        ours = foreign.build("torchvision", name, in_channels=3).state_dict()
    (path,) = {key.rpartition(".")[0] for key in whole.keys() - ours.keys()}
    return re.sub(r"\.(\d+)", r"[\1]", path)
