"""The trained encoder as a pair of files: weights in safetensors, the rest in JSON.

Key names are those of timm and torchvision, so both load the file without us:
`model.load_state_dict(safetensors.torch.load_file(path), strict=False)` misses the classifier
and nothing else. `encoder.json` says what to feed it and how to load it.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from jaxtyping import UInt8
from PIL import Image as PILImage
from safetensors import SafetensorError
from torch import Tensor, nn

from squint import codec, earlier, runs
from squint.configs import EncoderConfig
from squint.data import decode
from squint.errors import CheckpointError, DataError, RecipeError
from squint.interop import elsewhere
from squint.nn import encoders
from squint.recipe import Recipe
from squint.runs import Run
from squint.shapes import Features
from squint.views.recipes import ViewsConfig
from squint.views.two_views import EvaluationView

_PAIR = (
    "An encoder is a pair of files, encoder.safetensors and encoder.json; a run writes both with "
    "its first checkpoint, and `squint import FILE --out …` makes such a pair of weights of other "
    "origin."
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
            f"over the deviation ({std}). Stack what encoder.transform gives of each image, a "
            "single one with [None], or scale and normalise the batch."
        )

    def transform(self, image: PILImage.Image | np.ndarray) -> Tensor:
        """One picture as the encoder's input (c, h, w): oriented, cropped, resized, normalised.

        Args:
            image: a PIL picture, or its pixels, uint8 or uint16 (h, w, c), of any c.

        Raises:
            DataError: it can't be read as this encoder's channels.
        """
        pixels = _pixels(image, self.config.in_channels)  # (h, w, c)
        tensor = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)  # (c, h, w)
        return EvaluationView(self.views)(tensor)


def _pixels(image: PILImage.Image | np.ndarray, channels: int) -> UInt8[np.ndarray, "h w c"]:
    if isinstance(image, np.ndarray):
        if image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3):
            raise DataError(
                f"The array is {image.dtype} of shape {image.shape}; one image is uint8 or uint16, "
                f"(h, w, {channels}). Convert it, or give images one by one."
            )
        return decode.decode(image, channels)
    if channels not in decode.PICTURE_CHANNELS:
        raise DataError(
            f"This encoder reads images of {channels} channels, and a PIL picture is grey or RGB. "
            f"Give an array, uint8 or uint16, (h, w, {channels})."
        )
    return decode.from_pil(image, channels)


def save(folder: Path, encoder: nn.Module, recipe: Recipe) -> None:
    """Write encoder.safetensors and encoder.json into `folder`, each whole or not at all.

    Raises:
        RunError: the files can't be written.
    """
    save_pair(folder / "encoder.safetensors", encoder, recipe.encoder, recipe.views)


def save_pair(path: Path, encoder: nn.Module, config: EncoderConfig, views: ViewsConfig) -> None:
    """Write an encoder to `path`, and its JSON beside it, each whole or not at all.

    Raises:
        RunError: the files can't be written.
    """
    write_tensors(path, encoder.state_dict())
    card = {
        "architecture": codec.encode(config),
        "feature_dim": encoder.dim,
        "input": input_of(config, views),
        "views": codec.encode(views),
        "load": _recipe_for_loading(config, views, Path(path.name)),
    }
    runs.write_json(path.with_suffix(".json"), card)


def write_tensors(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write tensors by name, whole or not at all; with torch's own form if `path` ends in .pth.

    Raises:
        RunError: the file can't be written.
    """
    plain = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    with runs.replacing(path) as temporary:
        if path.suffix.lower() == ".pth":
            try:
                with temporary.open("wb") as file:
                    torch.save(plain, file)
            except RuntimeError as error:  # torch's name for a full disk
                raise OSError(f"no space left, or the disk failed ({error})") from error
            return
        try:
            safetensors.torch.save_file(plain, temporary)
        except SafetensorError as error:  # its own name for a full disk
            raise OSError(str(error)) from error


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


def input_of(config: EncoderConfig, views: ViewsConfig) -> dict[str, Any]:
    """What an encoder reads, in words and numbers that JSON can hold."""
    return {
        "channels": config.in_channels,
        "size": views.evaluation.size,
        "crop": views.evaluation.crop,
        "interpolation": views.evaluation.interpolation,
        "range": [0.0, 1.0],
        "mean": list(views.mean),
        "std": list(views.std),
    }


def _recipe_for_loading(config: EncoderConfig, views: ViewsConfig, file: Path) -> dict[str, str]:
    """Python that makes the file where it lies a model that gives features, by library."""
    found = {"squint": f"import squint\nencoder = squint.load_encoder({str(file)!r})"}
    for model in (
        elsewhere.in_timm(config, views.evaluation.size),
        elsewhere.in_torchvision(config),
    ):
        if isinstance(model, elsewhere.Model) and not model.own_positions:
            found[model.library] = elsewhere.lines(model, views, file)
    return found
