"""Does residual information tell strange images from usual ones? The protocol `surprise`.

The rate of an image is what its code says about one view that the other could not tell. Of images
like those an encoder was trained on it should be low. Measured is how well it ranks: the area
under the ROC curve, the chance that a corrupted image (or one of another source) has a higher rate
than a clean held-out one. 0.5 is no use, below 0.5 the strange images are the less surprising.
Of a run it is the rate of its code; of any encoder that of its features, b fitted as in `fitted`.
"""

from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from squint.data import Images, open_source
from squint.evaluate import compression, figures, fitted
from squint.evaluate.bench import Bench
from squint.evaluate.compression import Coder
from squint.evaluate.corruptions import COMMON, corrupt_numbered
from squint.evaluate.features import evaluation_mode
from squint.evaluate.inputs import corruptible, squares
from squint.evaluate.parts import halves
from squint.views import TwoViews
from squint.views.recipes import ViewsConfig

SEVERITIES = (3, 5)
_BATCH = 250


def measured(bench: Bench) -> dict[str, Any]:
    """The protocol: areas under the curve for corruptions, and for another source if given."""
    entries: dict[str, Any] = {}
    other = _other(bench)  # said now if it is not there
    if bench.subject.run is not None:
        method = compression.method_of(bench, "surprise")
        views = bench.subject.run.recipe.views
        entries |= _entries(
            bench, "surprise", compression.coder_of(method), views, "of the code", other
        )
    said = "of the features, head fitted as in the protocol fitted"
    of_features = fitted.coder_of(bench)
    return entries | _entries(bench, "surprise_features", of_features, bench.views, said, other)


def _other(bench: Bench) -> Images | None:
    """The test part of the strange source, or all of it, if one is given."""
    text = bench.options.surprise.other
    if not text:
        return None
    other = open_source(text, channels=bench.images.channels)
    return halves(other).test if other.splits else other


def _entries(
    bench: Bench, name: str, coder: Coder, views: ViewsConfig, said: str, other: Images | None
) -> dict[str, Any]:
    """Results of one channel; their names begin with `name`."""
    options = bench.options.surprise

    def surprise(pixels: Tensor) -> np.ndarray:
        return _rates(coder, pixels, views, bench.device)

    entries: dict[str, Any] = {}
    with evaluation_mode(coder.module):
        stored = squares(bench.parts.test, views, limit=options.images)
        usual = surprise(stored)
        protocol = (
            f"area under the ROC curve of the closed-form rate {said}, {len(stored)} images each, "
            f"mean over directions and {compression.PAIRS} pairs of training views of the "
            f"evaluation square; usual: held-out images; {compression.describe(coder.channel)}; "
            "evaluation mode, seed 0"
        )
        table = {
            corruption: {
                f"severity {level}": _area(
                    usual, surprise(corrupt_numbered(stored, corruption, level))
                )
                for level in SEVERITIES
            }
            for corruption in (COMMON if corruptible(stored) else ())
        }
        if table:
            areas = [area for row in table.values() for area in row.values()]
            mean = f"mean over {len(COMMON)} corruptions, severities {SEVERITIES}; {protocol}"
            entry = bench.entry({"trained": float(np.mean(areas))}, mean, table=table)
            entries[f"{name}_corrupted_auroc"] = entry
            _draw(bench, name, said, table)
        if other is not None:
            strange = squares(other, views, limit=options.images)
            whose = f"strange: {len(strange)} images of {options.other}; {protocol}"
            area = {"trained": _area(usual, surprise(strange))}
            entries[f"{name}_other_auroc"] = bench.entry(area, whose)
    low, middle, high = np.quantile(usual, (0.1, 0.5, 0.9)).tolist()
    entry = bench.entry({"trained": middle}, f"median rate of usual images; {protocol}")
    entry["quantiles"] = {"10 %": low, "50 %": middle, "90 %": high}
    return entries | {f"{name}_usual_nats": entry}


def _draw(bench: Bench, name: str, said: str, table: dict[str, dict[str, float]]) -> None:
    names = sorted(table, key=lambda row: -max(table[row].values()))

    def dots(axes: Any, theme: figures.Theme) -> None:
        axes.axvline(0.5, color=theme.faint, linewidth=1.2)
        for number, level in enumerate(next(iter(table.values()))):
            areas = [table[row][level] for row in names]
            axes.plot(areas, range(len(names)), "o", color=theme.series[number], label=level)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.grid()
        axes.set_xlabel("area under the ROC curve: 0.5 the rate can't tell, 1 it always can")
        of = said.partition(",")[0]
        axes.set_title(f"Are corrupted images more surprising? Rate {of}, {bench.subject.title}")
        axes.legend()

    figures.save(dots, bench.subject.figures, name)


@torch.no_grad()
def _rates(coder: Coder, pixels: Tensor, views: ViewsConfig, device: torch.device) -> np.ndarray:
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


def _area(usual: np.ndarray, strange: np.ndarray) -> float:
    truth = np.repeat([0, 1], [len(usual), len(strange)])
    return float(roc_auc_score(truth, np.concatenate([usual, strange])))
