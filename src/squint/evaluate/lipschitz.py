"""How far features move when an image does: the protocol `lipschitz`.

Pixels count from 0 to 1, features by their direction alone (a unit vector), so that encoders of
any scale and normalisation can be compared: the slope is in directions per unit of pixels, and the
most a direction can move is 2.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from squint.compression import information, lipschitz
from squint.evaluate import compression, figures
from squint.evaluate.bench import Bench, Which
from squint.evaluate.corruptions import corrupt_numbered
from squint.evaluate.features import evaluation_mode
from squint.evaluate.inputs import corruptible, squares
from squint.evaluate.redraw import EVERYTHING, NOTHING, recipes, redrawn_pairs
from squint.shapes import Image
from squint.views.recipes import ViewsConfig

CORRUPTIONS = ("gaussian_noise", "defocus_blur", "brightness", "contrast", "jpeg_compression")
SEVERITY = 3
LOCAL = 0.05
"""Share of the way to the other image that counts as local."""
COLUMNS = ("median", "90 %", "99 %", "max")


def measured(bench: Bench) -> dict[str, Any]:
    """The protocol: steepest slopes, and slopes towards augmented and corrupted images."""
    options = bench.options.lipschitz
    stored = squares(bench.parts.test, bench.views, limit=options.images)  # uint8
    tables = {which: _table(bench, which, stored) for which in bench.kinds}
    table = {
        row + ("" if which == "trained" else " (random)"): columns
        for row in tables["trained"]
        for which in bench.kinds
        for columns in [tables[which][row]]
    }
    protocol = (
        "direction of encoder features per pixel distance (pixels 0 to 1, Euclidean); steepest: "
        f"largest singular value of the Jacobian at {len(stored)} held-out images, evaluation "
        f"view, power iteration to {lipschitz.TOLERANCE:g} or {options.iterations} steps; towards: "
        "slope to the other image, whole way (secant) and, local, a share of "
        f"{LOCAL:g}; augmentations as in the protocol augmentations, corruptions of severity "
        f"{SEVERITY}; quantiles over images; last weights, seed 0"
    )
    values = {which: rows["steepest"]["median"] for which, rows in tables.items()}
    entries = {"lipschitz_median": bench.entry(values, protocol, table=table)}
    values = {which: rows["steepest"]["max"] for which, rows in tables.items()}
    entries["lipschitz_max"] = bench.entry(values, protocol)
    if bench.subject.run is not None:
        entries |= _bounds_of_code(bench)
    draw(bench, tables)
    return entries


def draw(bench: Bench, tables: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Median to 99 % of every slope, trained beside random, on a logarithmic axis."""
    names = list(tables["trained"])

    def ranges(axes: Any, theme: figures.Theme) -> None:
        for number, (which, rows) in enumerate(tables.items()):
            shift = 0.17 * (2 * number - len(tables) + 1)
            for place, name in enumerate(names):
                row = rows[name]
                where, colour = place + shift, theme.series[number]
                axes.plot([row["median"], row["99 %"]], [where] * 2, color=colour, linewidth=3)
                axes.plot(row["max"], where, "|", color=colour, markersize=8)
            first = rows[names[0]]
            label = "random encoder" if which == "random" else bench.subject.title
            axes.plot([first["median"]] * 2, [shift] * 2, color=theme.series[number], label=label)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.grid(axis="x")
        axes.set_xlabel("direction per pixel distance: bar median to 99 %, stroke maximum")
        axes.set_title(f"Slopes of the features, {bench.subject.title}")
        axes.legend()

    height = max(figures.SIZE[1], 1.2 + 0.3 * len(names))
    figures.save(ranges, bench.subject.figures, "lipschitz", height=height)


def _table(bench: Bench, which: Which, stored: Tensor) -> dict[str, dict[str, float]]:
    options = bench.options.lipschitz
    module = bench.module(which).to(bench.device)
    mean, std = _normalisation(bench.views, bench.device)

    def direction(pixels: Tensor) -> Tensor:
        return F.normalize(module((pixels - mean) / std).float(), dim=1)

    pixels = stored.to(bench.device).float() / 255
    with evaluation_mode(module):
        steep = lipschitz.steepest(direction, pixels, iterations=options.iterations)
        rows: dict[str, dict[str, float]] = {"steepest": _named(lipschitz.quantiles(steep))}
        first = dataclasses.replace(bench.views, second=bench.views.first)
        found: dict[str, list[tuple[Tensor, Tensor]]] = {}
        for batch in redrawn_pairs(
            bench.parts.test, first, device=bench.device, limit=options.images
        ):
            for name, pair in batch.items():
                if name != NOTHING:
                    ours, others = (view * std + mean for view in pair)
                    found.setdefault(name, []).append(_slopes(direction, ours, others))
        for name in CORRUPTIONS if corruptible(stored) else ():
            others = corrupt_numbered(stored, name, SEVERITY).to(bench.device).float() / 255
            found[name] = [_slopes(direction, pixels, others)]
    return rows | {f"towards {name}": _towards(slopes) for name, slopes in found.items()}


def _slopes(
    direction: Callable[[Tensor], Tensor], pixels: Image, others: Image
) -> tuple[Tensor, Tensor]:
    """Towards other images, the whole way and locally, (n,) each."""
    secant = lipschitz.slopes(direction, pixels, others)
    return secant, lipschitz.slopes(direction, pixels, others, share=LOCAL)


def _towards(slopes: Sequence[tuple[Tensor, Tensor]]) -> dict[str, float]:
    secant, local = map(torch.cat, zip(*slopes, strict=True))
    return _named(lipschitz.quantiles(secant)) | {"local median": lipschitz.quantiles(local)[0]}


def _named(values: Sequence[float]) -> dict[str, float]:
    return dict(zip(COLUMNS, values, strict=True))


@torch.no_grad()
def _bounds_of_code(bench: Bench) -> dict[str, Any]:
    """The bounds from divergences of the code's laws, over pairs of independent views."""
    method = compression.method_of(bench, "lipschitz")
    coder = compression.coder_of(method)
    channel, views = coder.channel, bench.run("lipschitz").recipe.views
    _, std = _normalisation(views, bench.device)
    found: dict[str, list[Tensor]] = {"direction": [], "density": [], "exact": []}
    limit = bench.options.lipschitz.images
    with evaluation_mode(method):
        for batch in redrawn_pairs(bench.parts.test, views, device=bench.device, limit=limit):
            first, second = batch[EVERYTHING]
            (h, _), *_ = coder.pairs((first, second))
            (other, _), *_ = coder.pairs((second, first))
            apart = ((first - second) * std).flatten(1).norm(dim=1)
            apart = torch.where(apart > 0, apart, torch.nan)
            kappa, dim = channel.kappa_e, h.shape[1]
            at_one_kappa = information.rate(h, other, kappa, kappa)
            slope = lipschitz.from_rate(at_one_kappa, apart, kappa_e=kappa, dim=dim)
            ours, theirs = channel.kappa_e_of(h), channel.kappa_e_of(other)
            divergences = (
                information.rate(h, other, ours, theirs),
                information.rate(other, h, theirs, ours),
            )
            found["direction"].append(slope)
            found["density"].append(lipschitz.of_density(*divergences, apart))
            found["exact"].append(lipschitz.of_vmf(h, other, ours, theirs, apart))
    row = {name: _named(lipschitz.quantiles(torch.cat(part))) for name, part in found.items()}
    images = sum(map(len, found["direction"])) // len(recipes(views))
    pairs = (
        f"{images} held-out images' pairs of independent views of one recipe, pixels 0 to 1, seed 0"
    )
    entries = {
        "lipschitz_lower_bound": (
            row["direction"],
            "projector code's direction h: sqrt(2 KL / (kappa_e A(kappa_e))) / |x - x'| with KL of "
            f"e(z|x) and e(z|x') = vMF(h, kappa_e = {channel.kappa_e:g}), maximum over {pairs} "
            "(derived in docs/measures.md)",
        ),
        "lipschitz_density_bound": (
            row["density"],
            "log e(z|x) of the projector code, nats per pixel distance: sqrt(max(KL, reverse KL)) "
            f"/ |x - x'|, {compression.describe(channel)}, maximum over {pairs} (Lee et al. 2021)",
        ),
    }
    filled = {
        name: bench.entry({"trained": values["max"]}, protocol, median=values["median"])
        for name, (values, protocol) in entries.items()
    }
    filled["lipschitz_density_bound"]["table"] = {
        "bound": row["density"],
        "slope in the steepest z": row["exact"],
    }
    return filled


def _normalisation(views: ViewsConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation, (c, 1, 1) each."""
    mean, std = (torch.tensor(x, device=device)[:, None, None] for x in (views.mean, views.std))
    return mean, std
