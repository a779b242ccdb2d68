"""Verbs that train: demo, pretrain, resume, sweep."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from squint.cli.flags import long_names, parse
from squint.errors import RunError


def demo(arguments: list[str]) -> None:
    """SimCLR and C-SimCLR on built-in images."""
    import tyro

    @dataclass(frozen=True, kw_only=True)
    class DemoFlags:
        """Train SimCLR and C-SimCLR on built-in images and compare them; no network."""

        out: Path = Path("runs/demo")
        """Folder of the two runs."""
        epochs: float = 20.0
        """Passes over the 5,000 training images, for each run; at least 1."""
        seed: int = 0
        """Seed of every draw."""
        device: str = "auto"
        """auto, cpu, cuda, cuda:1, mps."""
        overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
        """Delete runs of other epochs, seed or device that are in --out."""

    flags = parse(DemoFlags, arguments, verb="demo")

    from squint import demo

    demo.main(
        flags.out,
        epochs=flags.epochs,
        seed=flags.seed,
        device=flags.device,
        overwrite=flags.overwrite,
    )


def pretrain(arguments: list[str]) -> None:
    """A new run."""
    import tyro

    from squint import presets
    from squint.recipe import Recipe

    arguments = with_recipe(arguments, verb="pretrain")
    name, *rest = arguments
    preset = presets.recipe(name)

    @dataclass(frozen=True, kw_only=True)
    class PretrainFlags:
        """Train a recipe on images; labels are never needed."""

        data: str
        """Images: directory, pattern, .txt list, archive, .npz, .npy, torchvision:, hf:, demo."""
        out: Path
        """Run folder to make."""
        overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
        """Delete the run that is in --out."""
        recipe: Annotated[Recipe, tyro.conf.arg(name="")] = preset

    flags = parse(PretrainFlags, long_names(rest), verb=f"pretrain {name}")

    from squint.data import open_source
    from squint.runs import check_out

    check_out(flags.out, overwrite=flags.overwrite)
    images = open_source(flags.data, channels=flags.recipe.encoder.in_channels)

    from squint.train.pretrain import pretrain

    pretrain(images, recipe=flags.recipe, out=flags.out, overwrite=flags.overwrite)


def resume(arguments: list[str]) -> None:
    """A run that stopped."""
    import tyro

    @dataclass(frozen=True)
    class ResumeFlags:
        """Continue a run exactly where it stopped."""

        run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
        """Run folder."""
        data: str = ""
        """Where the images are now, if they have moved; same content."""
        device: str = ""
        """Device, if not the one asked for when the run began."""
        max_unreadable_percent: float | Literal["unchanged"] = "unchanged"
        """Limit of unreadable images in percent, if not the one the run began with."""

    flags = parse(ResumeFlags, arguments, verb="resume")
    from squint.runs import Run

    Run(flags.run).recipe  # noqa: B018  (says at once if this is no run)

    from squint.train.pretrain import resume

    limit = flags.max_unreadable_percent
    resume(
        flags.run,
        data=flags.data or None,
        device=flags.device or None,
        max_unreadable_percent=None if limit == "unchanged" else limit,
    )


def sweep(arguments: list[str]) -> None:
    """Runs at several values of one field."""
    import tyro

    from squint import presets
    from squint.evaluate.options import Options, Protocol
    from squint.recipe import Recipe
    from squint.sweep_plan import PROTOCOLS, begin, plan

    name, *rest = with_recipe(arguments, verb="sweep", more="--over compression.beta 0 0.1 1 ")
    preset = presets.recipe(name)

    @dataclass(frozen=True, kw_only=True)
    class SweepFlags:
        """Train and measure a recipe at several values of one field; goes on where it stopped."""

        over: tuple[str, ...]
        """A field and its values, as in `--over compression.beta 0 0.1 1`; plain is a value too."""
        data: str
        """Images, with labels where they are measured."""
        out: Path
        """Folder of the sweep: a run in FIELD=VALUE,seed=S each, sweep.json, figures."""
        seeds: tuple[int, ...] = (0,)
        """Every value is trained once with each."""
        protocols: tuple[Protocol, ...] = PROTOCOLS
        """What to measure."""
        options: Annotated[Options, tyro.conf.arg(name="")] = field(default_factory=Options)
        recipe: Annotated[Recipe, tyro.conf.arg(name="")] = preset

    flags = parse(SweepFlags, long_names(rest), verb=f"sweep {name}")
    if len(flags.over) < 2:
        raise RunError(
            f"--over {' '.join(flags.over)} needs a field and at least one value, as in "
            "`--over compression.beta 0 0.1 1`."
        )

    over, *values = flags.over
    plan(flags.recipe, over=over, values=values, seeds=flags.seeds, out=flags.out)

    from squint.data import open_source

    images = open_source(flags.data, channels=flags.recipe.encoder.in_channels)
    begin(flags.out, flags.recipe, over=over, images=images)

    from squint.sweep import sweep

    sweep(
        images,
        recipe=flags.recipe,
        over=over,
        values=values,
        out=flags.out,
        seeds=flags.seeds,
        protocols=flags.protocols,
        options=flags.options,
    )
    print(f"Every number: {flags.out / 'sweep.json'}; pictures: {flags.out / 'figures'}")


def with_recipe(arguments: list[str], *, verb: str, more: str = "", out: str = "RUN") -> list[str]:
    """The arguments, which begin with a recipe; any recipe where only help is asked for."""
    if arguments and not arguments[0].startswith("-"):
        return arguments
    if not {"-h", "--help"} & set(arguments):
        raise RunError(
            f"the recipe is missing: it comes first, as in `squint {verb} simclr@tiny {more}--data "
            f"SRC --out {out}`. `squint recipes` lists them."
        )
    return ["c-simclr", "--help"] if verb == "sweep" else ["simclr", "--help"]
