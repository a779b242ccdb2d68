"""Flags of a verb from its dataclass: what tyro does, and messages for what it does not say."""

from collections.abc import Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar

from squint.errors import RecipeError, RunError

Flags = TypeVar("Flags")


def parse(kind: type[Flags], arguments: Sequence[str], *, verb: str) -> Flags:
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
        paths = {flag.replace("-", "_") for flag in given if flag.endswith(f".{as_flag(field)}")}
        if len(paths) != 1:
            raise
        raise RecipeError(f"{paths.pop()}{equals}{rest}") from None


def _flags_of(kind: Any, prefix: str = "") -> set[str]:
    """Every flag that a dataclass, or one as it is by default, can be given by."""
    import tyro

    known: set[str] = set()
    for each in fields(kind):
        notes = getattr(each.type, "__metadata__", ())
        path = prefix + as_flag(each.name)
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
    compressed = {as_flag(each.name) for each in fields(CEBConfig)}
    short = {as_flag(name) for name, path in SHORT_NAMES.items() if as_flag(path) in known}
    for argument in arguments:
        flag = as_flag(argument.partition("=")[0].removeprefix("--"))
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


def long_names(arguments: Sequence[str]) -> list[str]:
    """Frequent short flags (--epochs) written out (--train.epochs)."""
    from squint.recipe import SHORT_NAMES

    long = {f"--{as_flag(short)}": f"--{as_flag(path)}" for short, path in SHORT_NAMES.items()}
    written: list[str] = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        written.append(long.get(as_flag(flag), flag) + equals + value)
    return written


def as_flag(path: str) -> str:
    """The name of a flag from the path of a field."""
    return path.replace("_", "-")
