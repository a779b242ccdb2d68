"""Which augmentation costs how many nats.

The cost of an augmentation is the rate of views that differ in it alone, less the rate of two
equal views (see `redraw`): what the code keeps of that augmentation, although the other view does
not know it. Costs are means over images and over the recipes of both views. They don't add up to
that of everything at once: augmentations hide each other, and rates are not linear.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from squint.evaluate import compression, figures, fitted
from squint.evaluate.bench import Bench
from squint.evaluate.compression import Coder
from squint.evaluate.features import evaluation_mode
from squint.evaluate.redraw import EVERYTHING, NOTHING, recipes, redrawn_pairs
from squint.views.recipes import ViewsConfig

IMAGES = 500
"""Held-out images that are measured, at most."""


def measured(bench: Bench) -> dict[str, Any]:
    """The protocol: cost of each augmentation in the code and in the features."""
    of_features = fitted.coder_of(bench)
    nats, images = _costs(bench, bench.views, of_features)
    costs = {"features": nats}
    channel = compression.describe(of_features.channel)
    said = f"features: {channel}, head fitted as in the protocol fitted"
    if bench.subject.run is not None:
        coder = compression.coder_of(compression.method_of(bench, "augmentations"))
        nats, images = _costs(bench, bench.subject.run.recipe.views, coder)
        costs = {"code": nats} | costs
        said = f"code: {compression.describe(coder.channel)}; {said}"
    protocol = (
        f"closed-form rate of two training views of {images} held-out images which share all "
        "random numbers but those of one augmentation, less the rate of two equal views; mean "
        f"over both views' recipes, evaluation mode, seed 0; {said}"
    )
    table = {name: {kind: cost[name] for kind, cost in costs.items()} for name in costs["features"]}
    kinds = {"code": "augmentation_nats", "features": "augmentation_features_nats"}
    entries = {
        kinds[kind]: bench.entry({"trained": cost[EVERYTHING]}, protocol, own_view=False)
        for kind, cost in costs.items()
    }
    entries[next(iter(entries))]["table"] = table
    draw(bench, table)
    return entries


def draw(bench: Bench, table: Mapping[str, Mapping[str, float]]) -> None:
    """Bars, augmentation by augmentation."""
    kinds = list(next(iter(table.values())))
    names = list(table)

    def bars(axes: Any, theme: figures.Theme) -> None:
        height = 0.8 / len(kinds)
        for number, kind in enumerate(kinds):
            places = [row + height * (number - (len(kinds) - 1) / 2) for row in range(len(names))]
            values = [table[name][kind] for name in names]
            axes.barh(places, values, 0.92 * height, color=theme.series[number], label=kind)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.grid(axis="x")
        axes.set_xlabel("nats per image beyond two equal views")
        axes.set_title(f"What each augmentation costs, {bench.subject.title}")
        if len(kinds) > 1:
            axes.legend()

    figures.save(bars, bench.subject.figures, "augmentations")


@torch.no_grad()
def _costs(bench: Bench, views: ViewsConfig, coder: Coder) -> tuple[dict[str, float], int]:
    """Nats beyond two equal views, by what was drawn anew, and the number of images."""
    rates: dict[str, list[Tensor]] = {}
    shown = 0
    batches = redrawn_pairs(bench.parts.test, views, device=bench.device, limit=IMAGES)
    with evaluation_mode(coder.module):
        for batch in batches:
            shown += len(batch[NOTHING][0])
            for name, pair in batch.items():
                for h, y in coder.pairs(pair):
                    rate = coder.channel.closed_form_rate(h, y)
                    rates.setdefault(name, []).append(rate)
    means = {name: torch.cat(values).mean().item() for name, values in rates.items()}
    nats = {name: mean - means[NOTHING] for name, mean in means.items() if name != NOTHING}
    return nats, shown // len(recipes(views))
