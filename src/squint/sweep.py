"""`squint sweep`: one recipe at several values of one field, trained, measured, and compared.

Every run has a folder of its own, FIELD=VALUE,seed=S. A sweep can be stopped and started again at
any time: finished runs are skipped, unfinished ones continued, and a run that fails leaves the
others alone. Everything measured is in sweep.json, written anew after every run.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from squint import codec, presets, runs
from squint.configs import CEBConfig
from squint.data import Images, open_source
from squint.environment import environment
from squint.errors import RunError, SquintError
from squint.evaluate import frontier
from squint.evaluate.options import Options
from squint.evaluate.protocols import check_protocols, evaluate
from squint.recipe import Recipe
from squint.runs import Run
from squint.sweep_plan import PROTOCOLS, Point, begin, plan
from squint.train.pretrain import train_or_resume
from squint.train.signals import Interrupted

Table = dict[str, Any]


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
    protocols = (protocols,) if isinstance(protocols, str) else protocols
    check_protocols(protocols)
    images = (
        data if isinstance(data, Images) else open_source(data, channels=base.encoder.in_channels)
    )
    head, rows = begin(folder, base, over=over, images=images)
    note = "beta 0 charges nothing but still draws z; plain has no bottleneck at all."
    table: Table = {
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
    run = train_or_resume(images, recipe=point.recipe, out=point.folder, quiet=quiet)
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
