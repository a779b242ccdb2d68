"""Few labels: the linear probe fitted on small, class-balanced parts of train, several draws each.

A draw is a function of (seed, number of the draw) and the labels alone. The interval is Student's,
95 %, over draws: it says how much the choice of labelled images matters, not other seeds of
pretraining.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import stdtrit

from squint.errors import DataError
from squint.evaluate.bench import Bench
from squint.evaluate.inputs import Labelled
from squint.evaluate.linear import linear_probe

ONE_SHOT_STRENGTH = 0.1
"""Where a class has a single image, nothing can be held out to choose the strength."""
_HELD_OUT = 0.2


class Spread(NamedTuple):
    """Several draws of one number."""

    mean: float
    interval: float
    """Half the width of the 95 % interval of the mean."""
    draws: tuple[float, ...]


def measured(bench: Bench) -> dict[str, Any]:
    """The protocol: each share of labels and each number per class."""
    options = bench.options.fewshot
    amounts: list[float | int] = [*options.shares, *options.shots]
    return {name_of(amount): _entry(bench, amount) for amount in amounts}


def name_of(amount: float | int) -> str:
    """fewshot_1pct_top1 for a share, fewshot_5shot_top1 for a number per class."""
    text = f"{100 * amount:g}pct" if isinstance(amount, float) else f"{amount}shot"
    return f"fewshot_{text}_top1"


def _entry(bench: Bench, amount: float | int) -> dict[str, Any]:
    options = bench.options.fewshot
    spreads = {
        which: few_label_top1(
            *bench.features(which), amount, draws=options.draws, seed=options.seed
        )
        for which in bench.kinds
    }
    labels = bench.features()[0].labels.numpy()
    count = len(subset(labels, amount, seed=options.seed, draw=0))
    protocol = (
        f"few-label linear top-1: {count} of {len(labels)} train images, the same "
        f"{'share' if isinstance(amount, float) else 'number'} of every class, mean of "
        f"{options.draws} draws (seed {options.seed}), interval 95 % (Student) over draws; "
        f"features, fit and choice of strength as the linear probe on these images alone, "
        f"{100 * _HELD_OUT:g} % of them held out to choose (strength {ONE_SHOT_STRENGTH:g} where a "
        "class has one image), evaluation view, last weights"
    )
    draws = {which: list(spread.draws) for which, spread in spreads.items()}
    return bench.entry(
        {which: spread.mean for which, spread in spreads.items()},
        protocol,
        interval=spreads["trained"].interval,
        draws=draws,
    )


def few_label_top1(
    train: Labelled, test: Labelled, amount: float | int, *, draws: int, seed: int
) -> Spread:
    """Test accuracy of probes that saw few labels, over draws of which.

    Args:
        train: features to choose from.
        test: features to count on.
        amount: a share (float, up to 1.0) or a number per class (int).
        draws: how often, at least 2.
        seed: of the draws.

    Raises:
        DataError: a class has fewer images than asked for, or as `linear_probe`.
    """
    if isinstance(amount, float) and amount == 1.0:  # 1 is one per class
        whole = linear_probe(*train, *test).top1
        return Spread(whole, 0.0, (whole,))
    found: list[float] = []
    for draw in range(draws):
        rows = torch.from_numpy(subset(train.labels.numpy(), amount, seed=seed, draw=draw))
        labels = train.labels[rows]
        single = int(labels.bincount().max()) < 2
        settings: dict[str, Any] = {"strengths": (ONE_SHOT_STRENGTH,)} if single else {}
        probe = linear_probe(
            train.features[rows], labels, *test, held_out=_HELD_OUT, seed=seed + draw, **settings
        )
        found.append(probe.top1)
    return spread(found)


def spread(values: Sequence[float]) -> Spread:
    """Mean and Student's 95 % interval of at least two values."""
    deviation = float(np.std(values, ddof=1))
    quantile = float(stdtrit(len(values) - 1, 0.975))
    half = quantile * deviation / len(values) ** 0.5
    return Spread(float(np.mean(values)), half, tuple(values))


def subset(labels: np.ndarray, amount: float | int, *, seed: int, draw: int) -> np.ndarray:
    """Ascending rows of a class-balanced part: a share or a number of every class.

    Of a class with c images a share takes share * c, rounded, at least 1.

    Raises:
        DataError: a class has fewer images than asked for.
    """
    random = np.random.default_rng((seed, draw))
    chosen: list[np.ndarray] = []
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        wanted = max(1, round(amount * len(rows))) if isinstance(amount, float) else amount
        if wanted > len(rows):
            raise DataError(
                f"Class {label} has {len(rows)} train images, and {wanted} per class were asked "
                f"for. Lower --fewshot.shots to {len(rows)} or less, or add images."
            )
        chosen.append(rows[:wanted])
    return np.sort(np.concatenate(chosen))
