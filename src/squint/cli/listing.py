"""The verb that lists the recipes."""

from dataclasses import dataclass
from typing import Annotated, Any

from squint.cli.flags import as_flag, parse


def recipes(arguments: list[str]) -> None:
    """All recipes, or one in full."""
    from textwrap import fill

    import tyro

    @dataclass(frozen=True)
    class RecipesFlags:
        """List the recipes, or show one in full with its source and expected result."""

        name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]")] = ""
        """METHOD[@SETTING]; without one, all are listed."""

    flags = parse(RecipesFlags, arguments, verb="recipes")
    from squint import presets
    from squint.recipe import leaves

    if flags.name:
        preset = presets.load(flags.name)
        rows = [
            (f"--{as_flag(path)}", _text(value)) for path, value in leaves(preset.recipe).items()
        ]
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


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
