"""Robustness to common corruptions (Hendrycks & Dietterich 2019, arXiv 1903.12261).

A linear probe is fitted on clean features of the train part, then counts its errors on test
images under 15 corruptions at 5 severities, E(s, c), and on the same images uncorrupted, E. With a
baseline's errors B:

    corruption error   CE(c) = sum_s E(s, c) / sum_s B(s, c)                 mCE: mean over c
    relative           CE'(c) = sum_s (E(s, c) - E) / sum_s (B(s, c) - B)    relative mCE: mean

Errors are shares, 0 to 1. Images are corrupted as the encoder would see them, after crop and
resize, before normalisation: that is how ImageNet-C was made for encoders of 224 px.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from squint.data.decode import PICTURE_CHANNELS
from squint.errors import DataError, RunError
from squint.evaluate import figures
from squint.evaluate.bench import Bench
from squint.evaluate.corruptions import COMMON
from squint.evaluate.corruptions.constants import size_class
from squint.evaluate.features import extract
from squint.evaluate.linear import COUNTED, probe_of
from squint.evaluate.mce import (
    Errors,
    conditions,
    mean_error,
    mean_over_baseline,
    means,
    recorded_baseline,
)
from squint.evaluate.parts import check_labels
from squint.evaluate.robustness_data import CLEAN, Piece, corrupted_here, corrupted_in, describe
from squint.views.two_views import EvaluationView


def measured(bench: Bench) -> dict[str, Any]:
    """The protocol: errors on corrupted images, their means, and a heat map."""
    options = bench.options.robustness
    if bench.images.channels not in PICTURE_CHANNELS:
        raise DataError(
            f"{bench.images.name} has images of {bench.images.channels} channels, and corruptions "
            "are defined for grey and RGB. Leave the protocol robustness out."
        )
    for part in bench.parts[:2]:
        check_labels(part)
    divisor = recorded_baseline(bench)  # said now if there is none, not after all images
    pieces = corrupted_in(bench, Path(options.data)) if options.data else corrupted_here(bench)
    errors, images = count_errors(bench, pieces)
    missing = [name for name in COMMON if name not in errors["trained"]]
    if missing:
        raise RunError(
            f"{options.data} lacks {', '.join(missing)}; means are over all 15 corruptions. "
            "Complete the folder."
        )
    draw(bench, errors["trained"])
    if divisor is None and "random" in errors:
        divisor = "a random encoder's", errors["random"]
    return _entries(bench, errors, divisor, images)


class Counted(NamedTuple):
    """Numbers of images errors were counted on."""

    clean: int
    corrupted: int
    """Under one corruption of one severity, at most."""


def count_errors(bench: Bench, pieces: Iterable[Piece]) -> tuple[dict[str, Errors], Counted]:
    """Errors by encoder, corruption and severity, and the numbers of images."""
    view = EvaluationView(bench.views)
    wrong: Counter[tuple[str, str, int]] = Counter()
    seen: Counter[tuple[str, int]] = Counter()
    for name, severity, pixels, labels in pieces:
        seen[name, severity] += len(labels)
        images = view.normalised(pixels)
        for which in bench.kinds:
            probe = probe_of(bench, which)
            module = bench.module(which)
            features = extract(
                module, [images], count=len(images), device=bench.device, precision=bench.precision
            )
            guess = (features @ probe.weight.T + probe.bias).argmax(dim=1)
            wrong[which, name, severity] += int((guess != labels).sum())
    errors: dict[str, Errors] = {which: {} for which in bench.kinds}
    for (which, name, severity), count in wrong.items():
        cells = errors[which].setdefault(name, {})
        cells[str(severity)] = count / seen[name, severity]
    clean = seen.pop((CLEAN, 0))
    return errors, Counted(clean, max(seen.values(), default=0))


def _entries(
    bench: Bench,
    errors: Mapping[str, Errors],
    divisor: tuple[str, Errors] | None,
    images: Counted,
) -> dict[str, Any]:
    read_ones = bool(bench.options.robustness.data)  # which are not of the test part
    on_clean, on_corrupted = _protocols(bench, images)
    corrupted = {which: mean_error(cells) for which, cells in errors.items()}
    clean = {which: cells[CLEAN]["0"] for which, cells in errors.items()}
    protocol = f"mean over 15 corruptions and 5 severities; {on_corrupted}"
    table = {name: dict(cells) for name, cells in errors["trained"].items() if name != CLEAN}
    for name, mean in means(errors["trained"]).items():
        table[name]["mean"] = mean
    if "random" in errors:
        for name, mean in means(errors["random"]).items():
            table[name]["mean (random)"] = mean
    entries = {
        "corrupted_error": bench.entry(
            corrupted,
            protocol,
            own_test=not read_ones,
            table=table,
            errors=dict(errors),
            conditions=conditions(bench),
        ),
        "clean_error": bench.entry(clean, on_clean),
    }
    if divisor is None:
        return entries
    who, base = divisor
    for key, relative in (("mce", False), ("relative_mce", True)):
        value = mean_over_baseline(errors["trained"], base, relative=relative)
        if value is not None:
            protocol = f"{key} over {who}; {on_corrupted}"
            entries[key] = bench.entry(
                {"trained": value}, protocol, own_test=not read_ones, baseline=dict(base)
            )
    return entries


def _protocols(bench: Bench, images: Counted) -> tuple[str, str]:
    """What errors on clean images are, and what those on corrupted ones are."""
    options = bench.options.robustness
    of = len(bench.parts.test)
    subset = "all" if images.clean >= of else f"{images.clean} of {of} (chosen at random, seed 0)"
    fitted = probe_of(bench).fitted
    clean = f"error of a linear probe fitted on clean images on {subset} test images"
    if not options.data:
        size = bench.views.evaluation.size
        where = (
            f"corrupted at {size} px after crop and resize, constants of {size_class(size)} px, "
            f"seed {options.seed}"
        )
        return f"{clean}; {fitted}; {COUNTED}", f"{clean}, {where}; {fitted}; {COUNTED}"
    return (
        f"{clean}; {fitted}; {COUNTED}",
        f"error of a linear probe fitted on clean images of the train part of {bench.images.name} "
        f"on {images.corrupted} images for each corruption and severity, read from "
        f"{describe(bench, Path(options.data))}; {fitted}",
    )


def draw(bench: Bench, errors: Errors) -> None:
    """Heat map of the errors: corruptions down, severities across."""
    names = [name for name in errors if name != CLEAN]
    severities = [str(severity) for severity in range(1, 6)]
    mean = means(errors)
    grid = [
        [*(errors[name].get(s, float("nan")) for s in severities), mean[name]] for name in names
    ]

    def heat(axes: Any, theme: figures.Theme) -> None:
        picture = axes.imshow(grid, cmap=theme.shades, vmin=0, vmax=1, aspect="auto")
        for row, column in ((r, c) for r in range(len(names)) for c in range(6)):
            red, green, blue, _ = picture.cmap(grid[row][column])
            light = 0.299 * red + 0.587 * green + 0.114 * blue
            ink = "#1d1d26" if light > 0.5 else "#f4f4f8"
            share = f"{grid[row][column]:.0%}"
            axes.text(column, row, share, ha="center", va="center", color=ink, fontsize=8)
        axes.set_xticks(range(6), [*severities, "mean"])
        axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
        axes.axvline(4.5, color=theme.paper, linewidth=3)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("severity")
        axes.set_title(
            f"Error on corrupted images, {bench.subject.title} (clean {errors[CLEAN]['0']:.1%})"
        )

    folder = bench.subject.figures
    figures.save(heat, folder, "robustness", height=1.1 + 0.27 * len(names))
