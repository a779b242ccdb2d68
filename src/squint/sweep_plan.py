"""What a sweep is going to do: its runs, and the folder they are kept in. Nothing imports torch."""

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from squint.configs import OpenConfig
from squint.data import Images, from_anywhere
from squint.errors import RecipeError, RunError
from squint.evaluate import frontier
from squint.evaluate.options import Protocol
from squint.recipe import Recipe

PROTOCOLS: tuple[Protocol, ...] = ("knn", "linear", "compression", "fitted")
"""What is measured if nothing else is asked for."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One run of a sweep."""

    value: str
    """As written by the user."""
    seed: int
    recipe: Recipe
    folder: Path

    def __str__(self) -> str:
        return self.folder.name


def plan(
    base: Recipe, *, over: str, values: Sequence[str | float | int], seeds: Sequence[int], out: Path
) -> list[Point]:
    """All runs of a sweep: every value under the first seed, then under the next.

    Raises:
        RecipeError: no such field, or a value that does not fit; two runs would be the same.
    """
    if not values or not seeds:
        raise RecipeError("A sweep needs at least one value and one seed: --over FIELD VALUE …")
    points: list[Point] = []
    for seed in seeds:
        for text in map(_text, values):
            point = Point(
                value=text,
                seed=seed,
                recipe=_at(base, over, text).override({"train.seed": seed}),
                folder=out / f"{over}={text.replace('/', '_')},seed={seed}",
            )
            for other in points:
                if other.recipe == point.recipe:
                    raise RecipeError(
                        f"A run of the sweep is given twice: {other} and {point} are the same "
                        "recipe. Leave one out."
                    )
            points.append(point)
    return points


def _text(value: str | float | int) -> str:
    """A value as one would write it: 1 for 1.0, and every digit that tells it from others."""
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return short if isinstance(value, str) or float(short) == value else repr(value)


def _at(base: Recipe, over: str, text: str) -> Recipe:
    if over == "train.seed":
        raise RecipeError("A sweep over train.seed is --seeds: give the field that is to differ.")
    if text == frontier.PLAIN and over.startswith("compression."):
        return base.replace(compression=OpenConfig())
    return base.override({over: _value(text)})


def _value(text: str) -> Any:
    """A value as the recipe has it: a number where it looks like one."""
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def begin(
    folder: Path, base: Recipe, *, over: str, images: Images
) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Make the folder of a sweep; returns what tells it from others, and its rows so far.

    Raises:
        RunError: the folder holds something else, or can't be written to.
    """
    head = {"recipe": base.name, "over": over, "data": from_anywhere(images.name)}
    try:
        rows = _rows(folder, head)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"--out {folder} can't be a folder: {error.strerror or error}. Give another name."
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RunError(
            f"--out {folder} is not a folder we may write to. Give a place that is, or change its "
            "permissions."
        )
    return head, rows


def _rows(folder: Path, head: Mapping[str, str]) -> list[dict[str, Any]]:
    """The rows of an earlier start of the same sweep, if there was one."""
    path = folder / "sweep.json"
    if not path.exists():
        if folder.is_file() or (folder / "recipe.json").exists():
            raise RunError(f"--out {folder} is a run or a file; a sweep needs a folder of its own.")
        return []
    try:
        earlier = json.loads(path.read_text())
        rows = earlier["runs"]
        earlier["data"] = from_anywhere(earlier["data"])  # once it was as written by the user
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} can't be read ({error}). Restore it or move it away.") from None
    if other := [name for name, value in head.items() if earlier.get(name) != value]:
        was = ", ".join(f"{name} {earlier.get(name)!r}" for name in other)
        raise RunError(f"{folder} holds another sweep ({was}). Give another --out.")
    return rows
