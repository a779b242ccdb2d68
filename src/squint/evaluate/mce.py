"""Mean corruption error, and the baselines it is divided by."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from squint.errors import RunError
from squint.evaluate.bench import Bench
from squint.evaluate.corruptions import COMMON

CLEAN = "clean"
"""Beside the corruptions: no corruption, severity 0."""

Errors = dict[str, dict[str, float]]
"""Share of wrong answers, 0 to 1, by corruption (or `CLEAN`) and severity "1" to "5" ("0")."""

# AlexNet's errors on ImageNet-C, means over the severities, and on ImageNet: Hendrycks & Dietterich
# 2019, as in the code of AugMix (Hendrycks et al. 2020), which prints them in full.
_ALEXNET = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
_ALEXNET_CLEAN = 0.4348  # torchvision's weights, which those are of
IMAGENET_CLASSES = 1000


def means(errors: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Mean error over the severities, by corruption."""
    return {
        name: sum(cells.values()) / len(cells) for name, cells in errors.items() if name != CLEAN
    }


def mean_error(errors: Mapping[str, Mapping[str, float]]) -> float:
    """Mean error over the 15 common corruptions and their severities."""
    mean = means(errors)
    return sum(mean[name] for name in COMMON) / len(COMMON)


def mean_over_baseline(
    errors: Mapping[str, Mapping[str, float]],
    base: Mapping[str, Mapping[str, float]],
    *,
    relative: bool,
) -> float | None:
    """Mean over the 15 corruptions of the error divided by the baseline's.

    None if some divisor is not above 0: the baseline makes no errors there, or, if relative, no
    more than on clean images.

    Args:
        errors: of the encoder, with `CLEAN`.
        base: of the baseline; one cell a corruption is enough, as the mean over severities.
        relative: whether errors on clean images are taken off both first.
    """
    ours, theirs = means(errors), means(base)
    off, their_off = (each[CLEAN]["0"] if relative else 0.0 for each in (errors, base))
    if min(theirs[name] - their_off for name in COMMON) <= 0:
        return None
    shares = [(ours[name] - off) / (theirs[name] - their_off) for name in COMMON]
    return sum(shares) / len(shares)


def recorded_baseline(bench: Bench) -> tuple[str, Errors] | None:
    """Whose errors divide, in words, and these; None where they are the random encoder's.

    Raises:
        RunError: AlexNet without ImageNet's classes, or a file without errors that can be compared.
    """
    wanted = bench.options.robustness.baseline
    if wanted == "random":
        return None
    if wanted == "alexnet":
        if bench.classes != IMAGENET_CLASSES:
            raise RunError(
                f"--robustness.baseline alexnet is for the {IMAGENET_CLASSES} classes of ImageNet,"
                f" and {bench.images.name} has {bench.classes}. Use random, or the evaluation.json "
                "of another encoder."
            )
        base = {name: {"mean": error} for name, error in _ALEXNET.items()}
        return "AlexNet's on ImageNet-C", base | {CLEAN: {"0": _ALEXNET_CLEAN}}
    return f"those of {wanted}", _recorded(Path(wanted), conditions(bench))


def conditions(bench: Bench) -> dict[str, Any]:
    """What errors of two encoders must share to be compared; a seed only where images are made."""
    options, test = bench.options.robustness, len(bench.parts.test)
    return {
        "fingerprint": bench.images.fingerprint(),
        "images": min(options.images or test, test),
        "size": bench.views.evaluation.size,
        "corruptions": "read" if options.data else "made",
        "seed": None if options.data else options.seed,
    }


def _recorded(path: Path, ours: Mapping[str, Any]) -> Errors:
    """The errors of the encoder of an evaluation.json, counted under our conditions."""
    found = _entries(path)
    if not found:
        raise RunError(
            f"--robustness.baseline {path} holds no errors on corrupted images. It must be random, "
            "alexnet, or an evaluation.json that `squint evaluate --protocols robustness` wrote."
        )
    for entry in found:
        if entry.get("conditions") == ours:
            return entry["errors"]["trained"]
    theirs = found[0].get("conditions")
    if not isinstance(theirs, Mapping):
        raise RunError(
            f"--robustness.baseline {path} does not say on which images its errors were counted; "
            "earlier versions of Squint did not write it. Run its robustness again."
        )
    differ = [
        f"{name} {theirs.get(name)!r} there, {mine!r} here"
        for name, mine in ours.items()
        if theirs.get(name) != mine
    ]
    raise RunError(
        f"--robustness.baseline {path} has errors on other images ({'; '.join(differ)}), and mCE "
        "divides by errors on the same ones. Measure both with the same source and settings."
    )


def _entries(path: Path) -> list[dict[str, Any]]:
    """Errors on corrupted images in an evaluation.json, the latest first."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        tables = [table, *table.get("others", [])]
        entries = [each["results"].get("corrupted_error") for each in tables]
        return [
            entry
            for entry in entries
            if entry and all(name in entry["errors"]["trained"] for name in (CLEAN, *COMMON))
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
