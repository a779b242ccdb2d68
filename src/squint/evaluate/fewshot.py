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
from squint.evaluate.linear import among, linear_probe
from squint.evaluate.options import LinearOptions

ONE_SHOT_STRENGTH = 0.1
"""Where every class has a single image, nothing can be held out to choose among strengths."""
_HELD_OUT = 0.2
"""Share of the few images that chooses the strength."""


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
            *bench.features(which),
            amount,
            draws=options.draws,
            seed=options.seed,
            linear=bench.options.linear,
        )
        for which in bench.kinds
    }
    labels = bench.features()[0].labels.numpy()
    count = len(subset(labels, amount, seed=options.seed, draw=0))
    more: dict[str, Any] = {}
    if _is_all(amount):
        images = f"all {count} train images, one fit"
    else:
        images = (
            f"{count} of {len(labels)} train images, the same "
            f"{'share' if isinstance(amount, float) else 'number'} of every class, mean of "
            f"{options.draws} draws (seed {options.seed}), interval 95 % (Student) over draws"
        )
        more["interval"] = spreads["trained"].interval
    protocol = (
        f"few-label linear top-1: {images}; features and fit as the linear probe on these images "
        f"alone, {_choice(amount, bench.options.linear)}, evaluation view, last weights"
    )
    draws = {which: list(spread.draws) for which, spread in spreads.items()}
    values = {which: spread.mean for which, spread in spreads.items()}
    return bench.entry(values, protocol, draws=draws, **more)


def _is_all(amount: float | int) -> bool:
    return isinstance(amount, float) and amount == 1.0  # 1 is one per class


def _choice(amount: float | int, linear: LinearOptions) -> str:
    """How the strength of the probes is chosen, in words."""
    if len(linear.strengths) == 1:
        return f"strength {linear.strengths[0]:g}"
    if _is_all(amount):
        held_out = f"{100 * linear.held_out:g} % of them (seed {linear.seed})"
    else:
        held_out = f"{100 * _HELD_OUT:g} % of them ({ONE_SHOT_STRENGTH:g} where none has a second)"
    return f"strength {among(linear.strengths)} chosen on {held_out}"


def few_label_top1(
    train: Labelled,
    test: Labelled,
    amount: float | int,
    *,
    draws: int,
    seed: int,
    linear: LinearOptions,
) -> Spread:
    """Test accuracy of probes that saw few labels, over draws of which.

    Args:
        train: features to choose from.
        test: features to count on.
        amount: a share (float, up to 1.0) or a number per class (int).
        draws: how often, at least 2.
        seed: of the draws.
        linear: strengths to choose from; with all labels also what is held out to choose.

    Raises:
        DataError: a class has fewer images than asked for, or as `linear_probe`.
    """
    if _is_all(amount):
        whole = linear_probe(
            *train, *test, strengths=linear.strengths, held_out=linear.held_out, seed=linear.seed
        ).top1
        return Spread(whole, 0.0, (whole,))
    found: list[float] = []
    for draw in range(draws):
        rows = torch.from_numpy(subset(train.labels.numpy(), amount, seed=seed, draw=draw))
        labels = train.labels[rows]
        chosen = len(linear.strengths) == 1 or int(labels.bincount().max()) > 1
        probe = linear_probe(
            train.features[rows],
            labels,
            *test,
            strengths=linear.strengths if chosen else (ONE_SHOT_STRENGTH,),
            held_out=_HELD_OUT,
            seed=seed + draw,
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
