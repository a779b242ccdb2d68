"""Verbs that draw images: views, neighbors."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from squint.cli.flags import long_names, parse
from squint.cli.measuring import data_of
from squint.cli.training import with_recipe


def views(arguments: list[str]) -> None:
    """What the model will be shown."""
    import tyro

    from squint import presets
    from squint.pictures.options import ViewsOptions
    from squint.recipe import Recipe

    name, *rest = with_recipe(arguments, verb="views", out="views.png")
    preset = presets.recipe(name)

    @dataclass(frozen=True, kw_only=True)
    class ViewsFlags:
        """Draw images of a source, and the pairs of views that training would show of them."""

        data: str
        """Images: directory, pattern, .txt list, archive, .npz, .npy, torchvision:, hf:, demo."""
        out: Path
        """Picture to write: .png, .jpg or .pdf."""
        overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
        """Replace the file that is at --out."""
        options: Annotated[ViewsOptions, tyro.conf.arg(name="")] = field(
            default_factory=ViewsOptions
        )
        recipe: Annotated[Recipe, tyro.conf.arg(name="")] = preset

    flags = parse(ViewsFlags, long_names(rest), verb=f"views {name}")

    from squint import files
    from squint.data import open_source
    from squint.pictures import canvas, choose

    files.check_file(flags.out, kinds=canvas.PICTURES, overwrite=flags.overwrite)
    images = open_source(flags.data, channels=flags.recipe.encoder.in_channels)
    choose.rows_of(flags.options.only, choose.training(images))

    from squint.pictures.views import draw_views

    shown = draw_views(
        images,
        recipe=flags.recipe,
        out=flags.out,
        options=flags.options,
        title=name,
        overwrite=flags.overwrite,
    )
    print(f"{flags.out}: images shown: {len(shown)}, pairs of views of each: {flags.options.pairs}")


def neighbors(arguments: list[str]) -> None:
    """Which images an encoder takes for alike."""
    import tyro

    from squint.evaluate.options import SubjectOptions
    from squint.pictures.options import NeighborsOptions

    @dataclass(frozen=True)
    class NeighborsFlags:
        """Draw the nearest neighbours of some images, by the cosine of their features."""

        target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
        """Run folder, weights file (.safetensors, .pth, .ckpt, …), timm:NAME, torchvision:NAME."""
        out: Path
        """File to write: a picture, .png, .jpg or .pdf, or a table, .csv or .json."""
        data: str = ""
        """Images to search, with or without labels, if not those it was trained on."""
        device: str = "auto"
        """auto, cpu, cuda, cuda:1, mps."""
        overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
        """Replace the file that is at --out."""
        options: Annotated[NeighborsOptions, tyro.conf.arg(name="")] = field(
            default_factory=NeighborsOptions
        )
        subject: Annotated[SubjectOptions, tyro.conf.arg(name="")] = field(
            default_factory=SubjectOptions
        )

    flags = parse(NeighborsFlags, arguments, verb="neighbors")

    from squint.data import Images
    from squint.pictures import choose, neighbors_file

    neighbors_file.check(flags.out, overwrite=flags.overwrite)
    data = data_of(flags.target, flags.data)
    if isinstance(data, Images):
        choose.queries_of(flags.options.query, data)

    from squint.pictures.neighbors import neighbors

    found = neighbors(
        flags.target,
        data=data,
        out=flags.out,
        options=flags.options,
        device=flags.device,
        subject=flags.subject,
        overwrite=flags.overwrite,
    )
    print("\n".join(neighbors_file.lines(found)))
    print(f"In {flags.out}")
