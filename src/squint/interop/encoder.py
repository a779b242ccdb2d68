"""The trained encoder as a pair of files: weights in safetensors, the rest in JSON.

Key names are those of timm and torchvision, so both load the file without us:
`model.load_state_dict(safetensors.torch.load_file(path), strict=False)` misses the classifier
and nothing else. `encoder.json` says what to feed it and how to load it.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from PIL import Image as PILImage
from safetensors import SafetensorError
from torch import Tensor, nn

from squint import codec, earlier, runs
from squint.configs import EncoderConfig
from squint.data import decode
from squint.errors import CheckpointError, DataError, RecipeError
from squint.nn import encoders
from squint.recipe import Recipe
from squint.runs import Run
from squint.shapes import Features
from squint.views.recipes import ViewsConfig
from squint.views.two_views import EvaluationView

_PAIR = (
    "An encoder is a pair of files, encoder.safetensors and encoder.json; a run writes both with "
    "its first checkpoint. Weights of other origin are for `squint evaluate FILE --encoder NAME`."
)


class PretrainedEncoder(nn.Module):
    """An encoder with the input it was trained on.

    `transform` turns one picture into an input; the module turns a batch of them into
    features. `dim` is the feature width f.

        batch = torch.stack([encoder.transform(picture) for picture in pictures])
        features = encoder(batch)  # (n, f)
    """

    def __init__(self, encoder: encoders.Encoder, config: EncoderConfig, views: ViewsConfig):
        super().__init__()
        self.encoder = encoder
        self.config = config
        self.views = views
        self.dim = encoder.dim

    def forward(self, images: Tensor) -> Features:
        """Features of images in the recipe's normalisation, (n, c, h, w) -> (n, f).

        Args:
            images: floating-point; what `transform` gives, stacked, or batches of one's own,
                scaled to 0..1, less `views.mean` over `views.std`.

        Raises:
            DataError: another dtype or shape.
        """
        self._check(images)
        return self.encoder(images)

    def _check(self, images: Tensor) -> None:
        """Refuse what can't be a batch of normalised images, by dtype and shape alone."""
        channels = self.config.in_channels
        if images.is_floating_point() and images.ndim == 4 and images.shape[1] == channels:
            return
        mean, std = (
            ", ".join(f"{number:g}" for number in numbers)
            for numbers in (self.views.mean, self.views.std)
        )
        raise DataError(
            f"The encoder was given {images.dtype} of shape {tuple(images.shape)}; it reads "
            f"floating-point images (n, {channels}, h, w), scaled to 0..1, less the mean ({mean}), "
            f"over the deviation ({std}). Stack what encoder.transform gives of each PIL image, a "
            "single one with [None], or scale and normalise the batch."
        )

    def transform(self, image: PILImage.Image) -> Tensor:
        """One picture as the encoder's input (c, h, w): oriented, cropped, resized, normalised.

        Raises:
            DataError: the picture can't be read as this encoder's channels.
        """
        pixels = decode.from_pil(image, self.config.in_channels)  # (h, w, c)
        tensor = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)  # (c, h, w)
        return EvaluationView(self.views)(tensor)


def save(folder: Path, encoder: nn.Module, recipe: Recipe) -> None:
    """Write encoder.safetensors and encoder.json into `folder`, each whole or not at all.

    Raises:
        RunError: the files can't be written.
    """
    state = {
        name: value.detach().cpu().contiguous() for name, value in encoder.state_dict().items()
    }
    with runs.replacing(folder / "encoder.safetensors") as temporary:
        try:
            safetensors.torch.save_file(state, temporary)
        except SafetensorError as error:  # its own name for a full disk
            raise OSError(str(error)) from error
    runs.write_json(folder / "encoder.json", _card(encoder, recipe))


def load(path: str | Path | Run) -> PretrainedEncoder:
    """The encoder of a run folder, or of an encoder.safetensors with its JSON beside it.

    Returned in evaluation mode, on the CPU. It reads batches (n, c, h, w) of what its `transform`
    gives of a PIL image; see `PretrainedEncoder`.

    Raises:
        CheckpointError: a file is missing or damaged, or weights and architecture do not fit.
    """
    path = path.path if isinstance(path, Run) else Path(path)
    weights = path / "encoder.safetensors" if path.is_dir() else path
    card_path = weights.with_suffix(".json")
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
        state = safetensors.torch.load_file(weights)
    except FileNotFoundError as error:
        raise CheckpointError(f"{error.filename or weights} does not exist. {_PAIR}") from None
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{weights} can't be read as an encoder ({error}). {_PAIR}") from None
    try:
        config, _ = earlier.decode(EncoderConfig, card["architecture"], "architecture")
        views, _ = earlier.decode(ViewsConfig, card["views"], "views")
    except (KeyError, TypeError, RecipeError) as error:
        raise CheckpointError(
            f"{card_path} does not describe an encoder of Squint ({error}). {_PAIR}"
        ) from None
    encoder = build(config)
    try:
        encoder.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{weights} does not fit {config.name}: {error}") from None
    return PretrainedEncoder(encoder, config, views).eval()


def build(config: EncoderConfig) -> encoders.Encoder:
    """The architecture with fresh weights, drawn from torch's default generator."""
    return encoders.build(**dataclasses.asdict(config))


def _card(encoder: nn.Module, recipe: Recipe) -> dict[str, Any]:
    """What encoder.json says: architecture, input, and how to load the weights."""
    views = recipe.views
    return {
        "architecture": codec.encode(recipe.encoder),
        "feature_dim": encoder.dim,
        "input": {
            "channels": recipe.encoder.in_channels,
            "size": views.evaluation.size,
            "crop": views.evaluation.crop,
            "interpolation": views.evaluation.interpolation,
            "range": [0.0, 1.0],
            "mean": list(views.mean),
            "std": list(views.std),
        },
        "views": codec.encode(views),
        "load": _recipe_for_loading(recipe.encoder, views.evaluation.size),
    }


def _recipe_for_loading(config: EncoderConfig, side: int) -> dict[str, str]:
    """Python that makes the file where it lies a model that gives features, by library.

    Wrong keys are an error in each.
    """
    lines = {"squint": "import squint\nencoder = squint.load_encoder('encoder.safetensors')"}
    library = encoders.library_of(config.name)
    name = config.name.rpartition("/")[2]
    state = "safetensors.torch.load_file('encoder.safetensors')"
    channels = f", in_chans={config.in_channels}" if config.in_channels != 3 else ""

    def timm(model: str) -> str:
        return (
            "import safetensors.torch, timm\n"
            f"model = timm.create_model({model}, num_classes=0{channels})\n"
            f"model.load_state_dict({state})\n"
            "model.eval()"
        )

    if library == "squint" and name.startswith("mocov3_vit"):
        # timm has no such stem, and no positions but those of the file, which are of 224 px
        if "conv" not in name and side == 224:
            size = name.removeprefix("mocov3_vit_")
            lines["timm"] = timm(f"'vit_{size}_patch16_224', num_heads=12")
        return lines
    plain = config.stem == "imagenet" and config.width == 1.0 and name != "resnet10"
    if plain and library in ("squint", "timm"):
        lines["timm"] = timm(f"'{name}'")
    if plain and config.in_channels == 3 and library in ("squint", "torchvision"):
        lines["torchvision"] = (
            "import safetensors.torch, torch, torchvision\n"
            f"model = torchvision.models.get_model('{name}', weights=None)\n"
            f"keys = model.load_state_dict({state}, strict=False)\n"
            "missing = {key.rpartition('.')[0] for key in keys.missing_keys}\n"
            "assert not keys.unexpected_keys and len(missing) == 1  # its classifier\n"
            "model.set_submodule(*missing, torch.nn.Identity())\n"
            "model.eval()"
        )
    return lines
