"""Evaluation on the terminal: one encoder, or several runs side by side."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

TITLES = {
    "knn_top1": "kNN top-1",
    "linear_top1": "linear top-1",
    "transfer_knn_top1": "transfer kNN top-1",
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


_WORDS = {
    "held_out": "held out, nats",
    "train": "train, nats",
    "held_out_bits": "held out, bits",
    "rate_nats": "rate I(X;Z|Y)",
    "info_nats": "information I(Y;Z)",
    "info_cap_nats": "  its cap",
    "sampled_rate_nats": "rate from one draw of z",
    "sampled_error_nats": "  standard error by the draw",
    "entropy_nats": "entropy of e(z|x)",
    "cross_entropy_nats": "cross entropy with b(z|y)",
    "knn": "kNN",
    "knn (random)": "kNN (random)",
    "top1": "top-1",
    "top1 (random)": "top-1 (random)",
}
"""What rows and columns behind a result are called, by their names in evaluation.json."""


def title_of(name: str) -> str:
    """What a result is called for people: fewshot_1pct_top1 is "fewshot 1 % top-1"."""
    if name in TITLES:
        return TITLES[name]
    name = re.sub(r"(\d)pct", r"\1 %", re.sub(r"(\d)shot", r"\1 per class", name))
    name = name.replace("sgd", "SGD")
    return name.replace("_top1", " top-1").replace("_", " ")


def console() -> Console:
    """Prints text as it stands: a [name] in brackets is no markup."""
    return Console(highlight=False, markup=False, emoji=False)


def show(table: Mapping[str, Any], names: Sequence[str], out: Path) -> None:
    """Print results of one encoder, the numbers first.

    Args:
        table: all that is known of the encoder on these images.
        names: the results to print.
        out: the file that has them all, with the protocol of each.
    """
    results = {name: table["results"][name] for name in names}
    randoms = any("random" in entry for entry in results.values())
    grid = Table()
    grid.add_column("measured")
    grid.add_column("this run" if "step" in table else "this encoder", justify="right")
    if randoms:
        grid.add_column("random encoder", justify="right")
    for name, entry in results.items():
        random = text(name, entry["random"]) if "random" in entry else ""
        value = text(name, entry["value"])
        if "interval" in entry:
            value += f" ± {text(name, entry['interval'])}"
        grid.add_row(title_of(name), value, *([random] if randoms else []))
    screen = console()
    step = f", step {table['step']}" if "step" in table else ""
    title = f"{table['run']}: {table['recipe']} on {table['data']}{step}"
    screen.print(title, soft_wrap=True)  # a title of the grid would be broken to its width
    screen.print(grid)
    for name, entry in results.items():
        if "table" in entry:
            screen.print(title_of(name), soft_wrap=True)
            screen.print(_grid(name, entry["table"]))
    more = len(table["results"]) - len(results)
    earlier = f", beside {more} measured before" if more else ""
    screen.print(f"How each was measured is in {out}{earlier}.", soft_wrap=True)


def side_by_side(tables: Mapping[str, Mapping[str, Any]]) -> None:
    """Print what all of several runs have been measured for, with a random encoder as the first."""
    first, *others = (table["results"] for table in tables.values())
    grid = Table()
    grid.add_column("measured on images not trained on")
    for title in ("random encoder", *tables):
        grid.add_column(title, justify="right")
    for name, entry in first.items():
        if any(name not in other for other in others):
            continue
        random = text(name, entry["random"]) if "random" in entry else ""
        values = (text(name, table["results"][name]["value"]) for table in tables.values())
        grid.add_row(title_of(name), random, *values)
    console().print(grid)


def _grid(name: str, rows: Mapping[str, Mapping[str, float]]) -> Table:
    """The numbers behind one result, as rows and columns; what a row lacks stays empty."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    grid = Table("")
    for column in columns:
        grid.add_column(_words(column), justify="right")
    for title, row in rows.items():
        said = title if name.startswith("compare") else _words(title)  # whose rows are paths
        grid.add_row(said, *(text(name, row[c]) if c in row else "" for c in columns))
    return grid


def _words(key: str) -> str:
    return _WORDS.get(key) or key.replace("_", " ")


def text(name: str, value: float) -> str:
    """A number as it is printed: shares in percent, never -0."""
    return f"{value:z.1%}" if name.endswith(("top1", "error", "mce")) else f"{value:z.2f}"
