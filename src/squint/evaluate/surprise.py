"""Does residual information tell strange images from usual ones? The protocol `surprise`.

The rate of an image is what its code says about one view that the other could not tell. Of images
like those an encoder was trained on it should be low. Measured is how well it ranks: the area
under the ROC curve, the chance that a corrupted image (or one of another source) has a higher rate
than a clean held-out one. 0.5 is no use, below 0.5 the strange images are the less surprising.
"""

from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from squint.data import open_source
from squint.evaluate import compression, figures
from squint.evaluate.bench import Bench
from squint.evaluate.corruptions import COMMON, corrupt
from squint.evaluate.features import evaluation_mode
from squint.evaluate.inputs import corruptible, halves, squares
from squint.views import TwoViews
from squint.views.recipes import ViewsConfig

SEVERITIES = (3, 5)
_BATCH = 250


def measured(bench: Bench) -> dict[str, Any]:
    """The protocol: areas under the curve for corruptions, and for another source if given."""
    options = bench.options.surprise
    method = compression.method_of(bench, "surprise")
    coder, views = compression.coder_of(method), bench.run("surprise").recipe.views

    def surprise(pixels: Tensor) -> np.ndarray:
        return _rates(coder, pixels, views, bench.device)

    with evaluation_mode(method):
        stored = squares(bench.parts.test, views, limit=options.images)
        usual = surprise(stored)
        table: dict[str, dict[str, float]] = {}
        for name in COMMON if corruptible(stored) else ():
            table[name] = {
                f"severity {level}": _area(usual, surprise(_corrupted(stored, name, level)))
                for level in SEVERITIES
            }
        protocol = (
            f"area under the ROC curve of the closed-form rate, {len(stored)} images each, mean "
            f"over directions and {compression.PAIRS} pairs of training views of the evaluation "
            f"square; usual: held-out images; {compression.said(coder.channel)}; evaluation mode, "
            "seed 0"
        )
        entries: dict[str, Any] = {}
        if table:
            areas = [area for row in table.values() for area in row.values()]
            said = f"mean over {len(COMMON)} corruptions, severities {SEVERITIES}; {protocol}"
            entry = bench.entry({"trained": float(np.mean(areas))}, said, table=table)
            entries["surprise_corrupted_auroc"] = entry
            _draw(bench, table)
        if options.other:
            other = open_source(options.other, channels=bench.images.channels)
            strange = squares(halves(other).test, views, limit=options.images)
            said = f"strange: {len(strange)} images of {options.other}; {protocol}"
            entry = bench.entry({"trained": _area(usual, surprise(strange))}, said)
            entries["surprise_other_auroc"] = entry
    quantiles = np.quantile(usual, (0.1, 0.5, 0.9)).tolist()
    said = f"median rate of usual images; {protocol}"
    names = ("10 %", "50 %", "90 %")
    entry = bench.entry({"trained": quantiles[1]}, said)
    entry["quantiles"] = dict(zip(names, quantiles, strict=True))
    return entries | {"surprise_usual_nats": entry}


def _draw(bench: Bench, table: dict[str, dict[str, float]]) -> None:
    names = sorted(table, key=lambda name: -max(table[name].values()))

    def dots(axes: Any, theme: figures.Theme) -> None:
        axes.axvline(0.5, color=theme.faint, linewidth=1.2)
        for number, level in enumerate(next(iter(table.values()))):
            areas = [table[name][level] for name in names]
            axes.plot(areas, range(len(names)), "o", color=theme.series[number], label=level)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.grid()
        axes.set_xlabel("area under the ROC curve: 0.5 the rate can't tell, 1 it always can")
        axes.set_title(f"Are corrupted images more surprising? {bench.subject.title}")
        axes.legend()

    figures.save(dots, bench.subject.out.parent / figures.FOLDER, "surprise")


@torch.no_grad()
def _rates(
    coder: compression.Coder, pixels: Tensor, views: ViewsConfig, device: torch.device
) -> np.ndarray:
    """Rate of images in memory, as `embed.rates` has it."""
    two_views = TwoViews(views, seed=0)
    passes: list[Tensor] = []
    for epoch in range(compression.PAIRS):
        parts = [
            compression.rates_of(coder, two_views(part.to(device), rows, epoch))
            for part, rows in zip(
                pixels.split(_BATCH), torch.arange(len(pixels)).split(_BATCH), strict=True
            )
        ]
        passes.append(torch.cat(parts))
    return torch.stack(passes).mean(dim=0).cpu().numpy()


def _corrupted(stored: Tensor, name: str, severity: int) -> Tensor:
    rows = torch.arange(len(stored))
    return corrupt(stored, name, severity, rows=rows, seed=0)


def _area(usual: np.ndarray, strange: np.ndarray) -> float:
    truth = np.repeat([0, 1], [len(usual), len(strange)])
    return float(roc_auc_score(truth, np.concatenate([usual, strange])))
