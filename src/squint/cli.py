"""The command line: verbs to functions. The only place that knows tyro.

Over 300 lines because every verb has its flags here, with the sentences of `--help`. torch is
imported inside the verbs, after flags, recipe, source and --out have been looked at: a
typing mistake is answered at once.
"""

import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from squint.errors import RecipeError, RunError, SquintError

USAGE = """\
squint: learn image representations without labels, compress them, measure what is left

  squint demo                                           SimCLR and C-SimCLR on built-in images
  squint pretrain RECIPE --data SRC --out RUN [FLAGS]   train; Ctrl-C saves and says how to go on
  squint resume RUN                                     continue exactly where it stopped
  squint sweep RECIPE --over FIELD VALUES --data SRC --out DIR   train at each value, compare
  squint evaluate RUN [--data SRC] [--protocols ...]    kNN, probes, few labels, compression, …
  squint embed RUN --data SRC --out F.npz|.csv|.parquet features, labels, residual information
  squint pack --data SRC --out DIR                      small copy of large images, loads faster
  squint recipes [NAME]                                 list the recipes, or show one in full

RECIPE is METHOD[@SETTING], for example c-simclr@tiny; METHOD is simclr, moco-v1, moco-v2, moco-v3
or byol, with c- in front when compressed.
SRC is a directory, a 'photos/*.jpg' pattern, a .txt list, .tar, .tar.gz, .zip, .npz, .npy,
torchvision:NAME, or demo.
`--epochs --batch-size --lr --seed --device --workers` are short for `--train.epochs` and so on
(`--optim.lr`). `squint VERB --help` lists the flags of a verb, `squint pretrain RECIPE --help`
those of that recipe: queue, target, compression, …"""

USER_ERROR = 2
"""Exit status when the user can mend it."""

_DISK_SAYS_NO = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENAMETOOLONG, errno.ELOOP),
)
"""Full, not ours to write, or no name a file can have: the user's to mend. Any other OSError is a
mistake of ours."""

Flags = TypeVar("Flags")


def entry() -> None:
    """The `squint` command."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run one verb; returns the exit status: 0, 2 for the user's mistakes, 130 for Ctrl-C."""
    verbs: dict[str, Callable[[list[str]], None]] = {
        "demo": _demo,
        "pretrain": _pretrain,
        "resume": _resume,
        "sweep": _sweep,
        "evaluate": _evaluate,
        "embed": _embed,
        "pack": _pack,
        "recipes": _recipes,
    }
    known = tuple(verbs)
    verbs |= dict.fromkeys(("-h", "--help", "help"), _usage) | {"--version": _version}
    verb, *rest = arguments or ["--help"]
    try:
        if verb not in verbs:
            raise RunError(f"{verb!r} is not a verb: it must be one of {', '.join(known)}.")
        verbs[verb](rest)
        sys.stdout.flush()  # what can't be written is known here, not at exit
    except SquintError as error:
        print(f"squint {verb}: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt as interrupt:
        print(f"\nsquint {verb}: {str(interrupt) or 'stopped'}", file=sys.stderr)
        return 128 + getattr(interrupt, "signal", signal.SIGINT)
    except BrokenPipeError:  # the reader has seen enough: `squint recipes | head`
        _drop_output()
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno not in _DISK_SAYS_NO:
            raise
        if not error.filename:  # it was standard output
            _drop_output()
        where = f": {error.filename}" if error.filename else ""
        print(
            f"squint {verb}: {error.strerror}{where}. Make room, change permissions, or give "
            "another place.",
            file=sys.stderr,
        )
        return USER_ERROR
    except SystemExit as done:  # tyro has printed help (0) or what is wrong with a flag (2)
        return int(done.code or 0)
    return 0


def _drop_output() -> None:
    """Let what Python still wants to write to standard output at exit go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage(_: list[str]) -> None:
    print(USAGE)


def _version(_: list[str]) -> None:
    from squint import __version__

    print(f"squint {__version__}")


def _demo(arguments: list[str]) -> None:
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

    flags = _parse(DemoFlags, arguments, verb="demo")

    from squint import demo

    demo.main(
        flags.out,
        epochs=flags.epochs,
        seed=flags.seed,
        device=flags.device,
        overwrite=flags.overwrite,
    )


def _pretrain(arguments: list[str]) -> None:
    import tyro

    from squint import presets
    from squint.recipe import Recipe

    arguments = _with_recipe(arguments, verb="pretrain")
    name, *rest = arguments
    preset = presets.recipe(name)

    @dataclass(frozen=True, kw_only=True)
    class PretrainFlags:
        """Train a recipe on images; labels are never needed."""

        data: str
        """Images: directory, .txt list, .tar, .tar.gz, .zip, .npz, .npy, torchvision:NAME, demo."""
        out: Path
        """Run folder to make."""
        overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
        """Delete the run that is in --out."""
        recipe: Annotated[Recipe, tyro.conf.arg(name="")] = preset

    flags = _parse(PretrainFlags, _long_names(rest), verb=f"pretrain {name}")

    from squint.data import open_source
    from squint.runs import check_out

    check_out(flags.out, overwrite=flags.overwrite)
    images = open_source(flags.data, channels=flags.recipe.encoder.in_channels)

    from squint.train.pretrain import pretrain

    pretrain(images, recipe=flags.recipe, out=flags.out, overwrite=flags.overwrite)


def _sweep(arguments: list[str]) -> None:
    import tyro

    from squint import presets
    from squint.evaluate.options import Options, Protocol
    from squint.recipe import Recipe
    from squint.sweep_plan import PROTOCOLS, begin, plan

    name, *rest = _with_recipe(arguments, verb="sweep", more="--over compression.beta 0 0.1 1 ")
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

    flags = _parse(SweepFlags, _long_names(rest), verb=f"sweep {name}")
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


def _with_recipe(arguments: list[str], *, verb: str, more: str = "") -> list[str]:
    """The arguments, which begin with a recipe; any recipe where only help is asked for."""
    if arguments and not arguments[0].startswith("-"):
        return arguments
    if not {"-h", "--help"} & set(arguments):
        raise RunError(
            f"the recipe is missing: it comes first, as in `squint {verb} simclr@tiny {more}--data "
            "SRC --out RUN`. `squint recipes` lists them."
        )
    return ["c-simclr", "--help"] if verb == "sweep" else ["simclr", "--help"]


def _resume(arguments: list[str]) -> None:
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

    flags = _parse(ResumeFlags, arguments, verb="resume")
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


def _evaluate(arguments: list[str]) -> None:
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
        subject: Annotated[SubjectOptions, tyro.conf.arg(name="")] = field(
            default_factory=SubjectOptions
        )
        options: Annotated[Options, tyro.conf.arg(name="")] = field(default_factory=Options)

    flags = _parse(EvaluateFlags, arguments, verb="evaluate")
    data = _data_of(flags.target, flags.data)

    from squint.evaluate.protocols import measure
    from squint.evaluate.table import show

    measured = measure(
        flags.target,
        data=data,
        protocols=flags.protocols,
        device=flags.device,
        options=flags.options,
        subject=flags.subject,
    )
    show(measured.table, measured.new, measured.out)


def _data_of(target: str, data: str) -> Any:
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


def _embed(arguments: list[str]) -> None:
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
        encoder: str = ""
        """Architecture of a weights file: resnet18, timm/NAME, torchvision/NAME."""
        stem: Literal["imagenet", "cifar"] = "imagenet"
        """Stem of our ResNets."""
        width: float = 1.0
        """Width of our ResNets."""
        weights: str = ""
        """Weights file for timm:NAME or torchvision:NAME; without one the weights are random."""
        size: int | Literal["own"] = "own"
        """Side of the input in pixels, if not the architecture's own."""

    flags = _parse(EmbedFlags, arguments, verb="embed")
    options = {
        name: getattr(flags, name) for name in ("encoder", "stem", "width", "weights", "size")
    }
    subject = SubjectOptions(**options)

    from squint.evaluate import embed_file

    embed_file.check(flags.out, overwrite=flags.overwrite)
    data = _data_of(flags.target, flags.data)

    from squint.evaluate.embed import embed

    found = embed(
        flags.target,
        data=data,
        out=flags.out,
        device=flags.device,
        subject=subject,
        overwrite=flags.overwrite,
    )
    images, width = found.features.shape
    print(f"{flags.out}: {images:,} images, {width} features each")


def _pack(arguments: list[str]) -> None:
    @dataclass(frozen=True, kw_only=True)
    class PackFlags:
        """Write a small copy of a source, a folder of JPEG files that trains like the original."""

        data: str
        """Images: directory, .txt list, .tar, .tar.gz, .zip, .npz, .npy, torchvision:NAME, demo."""
        out: Path
        """Folder to make; nothing is overwritten."""
        side: int = 256
        """Pixels that the shorter side is reduced to; smaller images keep their size."""
        quality: int = 90
        """Of the JPEG files, 1 to 95."""
        workers: int = os.cpu_count() or 1
        """Threads."""

    flags = _parse(PackFlags, arguments, verb="pack")
    from squint.data import open_source
    from squint.data.copy import UNREADABLE, copy

    images = open_source(flags.data)
    if Path(flags.data).resolve() in flags.out.resolve().parents:
        raise RunError(
            f"--out {flags.out} lies inside --data {flags.data}, which would then hold every image "
            "twice. Give a folder outside."
        )
    options = {"side": flags.side, "quality": flags.quality, "workers": flags.workers}
    bads = copy(images, flags.out, **options)
    left_out = f"; {len(bads):,} unreadable, see {flags.out / UNREADABLE}" if bads else ""
    print(f"{len(images) - len(bads):,} images in {flags.out}{left_out}")
    print(f"Train on them with --data {flags.out}")


def _recipes(arguments: list[str]) -> None:
    from textwrap import fill

    import tyro

    @dataclass(frozen=True)
    class RecipesFlags:
        """List the recipes, or show one in full with its source and expected result."""

        name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]")] = ""
        """METHOD[@SETTING]; without one, all are listed."""

    flags = _parse(RecipesFlags, arguments, verb="recipes")
    from squint import presets
    from squint.recipe import leaves

    if flags.name:
        preset = presets.load(flags.name)
        rows = [(f"--{_flag(path)}", _text(value)) for path, value in leaves(preset.recipe).items()]
        width = max(len(flag) for flag, _ in rows)
        print("\n".join(f"{flag:{width}}  {value}" for flag, value in rows))
        print()
        for title, text in (("source", preset.source), ("expected", preset.expected)):
            print(fill(f"{title:8}  {text}", 100, subsequent_indent=" " * 10))
        return
    print("\n".join(_table()))
    print("\n`squint recipes NAME` shows one in full, with its source and the result to expect.")


def _table() -> list[str]:
    """All recipes as lines of at most 100 columns, under the settings they belong to."""
    import re
    from textwrap import shorten

    from squint import presets

    heads = ("recipe", "encoder", "px", "epochs", "batch", "optimizer, lr", "expected")
    row = "  {:25} {:16} {:>3} {:>6} {:>5}  {:12} {:24}"
    lines = [row.format(*heads).rstrip()]
    setting = ""
    for name in presets.names():
        if setting != (setting := name.partition("@")[2]):
            lines += ["", f"{setting}: {presets.SETTINGS[setting]}"]
        recipe, _, expected = presets.load(name)
        cells = (
            name,
            recipe.encoder.name,
            recipe.views.size,
            f"{recipe.train.epochs:g}",
            recipe.train.batch_size,
            f"{recipe.optim.name:5} {recipe.scaled_lr:g}",
            shorten(re.split("[;,]", expected)[0], 24, placeholder=" …"),
        )
        lines.append(row.format(*cells).rstrip())
    return lines


def _parse(kind: type[Flags], arguments: Sequence[str], *, verb: str) -> Flags:
    """Flags as a dataclass; prints help or a message about a wrong flag, and exits."""
    import tyro

    if not {"-h", "--help"} & set(arguments):
        _check_flags(_flags_of(kind), arguments, verb)
    config = (tyro.conf.AvoidSubcommands,)
    try:
        return tyro.cli(kind, args=list(arguments), prog=f"squint {verb}", config=config)
    except RecipeError as error:  # of a group that several flags lead to: it knows its field only
        field, equals, rest = str(error).partition("=")
        given = [argument.partition("=")[0].removeprefix("--") for argument in arguments]
        paths = {flag.replace("-", "_") for flag in given if flag.endswith(f".{_flag(field)}")}
        if len(paths) != 1:
            raise
        raise RecipeError(f"{paths.pop()}{equals}{rest}") from None


def _flags_of(kind: Any, prefix: str = "") -> set[str]:
    """Every flag that a dataclass, or one as it is by default, can be given by."""
    import tyro

    known: set[str] = set()
    for each in fields(kind):
        notes = getattr(each.type, "__metadata__", ())
        path = prefix + _flag(each.name)
        made = each.default if each.default_factory is MISSING else each.default_factory()
        value = made if isinstance(kind, type) else getattr(kind, each.name)
        if is_dataclass(value):
            flat = any(getattr(note, "name", None) == "" for note in notes)
            known |= _flags_of(value, prefix if flat else f"{path}.")
        elif tyro.conf.Positional not in notes:
            group, dot, name = path.rpartition(".")
            pair = isinstance(value, bool) and tyro.conf.FlagCreatePairsOff not in notes
            known |= {path, f"{group}{dot}no-{name}"} if pair else {path}
    return known


def _check_flags(known: set[str], arguments: Sequence[str], verb: str) -> None:
    """Refuse a flag that does not exist, before one is missed that was only misspelt.

    Raises:
        RunError: names the nearest known ones.
    """
    from squint.configs import CEBConfig
    from squint.recipe import SHORT_NAMES

    of_recipe = "train.epochs" in known
    plain = of_recipe and "compression.beta" not in known
    compressed = {_flag(each.name) for each in fields(CEBConfig)}
    short = {_flag(name) for name, path in SHORT_NAMES.items() if _flag(path) in known}
    for argument in arguments:
        flag = _flag(argument.partition("=")[0].removeprefix("--"))
        if not argument.startswith("--") or flag in known or flag.startswith("tyro-"):
            continue
        hint = _nearest_flags(flag, sorted(known | short))
        if plain and (flag.startswith("compression.") or flag in compressed):
            hint = " Only compressed recipes, c-…, have one."
        raise RunError(
            f"there is no flag --{flag}{' in this recipe' if of_recipe else ''}.{hint} "
            f"`squint {verb} --help` lists all."
        )


def _nearest_flags(flag: str, known: Sequence[str]) -> str:
    """A sentence with the flags that end in the whole name, or with the most similar one."""
    from difflib import get_close_matches

    near = [name for name in known if name.endswith(f".{flag}")]
    if not near:
        own = flag.rpartition(".")[2]  # train.xyz is not like train.seed
        close = get_close_matches(flag, known, n=3)
        near = [name for name in close if get_close_matches(own, [name.rpartition(".")[2]])][:1]
    return f" Did you mean {' or '.join(f'--{name}' for name in near[:3])}?" if near else ""


def _long_names(arguments: Sequence[str]) -> list[str]:
    """Frequent short flags (--epochs) written out (--train.epochs)."""
    from squint.recipe import SHORT_NAMES

    long = {f"--{_flag(short)}": f"--{_flag(path)}" for short, path in SHORT_NAMES.items()}
    written: list[str] = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        written.append(long.get(_flag(flag), flag) + equals + value)
    return written


def _flag(path: str) -> str:
    return path.replace("_", "-")


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
