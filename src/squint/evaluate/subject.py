"""What is evaluated: the encoder of a run, of a weights file, or of a library by name."""

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch

from squint.configs import EncoderConfig
from squint.errors import CheckpointError, RunError
from squint.evaluate import figures
from squint.evaluate.options import SubjectOptions
from squint.interop import encoder as encoder_file
from squint.interop.encoder import PretrainedEncoder
from squint.interop.weights import library_encoder
from squint.runs import Run

_WEIGHTS = (".safetensors", ".pt", ".pth", ".tar", ".ckpt", ".bin")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An encoder under test, and where its results go."""

    name: str
    """As the user wrote it."""
    title: str
    """What it is, for the head of a table: a recipe's name or an architecture's."""
    encoder: PretrainedEncoder
    run: Run | None
    """The run it is from, if it is from one."""
    checkpoint: Mapping[str, Any] | None
    """Of a run, its last checkpoint without the optimizer, read once: encoder, heads and step are
    of one moment, also while the run goes on."""
    trained: bool
    """Whether its weights are more than freshly drawn ones."""
    weights: str
    """Digest of the weights file (of a run, of its encoder.safetensors as the checkpoint makes it):
    results of other weights are other results."""
    out: Path
    """The evaluation.json."""

    @property
    def figures(self) -> Path:
        """The folder of the figures, beside it."""
        return self.out.parent / figures.FOLDER

    def described(self) -> dict[str, Any]:
        """What evaluation.json says of it."""
        step = {"step": self.checkpoint["position"]["step"]} if self.checkpoint else {}
        return {
            "run": self.name,
            "recipe": self.title,
            "encoder": self.encoder.config.name,
            "weights": self.weights,
        } | step


def open_subject(
    target: str | Path | Run, given: SubjectOptions | None = None, *, out: str | Path | None = None
) -> Subject:
    """The encoder of a run folder, of a weights file, or of a library by name.

    Results of a run go into its folder, of a weights file beside it, of a name into the current
    folder, unless `out` says otherwise.

    Args:
        target: a run folder, a weights file, timm:NAME or torchvision:NAME.
        given: what the target itself does not tell.
        out: file of the results.

    Raises:
        SquintError: files are missing or damaged, the architecture is unknown or does not fit.
    """
    given = given or SubjectOptions()
    if isinstance(target, Run):
        return _of_run(target, given, out)
    library, colon, name = str(target).partition(":")
    if colon and library in ("timm", "torchvision"):
        return _of_name(str(target), f"{library}/{name}", given, out)
    path = Path(target)
    if path.is_file() or (path.suffix.lower() in _WEIGHTS and not path.is_dir()):
        return _of_file(path, given, out)
    return _of_run(Run(path), given, out)


def _of_run(run: Run, given: SubjectOptions, out: str | Path | None) -> Subject:
    recipe = run.recipe
    if given != SubjectOptions():
        raise RunError(
            f"{run.path} is a run, which knows its encoder, input and weights: drop --encoder, "
            f"--stem, --width, --weights and --size, or give {run.encoder} as the target."
        )
    checkpoint = run.state()
    del checkpoint["optimizer"]
    weights = {
        name.removeprefix("encoder."): value.contiguous()
        for name, value in checkpoint["method"].items()
        if name.startswith("encoder.")
    }
    encoder = encoder_file.build(recipe.encoder)
    try:
        encoder.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{run.checkpoint} does not fit its recipe: {error}") from None
    return Subject(
        name=str(run.path),
        title=recipe.name,
        encoder=PretrainedEncoder(encoder, recipe.encoder, recipe.views).eval(),
        run=run,
        checkpoint=checkpoint,
        trained=True,
        weights=hashlib.sha256(safetensors.torch.save(weights)).hexdigest()[:16],
        out=_results(out, run.path),
    )


def _of_file(path: Path, given: SubjectOptions, out: str | Path | None) -> Subject:
    if not path.exists():
        raise RunError(f"There is no {path}. Give a weights file, or the folder of a run.")
    _refuse_checkpoint(path)
    if not given.encoder and not path.with_suffix(".json").exists():
        raise RunError(
            f"{path} does not say which architecture it is of, and no {path.stem}.json lies beside "
            "it. Name it: --encoder resnet50, timm/NAME or torchvision/NAME."
        )
    if given.encoder:
        encoder = library_encoder(_config(given.encoder, given), weights=path)
    else:
        encoder = encoder_file.load(path)
    encoder = _resized(encoder, given)
    return Subject(
        name=str(path),
        title=encoder.config.name,
        encoder=encoder,
        run=None,
        checkpoint=None,
        trained=True,
        weights=_digest(path) + _input(encoder),
        out=_results(out, path.parent),
    )


def _refuse_checkpoint(path: Path) -> None:
    folder = path.absolute().parent
    run = Run(folder.parent)
    if folder == run.checkpoint.parent and (run.path / "recipe.json").exists():
        raise RunError(
            f"{path} is a checkpoint of the run {run.path}, which holds more than an encoder. Give "
            f"the run, {run.path}: it is measured as its last checkpoint is."
        )


def _of_name(target: str, name: str, given: SubjectOptions, out: str | Path | None) -> Subject:
    if given.encoder:
        raise RunError(f"{target} names the architecture already: drop --encoder {given.encoder}.")
    weights = Path(given.weights) if given.weights else None
    encoder = _resized(library_encoder(_config(name, given), weights=weights), given)
    return Subject(
        name=target,
        title=f"{name}, {weights or 'random weights'}",
        encoder=encoder,
        run=None,
        checkpoint=None,
        trained=weights is not None,
        weights=f"{name} {_digest(weights) if weights else 'random'}{_input(encoder)}",
        out=_results(out, Path()),
    )


def _config(name: str, given: SubjectOptions) -> EncoderConfig:
    return EncoderConfig(name=name, stem=given.stem, width=given.width)


def _resized(encoder: PretrainedEncoder, given: SubjectOptions) -> PretrainedEncoder:
    if given.size == "own":
        return encoder
    views = encoder.views
    shown = dataclasses.replace(views.evaluation, size=given.size)
    views = dataclasses.replace(views, size=given.size, evaluation=shown)
    return PretrainedEncoder(encoder.encoder, encoder.config, views).eval()


def _input(encoder: PretrainedEncoder) -> str:
    """The same weights at another size give other results."""
    return f" at {encoder.views.evaluation.size} px"


def _results(given: str | Path | None, folder: Path) -> Path:
    out = folder / "evaluation.json" if given is None else Path(given)
    if out.is_dir() or not out.parent.is_dir():
        raise RunError(
            f"--out {out} is a folder, or is in one that does not exist. Give a file in a folder "
            "that does."
        )
    return out


def _digest(path: Path) -> str:
    """First 16 hex digits of the SHA-256 of a file.

    Raises:
        RunError: it can't be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise RunError(f"{path} can't be read ({error.strerror}).") from None
