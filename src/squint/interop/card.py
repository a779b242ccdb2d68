"""The model card of an encoder: what it is, what it was trained on, what was measured of it."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from squint import codec
from squint.interop import elsewhere
from squint.interop.encoder import PretrainedEncoder
from squint.runs import Run

_HEAD = """\
---
library_name: timm
pipeline_tag: image-feature-extraction
tags: [image-feature-extraction, self-supervised, squint, timm]
# license: yours to choose, with that of the images in mind
---
"""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where an encoder comes from, as far as files tell."""

    run: Run | None = None
    """The run that trained it."""
    evaluations: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """The tables of evaluation.json that are of these weights."""


def origin_of(path: Path) -> Origin:
    """What lies beside an encoder: its run, if a run wrote it, and numbers measured of it."""
    weights = path / "encoder.safetensors" if path.is_dir() else path
    run = Run(weights.parent)
    of_run = weights == run.encoder and (run.path / "recipe.json").exists()
    return Origin(
        run=run if of_run else None,
        evaluations=_tables(run, weights),
    )


def text(encoder: PretrainedEncoder, model: elsewhere.Model, origin: Origin, lines: str) -> str:
    """README.md: usage, training and results, with the protocol of each."""
    name = origin.run.recipe.name if origin.run else encoder.config.name
    parts = [
        f"# {name}, {model.name}",
        f"Features of images, {encoder.dim} numbers each, learned without labels."
        if origin.run
        else f"Features of images, {encoder.dim} numbers each.",
        _usage(encoder, lines),
        *(_results(table) for table in origin.evaluations),
        *([_training(origin.run)] if origin.run else []),
    ]
    return _HEAD + "\n" + "\n\n".join(parts) + "\n"


def _usage(encoder: PretrainedEncoder, lines: str) -> str:
    views = encoder.views
    shown = views.evaluation
    given = {  # a picture, or normalised arrays of channels that no picture has
        1: "transform(picture.convert('L'))[None]",
        3: "transform(picture.convert('RGB'))[None]",
    }.get(encoder.config.in_channels, "images[:1]")
    return (
        f"## Usage\n\n```python\n{lines}\n"
        f"features = model({given})  # (1, {encoder.dim})\n```\n\n"
        f"Input: the central square, {100 * shown.crop:.4g} % of the shorter side, resized to "
        f"{shown.size} px ({shown.interpolation}), in 0..1, less {views.mean} over {views.std}. "
        "There is no classifier: use the features for nearest neighbours or a linear probe, or "
        "fine-tune them with `num_classes=`. How well they serve images unlike those of the "
        "training is not known unless it was measured below."
    )


def _training(run: Run) -> str:
    recipe = run.recipe
    done = max((record.get("step", 0) for record in run.records()), default=0)
    facts = {
        "Method": recipe.name,
        "Images": f"{_public(run.source)}, {run.derived['images']:,}",
        "Epochs": f"{recipe.train.epochs:g}; {done:,} of {run.derived['total_steps']:,} steps done",
        "Batch": f"{recipe.train.batch_size:,} images",
        "Views": f"{recipe.views.size} px",
        "Seed": f"{recipe.train.seed}",
    }
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    whole = json.dumps(_public(codec.encode(recipe)), indent=2)
    return (
        "## Training\n\nTrained with Squint.\n\n"
        f"| | |\n|---|---|\n{rows}\n\n"
        f"<details><summary>The whole recipe</summary>\n\n```json\n{whole}\n```\n\n</details>"
    )


def _public(tree: Any) -> Any:
    """JSON values in which paths are names alone: the folders of one's disk are not for others."""
    if isinstance(tree, dict):
        return {key: _public(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_public(value) for value in tree]
    return Path(tree).name if isinstance(tree, str) and Path(tree).is_absolute() else tree


def _results(table: dict[str, Any]) -> str:
    rows = "".join(
        f"| `{name}` | {entry['value']:.4g} | {_number(entry.get('random'))} | "
        f"{str(entry['protocol']).replace('|', chr(92) + '|')} |\n"
        for name, entry in table["results"].items()
    )
    return (
        f"## Measured on {_public(table['data'])}\n\n"
        f"| result | value | random encoder | protocol |\n|---|---:|---:|---|\n{rows}"
    ).rstrip()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _tables(run: Run, weights: Path) -> list[dict[str, Any]]:
    """Those of evaluation.json that note the digest of the file, as it is or at some size."""
    tables = [run.evaluation()]
    tables += tables[0].get("others", [])
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return [table for table in tables if str(table.get("weights")).split(" at ")[0] == digest]
