"""`squint export`: an encoder in the form that another library reads."""

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from squint.errors import RecipeError
from squint.interop import card, elsewhere, formats, to_detectron2, to_hub, to_onnx
from squint.interop.encoder import PretrainedEncoder, load, write_tensors
from squint.interop.formats import Format
from squint.runs import Run


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written."""

    out: Path
    """The file, or the folder of format hf."""
    what: str
    """The network in it, in a few words."""
    lines: str
    """Python that loads it where it was written, without Squint."""
    notes: tuple[str, ...] = ()
    """What else is good to know, a sentence each."""


def export(
    target: str | Path | Run | PretrainedEncoder,
    *,
    format: Format,
    out: str | Path,
    overwrite: bool = False,
) -> Exported:
    """Write an encoder in the form of another library, whole or not at all.

    Args:
        target: a run, an encoder.safetensors with its JSON beside it, or a loaded encoder.
        format: timm and torchvision, a .safetensors or .pth of tensors by name; hf, a folder for
            the hub that timm loads; onnx, one file that computes features; detectron2, a .pkl.
        out: the file, or the folder of format hf.
        overwrite: replace what is at `out`.

    Raises:
        SquintError: the format has no such architecture, the file can't be written or is there
            already, the target is missing or damaged, or format onnx without its libraries.
    """
    out = Path(out)
    path = None
    if not isinstance(target, PretrainedEncoder):
        path = target.path if isinstance(target, Run) else Path(target)
    formats.check(path, out, format=format, overwrite=overwrite)
    encoder = target if isinstance(target, PretrainedEncoder) else load(target)
    origin = card.origin_of(path) if path is not None else card.Origin()
    if reason := _refusal(encoder, format):
        raise RecipeError(
            f"{reason} This encoder can leave as {_as_list(suitable(encoder))}; with Squint, "
            "squint.load_encoder reads it."
        )
    lines, notes = _write(encoder, format, out, origin)
    count = sum(weight.numel() for weight in encoder.parameters())
    what = f"{encoder.config.name}, {count / 1e6:.1f} M weights, {encoder.dim} features"
    return Exported(out=out, what=what, lines=lines, notes=notes)


def suitable(encoder: PretrainedEncoder) -> list[Format]:
    """The formats whose library has an encoder's architecture."""
    return [format for format in get_args(Format) if not _refusal(encoder, format)]


def _model(encoder: PretrainedEncoder, format: Format) -> elsewhere.Model | str:
    if format == "torchvision":
        return elsewhere.in_torchvision(encoder.config)
    return elsewhere.in_timm(encoder.config, encoder.views.evaluation.size)


def _refusal(encoder: PretrainedEncoder, format: Format) -> str:
    """A sentence why a format can't hold an encoder; '' if it can."""
    match format:
        case "onnx":
            return to_onnx.refusal(encoder)
        case "detectron2":
            found = elsewhere.in_detectron2(encoder.config)
        case _:
            found = _model(encoder, format)
    return found if isinstance(found, str) else ""


def _write(
    encoder: PretrainedEncoder, format: Format, out: Path, origin: card.Origin
) -> tuple[str, tuple[str, ...]]:
    """Write an encoder that a format can hold; gives the lines that load it, and notes."""
    if format == "onnx":
        said = to_onnx.write(out, encoder)
        return to_onnx.lines(out, encoder), (said,)
    if format == "detectron2":
        to_detectron2.write(out, encoder)
        return to_detectron2.lines(out, encoder), ()
    model = _model(encoder, format)
    assert isinstance(model, elsewhere.Model), model
    if format == "hf":
        to_hub.write(out, encoder, model, origin)
        return to_hub.lines(f"local-dir:{out}"), to_hub.notes(out)
    write_tensors(out, elsewhere.state(encoder.encoder, model))
    return elsewhere.lines(model, encoder.views, out), ()


def _as_list(formats: list[Format]) -> str:
    return ", ".join(f"--format {format}" for format in formats)
