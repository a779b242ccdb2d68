"""Evaluation on the terminal: one run with its protocols, or several side by side."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

TITLES = {
    "knn_top1": "kNN top-1",
    "linear_top1": "linear top-1",
    "rate_nats": "rate I(X;Z|Y), nats",
    "info_nats": "information I(Y;Z), nats",
    "info_cap_nats": "  its cap, nats",
    "fitted_rate_nats": "rate of features, b fitted, nats",
    "fitted_info_nats": "information of features, b fitted, nats",
    "fitted_info_cap_nats": "  its cap, nats",
    "content_readable": "content readable by a linear probe",
    "nuisance_readable": "nuisance readable by a linear probe",
    "lipschitz_median": "steepest slope of features, median",
    "lipschitz_max": "steepest slope of features, maximum",
    "lipschitz_lower_bound": "bound of the code's slope by divergence",
    "lipschitz_density_bound": "bound of log e(z|x)'s slope by divergence",
    "surprise_corrupted_auroc": "corrupted images by their rate, AUROC",
    "surprise_other_auroc": "other images by their rate, AUROC",
    "surprise_usual_nats": "rate of usual images, median, nats",
    "surprise_features_corrupted_auroc": "corrupted images by their features' rate, AUROC",
    "surprise_features_other_auroc": "other images by their features' rate, AUROC",
    "surprise_features_usual_nats": "features' rate of usual images, median, nats",
    "corrupted_error": "error on corrupted images",
    "clean_error": "  on the same images, clean",
    "mce": "mCE: error over the baseline's",
    "relative_mce": "relative mCE: error added, over the baseline's",
    "pgd_top1": "linear top-1 under attack (PGD)",
    "shifted_top1": "linear top-1 on the shifted test set",
    "augmentation_nats": "cost of all augmentations, nats",
    "augmentation_features_nats": "cost of all augmentations, features, nats",
}
"""What a result is called in tables and figures, by its name."""


def title_of(name: str) -> str:
    """What a result is called for people: fewshot_1pct_top1 is "fewshot 1pct top-1"."""
    return TITLES.get(name) or name.replace("_top1", " top-1").replace("_", " ")


def show(table: Mapping[str, Any]) -> None:
    """Print one run's results with the protocol behind each."""
    results = table["results"]
    grid = Table(
        title=f"{table['run']}: {table['recipe']} on {table['data']}"
        + (f", step {table['step']}" if "step" in table else "")
    )
    grid.add_column("measured")
    grid.add_column("this run", justify="right")
    grid.add_column("random encoder", justify="right")
    for name, entry in results.items():
        random = text(name, entry["random"]) if "random" in entry else ""
        value = text(name, entry["value"])
        if "interval" in entry:
            value += f" ± {text(name, entry['interval'])}"
        grid.add_row(title_of(name), value, random)
    console = Console(highlight=False)
    console.print(grid)
    for name, entry in results.items():
        if "table" in entry:
            console.print(_grid(name, entry["table"]))
    for protocol, names in _protocols(results).items():
        console.print(f"{', '.join(names)}: {protocol}", soft_wrap=True, markup=False)


def side_by_side(tables: Mapping[str, Mapping[str, Any]]) -> None:
    """Print several runs' results as columns, with a random encoder as the first."""
    first = next(iter(tables.values()))["results"]
    grid = Table()
    grid.add_column("measured on images not trained on")
    for title in ("random encoder", *tables):
        grid.add_column(title, justify="right")
    for name, entry in first.items():
        random = text(name, entry["random"]) if "random" in entry else ""
        values = (text(name, table["results"][name]["value"]) for table in tables.values())
        grid.add_row(title_of(name), random, *values)
    Console(highlight=False).print(grid)


def _grid(name: str, rows: Mapping[str, Mapping[str, float]]) -> Table:
    """The numbers behind one result, as rows and columns; what a row lacks stays empty."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    grid = Table("", title=title_of(name))
    for column in columns:
        grid.add_column(column, justify="right")
    for title, row in rows.items():
        grid.add_row(title, *(text(name, row[c]) if c in row else "" for c in columns))
    return grid


def text(name: str, value: float) -> str:
    """A number as it is printed: shares in percent."""
    return f"{value:.1%}" if name.endswith(("top1", "error", "mce")) else f"{value:.2f}"


def _protocols(results: Mapping[str, Any]) -> dict[str, list[str]]:
    """Names of results by the protocol they share."""
    shared: dict[str, list[str]] = {}
    for name, entry in results.items():
        shared.setdefault(entry["protocol"], []).append(name)
    return shared
