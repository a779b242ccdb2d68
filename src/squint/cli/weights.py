"""Verbs that move weights between libraries: export, import."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from squint.cli.flags import parse
from squint.errors import RunError


@dataclass(frozen=True, kw_only=True)
class _Architecture:
    """What a weights file of another library does not say."""

    encoder: str = ""
    """Architecture of a weights file: resnet18, mocov3_vit_small, timm/NAME, torchvision/NAME."""
    stem: Literal["imagenet", "cifar"] = "imagenet"
    """Stem of our ResNets."""
    width: float = 1.0
    """Width of our ResNets."""
    size: int | Literal["own"] = "own"
    """Side of its input in pixels, if not the architecture's own."""


def export(arguments: list[str]) -> None:
    """An encoder for another library."""
    import tyro

    from squint.interop import formats

    @dataclass(frozen=True, kw_only=True)
    class ExportFlags(_Architecture):
        """Write an encoder in the form of another library, and print the lines that load it."""

        target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
        """Run folder, encoder.safetensors with its JSON, or a weights file and --encoder."""
        format: formats.Format
        """timm, torchvision: tensors by name. hf: a folder for the hub, which timm loads. onnx: one
        file that computes features. detectron2: the backbone of a detector."""
        out: Path
        """File to write: .safetensors or .pth (timm, torchvision), .onnx, .pkl (detectron2); for hf
        a folder."""
        overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
        """Replace what is at --out."""

    flags = parse(ExportFlags, arguments, verb="export")
    path = Path(flags.target)
    formats.check(path, flags.out, format=flags.format, overwrite=flags.overwrite)
    if flags.size != "own" and not flags.encoder:
        raise RunError(f"--size {flags.size} is of a weights file: {path} knows its own. Drop it.")
    _check_architecture(flags)

    from squint.interop.export import export

    target = _foreign(path, flags) if flags.encoder else path
    done = export(target, format=flags.format, out=flags.out, overwrite=flags.overwrite)
    print(f"{done.out}: {done.what}. Load it with:\n\n{done.lines}\n")
    for note in done.notes:
        print(note)


def import_(arguments: list[str]) -> None:
    """Weights of another library as an encoder of ours."""
    import tyro

    from squint.interop import formats

    @dataclass(frozen=True, kw_only=True)
    class ImportFlags(_Architecture):
        """Make a weights file of any library a pair, .safetensors and .json, that Squint reads."""

        file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
        """Weights of MoCo, solo-learn, lightly, VISSL, timm, torchvision, …"""
        out: Path
        """The .safetensors to write; its .json is written beside it."""
        overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
        """Replace what is at --out."""

    flags = parse(ImportFlags, arguments, verb="import")
    named = bool(flags.encoder)
    formats.check_import(flags.file, flags.out, named=named, overwrite=flags.overwrite)
    _check_architecture(flags)

    from squint.interop.importing import import_weights

    done = import_weights(
        flags.file,
        out=flags.out,
        encoder=_config(flags) if named else "guess",
        size=flags.size,
        overwrite=flags.overwrite,
    )
    config, shown = done.encoder.config, done.encoder.views.evaluation
    guessed = "" if named else ", by its names and shapes"
    print(f"{flags.file}: {done.origin}; {config.name}{_shape(config)}{guessed}")
    for line in (done.counts, *done.notes):
        print(line)
    print(f"{done.out}: {done.encoder.dim} features of images of {shown.size} px")
    print(f"Measure it with: squint evaluate {shlex.quote(str(done.out))} --data SRC")


def _check_architecture(flags: _Architecture) -> None:
    if not flags.encoder and (flags.stem, flags.width) != ("imagenet", 1.0):
        raise RunError("--stem and --width are of an architecture: name it with --encoder, too.")


def _config(flags: _Architecture) -> Any:
    from squint.configs import EncoderConfig

    return EncoderConfig(name=flags.encoder, stem=flags.stem, width=flags.width)


def _foreign(path: Path, flags: _Architecture) -> Any:
    """The encoder of a weights file of another library."""
    from squint.interop.inputs import own_input
    from squint.interop.weights import library_encoder

    config = _config(flags)
    return library_encoder(config, weights=path, views=own_input(config, size=flags.size))


def _shape(config: Any) -> str:
    """What sets one of our ResNets apart, in words."""
    stem = ", cifar stem" if config.stem == "cifar" else ""
    return stem + (f", width {config.width:g}" if config.width != 1 else "")
