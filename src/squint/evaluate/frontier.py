"""A sweep on the terminal and as figures: rate against accuracy, and information over training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from squint.evaluate import figures
from squint.evaluate.table import TITLES, console, text, title_of

PLAIN = "plain"
"""Value of the runs without a bottleneck."""

_LEAST_NATS, _LEAST_PERCENT = 0.5, 8.0
"""What the axes span at least."""

_HIDDEN = ("info_cap_nats", "fitted_info_cap_nats")


def show(sweep: Mapping[str, Any]) -> None:
    """Print mean and spread over seeds of every result, a column for each value."""
    summary = _in_order(sweep)
    grid = Table()
    grid.add_column("mean ± standard deviation over seeds")
    for row in summary:
        grid.add_column(row["value"], justify="right")
    names = dict.fromkeys(name for row in summary for name in row if name != "value")
    for name in names:
        if name not in _HIDDEN:
            grid.add_row(title_of(name), *(_cell(name, row.get(name)) for row in summary))
    screen = console()
    title = f"{sweep['recipe']} on {sweep['data']} over {sweep['over']}"
    screen.print(title, soft_wrap=True)
    screen.print(grid)
    if sweep["note"]:
        screen.print(sweep["note"])


def draw_frontier(sweep: Mapping[str, Any], folder: Path) -> None:
    """Accuracy against rate, a line for every kind of accuracy; nothing without both."""
    rate = _rate(sweep)
    rated = [row for row in _in_order(sweep) if rate in row]
    kinds = [name for name in dict.fromkeys(n for row in rated for n in row) if "top1" in name]
    summary = [row for row in rated if not row.keys().isdisjoint(kinds)]
    if not summary:
        return

    def frontier(axes: Any, theme: figures.Theme) -> None:
        for number, kind in enumerate(kinds):
            colour = theme.series[number % len(theme.series)]
            rows = [row for row in summary if kind in row]
            path = [row for row in rows if row["value"] != PLAIN]  # no step of the sweep
            axes.plot(*_places(path, rate, kind), color=colour, alpha=0.55)
            axes.errorbar(
                *_places(rows, rate, kind),
                xerr=[row[rate]["std"] or 0.0 for row in rows],
                yerr=[100 * (row[kind]["std"] or 0.0) for row in rows],
                fmt="o",
                elinewidth=0.8,
                color=colour,
                label=title_of(kind),
            )
        axes.margins(y=0.14)
        figures.widen(axes, x=_LEAST_NATS, y=_LEAST_PERCENT)
        for (x, y), values in _named(axes, summary, rate, kinds).items():
            axes.annotate(
                ", ".join(values),
                (x, y),
                xytext=(0, 9),
                textcoords="offset points",
                ha="center",
                color=theme.ink,
                fontsize=8,
            )
        axes.grid()
        axes.set_xlabel(f"{TITLES[rate]}, held-out images")
        axes.set_ylabel("accuracy, %")
        axes.set_title(f"Rate and accuracy of {sweep['recipe']} over {sweep['over']}")
        axes.legend()

    figures.save(frontier, folder / figures.FOLDER, "frontier")


def draw_information_plane(
    sweep: Mapping[str, Any],
    records: Mapping[tuple[str, int], Sequence[Mapping[str, Any]]],
    folder: Path,
) -> None:
    """Logged rate and information of every run from its first line to its last.

    Nothing is drawn if no run logs both: plain methods have no rate, BYOL has no information.

    Args:
        sweep: the table.
        records: lines of metrics.jsonl by value and seed.
        folder: of the sweep.
    """
    paths = {
        key: [
            (r["rate_nats"], r["info_nats"])
            for r in lines
            if {"rate_nats", "info_nats"} <= r.keys()
        ]
        for key, lines in records.items()
    }
    paths = {key: path for key, path in paths.items() if path}
    if not paths:
        return
    values = [row["value"] for row in _in_order(sweep)]

    def plane(axes: Any, theme: figures.Theme) -> None:
        named: set[str] = set()
        for (value, _), path in paths.items():
            colour = theme.series[values.index(value) % len(theme.series)]
            rates, infos = zip(*path, strict=True)
            label = None if value in named else value
            named.add(value)
            axes.plot(rates, infos, color=colour, linewidth=1.1, alpha=0.8, label=label)
            axes.plot(rates[:1], infos[:1], "o", color=colour, fillstyle="none", markersize=4)
            axes.plot(rates[-1:], infos[-1:], "o", color=colour)
        figures.widen(axes, x=_LEAST_NATS, y=_LEAST_NATS)
        axes.grid()
        axes.set_xlabel("rate I(X;Z|Y) while training, nats")
        axes.set_ylabel("information I(Y;Z) while training, nats")
        axes.set_title(f"Information plane of {sweep['recipe']}: open ring first, dot last")
        axes.legend(title=sweep["over"])

    figures.save(plane, folder / figures.FOLDER, "information-plane")


def _places(
    rows: Sequence[Mapping[str, Any]], rate: str, kind: str
) -> tuple[list[float], list[float]]:
    """Mean rates in nats, mean accuracies in percent."""
    return [row[rate]["mean"] for row in rows], [100 * row[kind]["mean"] for row in rows]


def _named(
    axes: Any, summary: Sequence[Mapping[str, Any]], rate: str, kinds: Sequence[str]
) -> dict[tuple[float, float], list[str]]:
    """Values by the top of their highest point; those of one place as seen by eye together."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    named: dict[tuple[float, float], list[str]] = {}
    for row in summary:
        tops = (100 * (row[k]["mean"] + (row[k]["std"] or 0.0)) for k in kinds if k in row)
        x, y = row[rate]["mean"], max(tops)
        near = (
            (u, v)
            for u, v in named
            if abs(u - x) < 0.03 * (right - left) and abs(v - y) < 0.05 * (top - bottom)
        )
        named.setdefault(next(near, (x, y)), []).append(row["value"])
    return named


def _rate(sweep: Mapping[str, Any]) -> str:
    """The rate that can be compared: the fitted one where the channel itself is what differs."""
    moves = sweep["over"].startswith("compression.kappa") or not sweep["over"].startswith(
        "compression"
    )
    fitted = any("fitted_rate_nats" in row for row in sweep["summary"])
    return "fitted_rate_nats" if moves and fitted else "rate_nats"


def _in_order(sweep: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Rows of the summary in the order in which values were given; those of earlier starts last."""
    given = list(sweep["values"])
    return sorted(
        sweep["summary"],
        key=lambda r: given.index(r["value"]) if r["value"] in given else len(given),
    )


def _cell(name: str, entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return ""
    spread = "" if entry["std"] is None else f" ± {text(name, entry['std'])}"
    return text(name, entry["mean"]) + spread
