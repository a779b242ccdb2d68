"""Verbs that look at what was learned: evaluate, embed."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from squint.cli.flags import parse


def evaluate(arguments: list[str]) -> None:
    """Numbers of an encoder."""
    import tyro

    from squint.evaluate.options import Options, Protocol, SubjectOptions

    @dataclass(frozen=True)
    class EvaluateFlags:
        """Measure an encoder; writes evaluation.json and prints a table."""

        target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
        """Run folder, weights file (.safetensors, .pth, .ckpt, …), timm:NAME, torchvision:NAME."""
        data: str = ""
        """Images with labels, if not those it was trained on."""
        protocols: tuple[Protocol, ...] = ("knn", "linear")
        """What to measure."""
        device: str = "auto"
        """auto, cpu, cuda, cuda:1, mps."""
        out: str = ""
        """Where the results go; by default evaluation.json in the run's folder, beside the weights
        file, or in the current folder."""
        subject: Annotated[SubjectOptions, tyro.conf.arg(name="")] = field(
            default_factory=SubjectOptions
        )
        options: Annotated[Options, tyro.conf.arg(name="")] = field(default_factory=Options)

    flags = parse(EvaluateFlags, arguments, verb="evaluate")
    data = data_of(flags.target, flags.data)

    from squint.evaluate.protocols import measure
    from squint.evaluate.table import show

    measured = measure(
        flags.target,
        data=data,
        protocols=flags.protocols,
        device=flags.device,
        options=flags.options,
        subject=flags.subject,
        out=flags.out or None,
    )
    show(measured.table, measured.new, measured.out)


def embed(arguments: list[str]) -> None:
    """Features of every image, to a file."""
    import tyro

    from squint.evaluate.options import SubjectOptions

    @dataclass(frozen=True)
    class EmbedFlags:
        """Write the features of every image of a source, with a run's residual information."""

        target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
        """Run folder, weights file (.safetensors, .pth, .ckpt, …), timm:NAME, torchvision:NAME."""
        out: Path
        """File to write; its ending says the kind: .npz, .csv or .parquet."""
        data: str = ""
        """Images, with or without labels, if not those it was trained on."""
        device: str = "auto"
        """auto, cpu, cuda, cuda:1, mps."""
        overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
        """Replace the file that is at --out."""
        subject: Annotated[SubjectOptions, tyro.conf.arg(name="")] = field(
            default_factory=SubjectOptions
        )

    flags = parse(EmbedFlags, arguments, verb="embed")

    from squint.evaluate import embed_file

    embed_file.check(flags.out, overwrite=flags.overwrite)
    data = data_of(flags.target, flags.data)

    from squint.evaluate.embed import embed

    found = embed(
        flags.target,
        data=data,
        out=flags.out,
        device=flags.device,
        subject=flags.subject,
        overwrite=flags.overwrite,
    )
    images, width = found.features.shape
    print(f"{flags.out}: {images:,} images, {width} features each")


def data_of(target: str, data: str) -> Any:
    """The images to show a target: those of a run are opened, before torch is loaded.

    Raises:
        SquintError: the target is no run and can't be anything else, or its images can't be read.
    """
    from squint.data import open_source
    from squint.runs import Run

    path = Path(target)
    if not path.is_dir() and (":" in target or path.suffix):  # a library's name, a weights file
        return data or None
    run = Run(path)
    return open_source(data or run.source, channels=run.recipe.encoder.in_channels)
