"""Which recipe for these images on this device: rules of thumb, each with its reason."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from squint import presets
from squint.data.cache import LARGEST_SIDE
from squint.doctor.findings import Finding, Section, note, ok, problem
from squint.doctor.text import human_bytes
from squint.recipe import SHORT_NAMES, Recipe

FEWEST = 32
"""Images below which no recipe is suggested."""
_FEW = 1_000
_MEDIUM = 160
"""Pixels. Views of 224 px of smaller images show nothing that views of 96 px don't."""
_SMALL_BATCH = 128
"""Below it SimCLR has too few negatives."""
_QUEUE = 8_192
"""Images from which on MoCo's queue of 4,096 keys rarely holds an image twice."""
_MEBIBYTES = {"tiny": 0.25, "cifar": 4.5, "folder": 84.0, "folder-96": 15.4, "small-96": 4.2}
"""Of an image in two views, kept for SimCLR's backward pass in bfloat16; twice that in float32. As
`train.memory.graph_bytes` measured them."""
_SHARE = 0.6
"""Of the free memory, that activations may take."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What a suggestion depends on."""

    device: str
    """cpu, cuda or mps."""
    precision: str
    free_bytes: int | None
    """Of the device's memory; None where nobody says."""
    images: int
    """To train on."""
    side: int
    """Shorter side of the median image, in pixels."""
    input: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a recipe for images of other than three channels, by dotted name."""


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """A recipe, and why."""

    name: str
    """METHOD@SETTING."""
    changes: dict[str, Any]
    """Fields that differ from it, by dotted name."""
    reasons: tuple[str, ...]

    @property
    def recipe(self) -> Recipe:
        """The recipe as suggested."""
        return presets.recipe(self.name).override(self.changes)

    def command(self, data: str) -> str:
        """What to type to train it."""
        short = {path: name for name, path in SHORT_NAMES.items()}
        changes = {short.get(path, path): value for path, value in self.changes.items()}
        start = f"squint pretrain {self.name} --data {shlex.quote(data)} --out runs/first"
        return f"{start} {as_flags(changes)}".strip()


def suggest(found: Situation) -> Suggestion | None:
    """A recipe that fits; None for too few images to learn from."""
    if found.images < FEWEST:
        return None
    size, setting, changes, reasons = _setting(found)
    changes |= found.input
    preset = presets.recipe(f"simclr@{setting}")
    fits = _fitting(found, size)
    wanted = min(preset.train.batch_size, _power_of_two(found.images // 2))
    method, batch = _method(found, fits, wanted)
    if method == "moco-v2":
        reasons.append(
            f"MoCo v2: about {fits} images fit into the {_free(found)} that are free, too few to "
            "be told apart from each other; its negatives come from a queue instead"
        )
    elif batch > fits:
        changes["train.micro_batch_size"] = "auto"
        reasons.append(
            f"SimCLR in pieces: a batch of {batch} does not fit into the {_free(found)} that are "
            "free; `auto` lets it through in parts with the gradient of the whole"
        )
    else:
        reasons.append(
            f"SimCLR: a batch of {batch} fits, has {2 * batch - 2} negatives for each code, and "
            "needs neither queue nor second encoder"
        )
    if batch != preset.train.batch_size:
        changes["train.batch_size"] = batch
        if batch == _power_of_two(found.images // 2):
            reasons.append(f"A batch of {batch}: at least two steps an epoch")
    changes["train.epochs"], why = _epochs(found, setting)
    reasons.append(why)
    name = f"{method}@{setting}"
    reasons.append(
        f"c-{name} is the same with compression, and measures what the views do not share"
    )
    return Suggestion(name=name, changes=changes, reasons=tuple(reasons))


def of_suggestion(suggestion: Suggestion | None, found: Situation, data: str) -> Section:
    """A suggestion, told; of too few images, why there is none."""
    if suggestion is None:
        told = f"{found.images:,} images to train on are too few to learn from"
        advice = f"Give {FEWEST} at the very least, better thousands; labels are not needed."
        finding = problem(told, advice, prevents_training=True)
        return Section(title="Suggestion", findings=(finding,), facts=found)
    findings = [ok(reason) for reason in suggestion.reasons]
    if found.images < _FEW:
        advice = "Compare with what pretrained weights give: `squint evaluate timm:NAME`."
        told = f"{found.images:,} images are few for learning from scratch"
        findings.append(note(told, "" if found.input else advice))  # they read RGB
    findings.append(note("a rule of thumb: what is best for your images only trials can tell"))
    command = suggestion.command(data)
    return Section(
        title=f"Suggestion: {suggestion.name}",
        findings=tuple(findings),
        facts=suggestion,
        command=command,
    )


def of_recipe(name: str, recipe: Recipe, found: Situation, data: str) -> Section:
    """Whether a recipe that was asked for suits the images."""
    batch, size = recipe.train.batch_size, recipe.views.size
    findings: list[Finding] = []
    if found.images < batch:
        findings.append(
            problem(
                f"{found.images:,} images to train on are fewer than one batch of {batch}",
                f"--batch-size {_power_of_two(found.images // 2)}, or more images.",
                prevents_training=True,
            )
        )
    else:
        steps = recipe.total_steps(found.images)
        told = f"{recipe.train.epochs:g} epochs, {steps:,} steps"
        findings.append(ok(f"{told} of {batch} images each, in views of {size} px"))
    if found.side < size:
        findings.append(
            note(
                f"the median image is smaller than its views: {found.side} < {size} px",
                "@cifar and @tiny are for images of about 32 px, or set --views.size.",
            )
        )
    command = ""
    if found.images >= batch:
        command = f"squint pretrain {name} --data {shlex.quote(data)} --out runs/first"
        command = f"{command} {as_flags(found.input)}".strip()
    return Section(title=f"Recipe: {name}", findings=tuple(findings), facts=found, command=command)


def input_of(mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
    """Fields of a recipe for images of such channels, by dotted name."""
    own = {} if len(mean) == 3 else {"encoder.in_channels": len(mean)}
    shift, scale = ([round(number, 3) for number in numbers] for numbers in (mean, std))
    return own | {"views.mean": shift, "views.std": [max(number, 0.001) for number in scale]}


def as_flags(fields: Mapping[str, Any]) -> str:
    """Fields of a recipe, by dotted name, as the command line takes them."""
    flags: list[str] = []
    for path, value in fields.items():
        values = value if isinstance(value, list) else [value]
        flags.append(" ".join([f"--{path.replace('_', '-')}", *map(str, values)]))
    return " ".join(flags)


def _setting(found: Situation) -> tuple[str, str, dict[str, Any], list[str]]:
    """Key of `_MEBIBYTES`, setting, changes and reasons."""
    cpu, px = found.device == "cpu", f"{found.side} px"
    if found.side <= LARGEST_SIDE:
        name, why = ("tiny", "a narrow network for a CPU") if cpu else ("cifar", "ResNet-18")
        return name, name, {}, [f"@{name}: the median image is of {px}; {why}"]
    small = {"views.size": 96, "views.evaluation.size": 96}
    if cpu:
        why = (
            f"@folder with ResNet-18 at 96 px: images of {px} on a CPU; at 224 px a step of "
            "ResNet-50 has some twelve times as much to do"
        )
        return "small-96", "folder", {"encoder.name": "resnet18"} | small, [why]
    if found.side < _MEDIUM:
        why = f"@folder at 96 px: views of 224 px of images of {px} would be mostly interpolated"
        return "folder-96", "folder", small, [why]
    return "folder", "folder", {}, [f"@folder: images of {px}, ResNet-50 at 224 px on a GPU"]


def _method(found: Situation, fits: int, wanted: int) -> tuple[str, int]:
    """Method and batch size."""
    if fits >= min(wanted, _SMALL_BATCH):
        return "simclr", min(wanted, fits)
    return ("moco-v2", fits) if found.images >= _QUEUE and fits >= 16 else ("simclr", wanted)


def _epochs(found: Situation, setting: str) -> tuple[int, str]:
    """Passes, more for fewer images, and why."""
    few = "more for fewer images"
    if setting == "tiny":
        epochs = _round(min(400, max(10, 1.6e6 / found.images)))
        return epochs, f"{epochs} epochs: {few}, 32 for the 50,000 of CIFAR-10"
    if setting == "cifar":
        epochs = _round(min(1000, max(100, 5e7 / found.images)))
        return epochs, f"{epochs} epochs: {few}, 1000 for the 50,000 of CIFAR-10"
    cpu = found.device == "cpu"
    epochs = _round(min(200 if cpu else 800, max(100, 200 * math.sqrt(1e5 / found.images))))
    most = ", at most 200 on a CPU" * cpu
    return epochs, f"{epochs} epochs: {few}, 100 for a million{most}"


def _fitting(found: Situation, size: str) -> int:
    """Images whose two views fit into memory at once, a power of two."""
    if found.free_bytes is None:
        return 2**30
    each = _MEBIBYTES[size] * 2**20 * (1 if found.precision == "bfloat16" else 2)
    return _power_of_two(int(_SHARE * found.free_bytes / each))


def _power_of_two(most: int) -> int:
    """The largest that is not above; 1 at the least."""
    return 1 << max(0, most.bit_length() - 1)


def _round(number: float | int) -> int:
    """To two digits."""
    return int(float(f"{number:.2g}"))


def _free(found: Situation) -> str:
    return human_bytes(found.free_bytes or 0)
