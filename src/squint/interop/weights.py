"""Weights of anyone's: a file with timm's or torchvision's key names, fitted to an architecture."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from squint.configs import EncoderConfig
from squint.errors import CheckpointError
from squint.interop.encoder import PretrainedEncoder, build
from squint.interop.inputs import own_input
from squint.views.recipes import ViewsConfig

_INSIDE = (
    *("classy_state_dict", "base_model"),  # VISSL
    *("state_dict", "model", "state_dict_ema", "model_state_dict", "trunk", "teacher"),
)
"""Where training scripts put the weights in what they save, outermost first."""
PREFIXES = (
    "",
    "module.",
    "module.encoder_q.",
    "module.base_encoder.",
    "module.backbone.",
    "module.encoder.",
    "encoder_q.",
    "base_encoder.",
    "encoder.",
    "backbone.",
    "model.",
    "_feature_blocks.",
)
"""What training scripts put before an encoder's own names."""
_PLACES = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
"""Of a torchvision ResNet's parts in `nn.Sequential(*resnet.children())`, lightly's backbone."""
_NAME_IT = "Name the architecture the weights are of with --encoder (and --stem, --width)."
_HEADS = ("fc.", "head.", "classifier.", "heads.", "head_dist.", "projector.", "predictor.")
"""What may be left over: what sits on an encoder."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What of a file an encoder took."""

    prefix: str
    """What stood before its own names."""
    loaded: int
    wanted: int
    """Tensors of the encoder; the rest are BatchNorm's counters, which nothing reads."""
    ignored: tuple[str, ...]
    """Names that are not its own, as in the file."""


def library_encoder(
    config: EncoderConfig, *, weights: Path | None = None, views: ViewsConfig | None = None
) -> PretrainedEncoder:
    """An architecture with weights of a file, or with fresh ones (seed 0), in evaluation mode.

    Args:
        config: the architecture.
        weights: a file of any library that keeps tensors by name; None leaves the weights random.
        views: its input; by default what its library trains that name on.

    Raises:
        RecipeError: the architecture is unknown.
        CheckpointError: the file can't be read, or does not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = build(config)
    if weights is not None:
        fit(encoder, read(weights), str(weights), config.name)
    return PretrainedEncoder(encoder, config, views or own_input(config)).eval()


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file by name; nothing in it is run.

    Raises:
        CheckpointError: it is missing, damaged, or holds no named tensors.
    """
    try:
        if path.suffix.lower() == ".safetensors":
            return safetensors.torch.load_file(path)
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist. Give a weights file.") from None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} can't be read as weights ({error}).") from None
    except Exception as error:
        raise CheckpointError(
            f"{path} can't be read as plain tensors ({type(error).__name__}), and code in a file "
            "is never run. Save the model's state_dict() alone, or convert it to .safetensors."
        ) from None
    for name in _INSIDE:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if isinstance(content, Mapping) and {"format", "method", "position"} <= content.keys():
        raise CheckpointError(f"{path} is a checkpoint of Squint. Give the folder of its run.")
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds no tensors by name. Save the model's state_dict().")
    found = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    if not found:
        raise CheckpointError(f"{path} holds no tensors by name. Save the model's state_dict().")
    return found


def fit(
    encoder: nn.Module,
    state: Mapping[str, Tensor],
    file: str,
    architecture: str,
    *,
    remedy: str = _NAME_IT,
) -> Fitted:
    """Load weights into an encoder; prefixes and heads of training scripts are taken off.

    Args:
        encoder: of the architecture.
        state: tensors by name.
        file: where they come from, for errors.
        architecture: its name, for errors.
        remedy: what to do where they do not fit.

    Raises:
        CheckpointError: a tensor is missing, of another shape, or left over; says which.
    """
    wanted = encoder.state_dict()
    state = named(state)
    prefix = max(PREFIXES, key=lambda p: sum(p + name in state for name in wanted))
    ours = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    counters = "num_batches_tracked"  # older files lack them, and evaluation does not read them
    missing = [k for k in wanted if k not in ours and not k.endswith(counters)]
    shapes = [
        f"{k} {tuple(ours[k].shape)} for {tuple(v.shape)}"
        for k, v in wanted.items()
        if k in ours and ours[k].shape != v.shape
    ]
    more = [k for k in ours if k not in wanted and not k.startswith(_HEADS)]
    if prefix:  # what else was trained may stand beside it; more blocks of its own may not
        parts = {name.partition(".")[0] for name in wanted}
        more = [k for k in more if k.partition(".")[0] in parts]
    problems = [
        f"{len(keys)} {what} ({', '.join(keys[:4])}{', …' if len(keys) > 4 else ''})"
        for what, keys in (
            ("missing", missing),
            ("of another shape", shapes),
            ("not in it", more),
        )
        if keys
    ]
    if problems:
        raise CheckpointError(
            f"{file} does not fit {architecture}: of {len(wanted)} tensors, {'; '.join(problems)}. "
            f"{remedy}"
        )
    encoder.load_state_dict({k: ours.get(k, v) for k, v in wanted.items()})
    loaded = {prefix + k for k in wanted if k in ours}
    ignored = tuple(k for k in state if k not in loaded)
    return Fitted(prefix=prefix, loaded=len(loaded), wanted=len(wanted), ignored=ignored)


def named(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors of a ResNet kept as a Sequential under the ResNet's own names; others as is."""
    for prefix in PREFIXES:
        if {f"{prefix}0.weight", f"{prefix}1.running_mean", f"{prefix}4.0.conv1.weight"} <= {
            *state
        }:
            parts = ((key.removeprefix(prefix).partition("."), key) for key in state)
            return {
                prefix + _PLACES.get(place, place) + dot + rest
                if key.startswith(prefix)
                else key: (state[key])
                for (place, dot, rest), key in parts
            }
    return state
