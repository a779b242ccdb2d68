"""An encoder as a folder for the model hub, which timm loads from there or from the disk."""

import importlib
import shlex
from pathlib import Path
from typing import Any

from squint import runs
from squint.errors import RunError
from squint.interop import card, elsewhere
from squint.interop.encoder import PretrainedEncoder, write_tensors
from squint.interop.formats import HUB_FILES


def write(
    out: Path, encoder: PretrainedEncoder, model: elsewhere.Model, origin: card.Origin
) -> None:
    """Write model.safetensors, config.json and README.md into a folder, each whole or not at all.

    Raises:
        RunError: they can't be written.
    """
    try:
        out.mkdir(exist_ok=True)
    except OSError as error:
        raise RunError(
            f"--out {out} can't be created: {error.strerror or error}. Give another place."
        ) from None
    weights, config, readme = (out / name for name in HUB_FILES)
    write_tensors(weights, elsewhere.state(encoder.encoder, model))
    runs.write_json(config, _config(encoder, model))
    with runs.replacing(readme) as temporary:
        text = card.text(encoder, model, origin, lines("hf-hub:YOUR-NAME/NAME"))
        temporary.write_text(text, encoding="utf-8")


def lines(place: str) -> str:
    """Python that loads it from local-dir:FOLDER or hf-hub:OWNER/NAME."""
    return (
        "import timm\n"
        f"model = timm.create_model({place!r}, pretrained=True).eval()\n"
        "data = timm.data.resolve_model_data_config(model)\n"
        "transform = timm.data.create_transform(**data)"
    )


def notes(out: Path) -> tuple[str, ...]:
    """What is left to do."""
    name = f"YOUR-NAME/{out.resolve().name}"
    return (
        f"Read {out / 'README.md'}, choose a licence there, and upload all with: "
        f"hf upload {name} {shlex.quote(str(out))}",
        f"It is then loaded as 'hf-hub:{name}'.",
    )


def _config(encoder: PretrainedEncoder, model: elsewhere.Model) -> dict[str, Any]:
    """config.json, as timm writes it."""
    timm: Any = importlib.import_module("timm")
    made = timm.create_model(model.name, num_classes=0, **model.args).pretrained_cfg
    views, channels = encoder.views, encoder.config.in_channels
    pretrained = {
        "num_classes": 0,
        "input_size": [channels, views.evaluation.size, views.evaluation.size],
        "fixed_input_size": made.get("fixed_input_size", False),
        "interpolation": views.evaluation.interpolation,
        "crop_pct": views.evaluation.crop,
        "crop_mode": "center",
        "mean": list(views.mean),
        "std": list(views.std),
        "classifier": made.get("classifier"),
    }
    if channels == 3:  # else timm would fit the weights to what they fit already
        pretrained["first_conv"] = made.get("first_conv")
    return {
        "architecture": model.name,
        "num_classes": 0,
        "num_features": encoder.dim,
        "model_args": model.args,
        "pretrained_cfg": pretrained,
    }
