"""`squint sweep`: one recipe at several values of one field, trained, measured, and compared.

Every run has a folder of its own, FIELD=VALUE,seed=S. A sweep can be stopped and started again at
any time: finished runs are skipped, unfinished ones continued, and a run that fails leaves the
others alone. Everything measured is in sweep.json, written anew after every run.
"""

import contextlib
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from squint import codec, presets, runs
from squint.configs import CEBConfig, OpenConfig
from squint.data import Images, from_anywhere, open_source
from squint.environment import environment
from squint.errors import RecipeError, RunError, SquintError
from squint.evaluate import frontier
from squint.evaluate.options import Options
from squint.evaluate.protocols import check_protocols, evaluate
from squint.recipe import Recipe
from squint.runs import Run
from squint.train.pretrain import finish
from squint.train.signals import Interrupted

PROTOCOLS = ("knn", "linear", "compression", "fitted")

Table = dict[str, Any]


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


def sweep(
    data: str | Path | Images,
    *,
    recipe: str | Recipe,
    over: str,
    values: Sequence[str | float | int],
    out: str | Path,
    seeds: Sequence[int] = (0,),
    protocols: Sequence[str] = PROTOCOLS,
    options: Options | None = None,
    quiet: bool = False,
) -> Table:
    """Train and measure a recipe at several values of a field; returns what sweep.json holds.

    Args:
        data: images with labels, where protocols need them.
        recipe: METHOD[@SETTING] or a recipe.
        over: dotted name of the field.
        values: what it is set to; "plain" is the method without a bottleneck.
        out: folder of the sweep.
        seeds: each value is trained once with each.
        protocols: what is measured, see `squint.evaluate`.
        options: settings of the protocols.
        quiet: show no progress of training.

    Raises:
        SquintError: a value does not fit the recipe, before anything is trained; or runs failed,
            after all others are done.
        Interrupted: stopped, and saved; the same call goes on.
    """
    base = presets.recipe(recipe) if isinstance(recipe, str) else recipe
    folder = Path(out)
    points = plan(base, over=over, values=values, seeds=seeds, out=folder)
    check_protocols(protocols)
    images = (
        data if isinstance(data, Images) else open_source(data, channels=base.encoder.in_channels)
    )
    table = _begun(folder, base, over, values, seeds, images, protocols)
    failed: dict[str, str] = {}
    for number, point in enumerate(points, start=1):
        if not quiet:
            print(f"\n[{number}/{len(points)}] {point}", flush=True)
        try:
            row = _done(
                point, images, protocols, options or Options(), _row(table, point), quiet=quiet
            )
        except KeyboardInterrupt as stopped:
            raise Interrupted(
                f"stopped at run {number} of {len(points)}, {point}; what was done is saved. "
                "The same command goes on from here.",
                getattr(stopped, "signal", 2),
            ) from None
        except (SquintError, RuntimeError, MemoryError, OSError) as error:
            failed[str(point)] = str(error) or type(error).__name__
            row = {"path": point.folder.name, "value": point.value, "seed": point.seed}
            row |= {"error": failed[str(point)]}
        _keep(table, folder, point, row)
    _draw(table, folder)
    if not quiet:
        frontier.show(table)
    if failed:
        listed = "".join(f"\n  {name}: {why}" for name, why in failed.items())
        raise RunError(
            f"{len(failed)} of {len(points)} runs failed; the others are in "
            f"{folder / 'sweep.json'}.{listed}"
        )
    return table


def plan(
    base: Recipe, *, over: str, values: Sequence[str | float | int], seeds: Sequence[int], out: Path
) -> list[Point]:
    """All runs of a sweep: every value under the first seed, then under the next.

    Raises:
        RecipeError: no such field, or a value that does not fit; two runs would be the same.
    """
    if not values or not seeds:
        raise RecipeError("A sweep needs at least one value and one seed: --over FIELD VALUE …")
    texts = [_text(value) for value in values]
    for name, given in (("value", texts), ("seed", list(seeds))):
        if len(set(given)) < len(given):
            raise RecipeError(f"A {name} of the sweep is given twice: {given}. Leave one out.")
    return [
        Point(
            value=text,
            seed=seed,
            recipe=_at(base, over, text).override({"train.seed": seed}),
            folder=out / f"{over}={text.replace('/', '_')},seed={seed}",
        )
        for seed in seeds
        for text in texts
    ]


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


def _done(
    point: Point,
    images: Images,
    protocols: Sequence[str],
    options: Options,
    earlier: Mapping[str, Any],
    *,
    quiet: bool,
) -> dict[str, Any]:
    """A point's row in the table: trained and measured as far as it is not yet."""
    run = finish(images, recipe=point.recipe, out=point.folder, quiet=quiet)
    if run is None:
        raise RunError(
            f"{point.folder} holds a run of another recipe. Give the flags the sweep began with, "
            "or another --out."
        )
    settings = {
        "step": run.state()["position"]["step"],
        "options": codec.encode(options),
        "fingerprint": images.fingerprint(),
    }
    known = {"fingerprint": settings["fingerprint"]} | dict(earlier)  # not in older tables
    same = all(known.get(name) == value for name, value in settings.items())
    row = dict(earlier) if same and (run.path / "evaluation.json").exists() else {"results": {}}
    measured = row.get("protocols", [])
    if missing := [protocol for protocol in protocols if protocol not in measured]:
        device = run.recipe.train.device
        table = evaluate(run, data=images, protocols=missing, device=device, options=options)
        row["results"] = {name: entry["value"] for name, entry in table["results"].items()}
        row["random"] = {
            name: entry["random"] for name, entry in table["results"].items() if "random" in entry
        }
    return {
        "path": run.path.name,
        "value": point.value,
        "seed": point.seed,
        **settings,
        "protocols": [*measured, *missing],
        "results": row["results"],
        "random": row.get("random", {}),
    }


def _begun(
    folder: Path,
    base: Recipe,
    over: str,
    values: Sequence[str | float | int],
    seeds: Sequence[int],
    images: Images,
    protocols: Sequence[str],
) -> Table:
    """The table with the rows of an earlier start of the same sweep, if there was one.

    Raises:
        RunError: the folder holds something else, or can't be written to.
    """
    path = folder / "sweep.json"
    head = {"recipe": base.name, "over": over, "data": from_anywhere(images.name)}
    rows: list[Any] = []
    if path.exists():
        try:
            earlier = json.loads(path.read_text())
            rows = earlier["runs"]
            earlier["data"] = from_anywhere(earlier["data"])  # once it was as written by the user
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path} can't be read ({error}). Restore it or move it away.") from None
        other = [name for name, value in head.items() if earlier.get(name) != value]
        if other:
            was = ", ".join(f"{name} {earlier.get(name)!r}" for name in other)
            raise RunError(f"{folder} holds another sweep ({was}). Give another --out.")
    elif folder.is_file() or (folder / "recipe.json").exists():
        raise RunError(f"--out {folder} is a run or a file; a sweep needs a folder of its own.")
    folder.mkdir(parents=True, exist_ok=True)
    note = "beta 0 charges nothing but still draws z; plain has no bottleneck at all."
    return {
        **head,
        "values": [str(value) for value in values],
        "seeds": list(seeds),
        "protocols": list(protocols),
        "note": note if isinstance(base.compression, CEBConfig) else "",
        "spread": "standard deviation over seeds (n - 1)",
        "environment": environment(),
        "runs": rows,
        "summary": [],
    }


def _row(table: Table, point: Point) -> dict[str, Any]:
    return next((row for row in table["runs"] if row["path"] == point.folder.name), {})


def _keep(table: Table, folder: Path, point: Point, row: dict[str, Any]) -> None:
    """Put a row into the table, and the table on disk."""
    rows = {other["path"]: other for other in table["runs"]} | {point.folder.name: row}
    table["runs"] = list(rows.values())
    table["summary"] = list(_summary(table["runs"]))
    runs.write_json(folder / "sweep.json", table)


def _summary(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Mean, spread and number of seeds of every result, for each value."""
    good = [row for row in rows if "results" in row]
    for value in dict.fromkeys(row["value"] for row in good):
        of_value = [row["results"] for row in good if row["value"] == value]
        names = dict.fromkeys(name for results in of_value for name in results)
        summary: dict[str, Any] = {"value": value}
        for name in names:
            numbers = [results[name] for results in of_value if name in results]
            spread = statistics.stdev(numbers) if len(numbers) > 1 else None
            summary[name] = {"mean": statistics.fmean(numbers), "std": spread, "n": len(numbers)}
        yield summary


def _draw(table: Table, folder: Path) -> None:
    frontier.draw_frontier(table, folder)
    records = {
        (row["value"], row["seed"]): Run(folder / row["path"]).records()
        for row in table["runs"]
        if "results" in row
    }
    frontier.draw_information_plane(table, records, folder)
