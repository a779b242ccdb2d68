"""Linear probe: logistic regression on standardised frozen features.

Features are shifted and scaled by the train split's mean and standard deviation, per dimension.
Multinomial logistic regression (two classes: binary) minimises mean cross entropy in nats +
strength / 2 * ||W||^2, bias free of penalty, by L-BFGS, all strengths in one go. The strength is
chosen on a held-out part of train, then all of train is fitted with it. Test images decide nothing.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from squint.errors import DataError
from squint.evaluate import logistic
from squint.evaluate.bench import Bench, Which
from squint.evaluate.labels import Labels, check_classes, require
from squint.evaluate.options_labels import LINEAR_STRENGTHS, check_linear

STRENGTHS = LINEAR_STRENGTHS
"""Strengths of the l2 penalty to choose from."""

COUNTED = "counted on the test images"
"""Ends a protocol whose accuracy is that of the test part."""

_TOLERANCE = 1e-4
"""Of the gradient, largest absolute entry; less for weak penalties, see `_tolerance`."""
_OF_STRENGTH = 0.1
"""The tolerance is at most this share of the strength."""
_MAX_ITERATIONS = 200
_ONE_THREAD_BELOW = 1e9
"""Multiply-adds per pass under which threads cost more than they save on a busy machine."""


def measured(bench: Bench) -> dict[str, Any]:
    """The protocol: `linear_probe` fitted on the train part, counted on the test part."""
    probes = {which: probe_of(bench, which) for which in bench.kinds}
    values = {which: probe.top1 for which, probe in probes.items()}
    trained = probes["trained"]
    for which, probe in probes.items():
        if not probe.converged:
            warnings.warn(
                f"The linear probe of the {which} encoder stopped after {_MAX_ITERATIONS} "
                f"iterations or where float32 tells no finer, before a gradient of "
                f"{_tolerance(probe.strength):.1g}: its accuracy may move a little. A stronger "
                "penalty converges sooner: leave the weakest of --linear.strengths out.",
                stacklevel=2,
            )
    entry = bench.entry(
        values, trained.protocol, strength=trained.strength, converged=trained.converged
    )
    return {"linear_top1": entry}


def probe_of(bench: Bench, which: Which = "trained") -> "LinearProbe":
    """The fitted probe, shared by all protocols that read features linearly."""

    def fit() -> LinearProbe:
        train, test = bench.features(which)
        options = bench.options.linear
        return linear_probe(
            *train,
            *test,
            strengths=options.strengths,
            held_out=options.held_out,
            seed=options.seed,
            device=bench.device,
        )

    return bench.once(("linear", which), fit)


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearProbe:
    """Outcome of `linear_probe`."""

    top1: float
    """Share of test images classified right, 0 to 1."""
    strength: float
    """Chosen l2 strength."""
    held_out_top1: tuple[float, ...]
    """Share right on the held-out part of train, per strength, in the order of the protocol."""
    converged: bool
    """Whether the last fit met its tolerance before the iteration limit."""
    weight: Float[Tensor, "classes f"] = field(compare=False)
    """Of raw features: logits are features @ weight.T + bias, row i for class i."""
    bias: Float[Tensor, " classes"] = field(compare=False)
    """-inf for a number below the highest that is no class of train."""
    fitted: str
    """How it was fitted, in one line: all that decides weight and bias."""

    @property
    def protocol(self) -> str:
        """All that decides `top1`, in one line."""
        return f"linear top-1: {self.fitted}; {COUNTED}"


def linear_probe(
    train_features: Float[Tensor, "k f"],
    train_labels: Labels,
    test_features: Float[Tensor, "n f"],
    test_labels: Labels,
    *,
    strengths: Sequence[float] = STRENGTHS,
    held_out: float = 0.1,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> LinearProbe:
    """Accuracy of a linear classifier on frozen features, see the module.

    Args:
        train_features: to fit on.
        train_labels: at least two classes, at least one of them twice.
        test_features: to count on.
        test_labels: only classes that train has.
        strengths: l2 strengths to choose from; of equally good ones the strongest is taken. A
            single one is taken as it is, without holding anything out.
        held_out: share of every class of train that chooses the strength, at least one image of
            every class that has two.
        seed: of the choice of the held-out images.
        device: where the fits run, with a standardised copy of the train features.

    Raises:
        DataError: labels are absent, train has one class only, lacks a class of test, or has no
            class with two images.
        RecipeError: strengths or held_out is out of range.
    """
    check_linear(strengths, held_out)
    y = require(train_labels, images=len(train_features), what="the train split").numpy()
    y_test = require(test_labels, images=len(test_features), what="the test split").numpy()
    check_classes(y, y_test)
    fit_rows, held_rows = stratified_split(y, share=held_out, seed=seed)
    if len(strengths) > 1 and not len(held_rows):
        raise DataError(
            f"None of the {len(y)} train images can be held out to choose the strength: every "
            "class has one image only. Give at least two of some class, or use kNN."
        )
    strongest_first = sorted(strengths, reverse=True)
    mean, scale = standardisation(train_features)
    x = ((train_features - mean) * scale).to(device)
    names, numbers = np.unique(y, return_inverse=True)  # classes that occur, numbered from 0
    targets = torch.from_numpy(numbers).to(device)
    fit_rows, held_rows = (torch.from_numpy(rows).to(device) for rows in (fit_rows, held_rows))
    chosen, scores, start = 0, [], None
    if len(strengths) > 1:
        fits = _fit(x[fit_rows], targets[fit_rows], strongest_first)
        scores = _shares_right(fits, x[held_rows], targets[held_rows])
        chosen = int(np.argmax(scores))  # of equal scores the first, that of the strongest
        start = fits.only(chosen)
    final = _fit(x, targets, strongest_first[chosen : chosen + 1], start)
    weight, bias = _head(final, names, mean, scale)
    return LinearProbe(
        weight=weight,
        bias=bias,
        top1=share_right(test_features @ weight.T + bias, torch.from_numpy(y_test)),
        strength=strongest_first[chosen],
        held_out_top1=tuple(scores),
        converged=float(final.gradient) <= _tolerance(strongest_first[chosen]),
        fitted=_how_fitted(strongest_first, held_out, seed, len(y)),
    )


def share_right(logits: Float[Tensor, "n classes"], truth: Tensor) -> float:
    """Share of images whose highest logit is that of their class, 0 to 1."""
    return (logits.argmax(dim=1) == truth).double().mean().item()


def stratified_split(
    labels: np.ndarray, *, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit on and rows held out, both ascending; a function of labels, share and seed.

    Of a class with c images, share * c are held out, rounded, but at least 1 and at most c - 1;
    of a class with one image, none.

    Args:
        labels: (k,) classes.
        share: above 0 and below 1.
        seed: of the choice.
    """
    random = np.random.default_rng(seed)
    held: list[np.ndarray] = []
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        size = min(max(round(share * len(rows)), 1), len(rows) - 1)
        held.append(rows[:size])
    held_rows = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(labels)), held_rows), held_rows


def _fit(
    x: Tensor, targets: Tensor, strengths: Sequence[float], start: logistic.Fit | None = None
) -> logistic.Fit:
    """One fit for each strength, on one thread if there is little to do."""
    classes = int(targets.max()) + 1
    threads = torch.get_num_threads()
    if x.numel() * classes < _ONE_THREAD_BELOW:
        torch.set_num_threads(1)
    try:
        return _fit_here(x, targets, strengths, classes, start)
    finally:
        torch.set_num_threads(threads)


def _fit_here(
    x: Tensor, targets: Tensor, strengths: Sequence[float], classes: int, start: logistic.Fit | None
) -> logistic.Fit:
    # two logits share the weight of a binary model evenly, which halves its penalty
    penalties = [2 * strength if classes == 2 else strength for strength in strengths]
    return logistic.fit(
        x,
        targets,
        penalties,
        classes=classes,
        start=start,
        tolerance=[_tolerance(strength) for strength in strengths],
        max_iterations=_MAX_ITERATIONS,
    )


def _tolerance(strength: float) -> float:
    """Of the gradient: well below the penalty's own, or a weak penalty would not be felt."""
    return min(_TOLERANCE, _OF_STRENGTH * strength)


def _shares_right(fits: logistic.Fit, x: Tensor, targets: Tensor) -> list[float]:
    """Share right per strength."""
    heads = zip(fits.weight, fits.bias, strict=True)
    return [share_right(x @ weight.T + bias, targets) for weight, bias in heads]


def standardisation(train: Tensor, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Mean and inverse deviation per dimension, (f,); the latter is 0 where train is constant."""
    variance, mean = torch.var_mean(train.to(dtype), dim=0, correction=0)  # (f,) each
    std = variance.sqrt()
    varies = std > 1e-6 * mean.abs()
    return mean, torch.where(varies, 1 / std, torch.zeros_like(std))


def _head(
    final: logistic.Fit, names: np.ndarray, mean: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor]:
    """Weight and bias of raw features, one row per class number up to the highest."""
    weight = torch.zeros(int(names.max()) + 1, len(mean))
    bias = torch.full((len(weight),), -torch.inf)
    fitted = final.weight[0].cpu()
    weight[names] = fitted * scale  # (classes, f)
    bias[names] = final.bias[0].cpu() - fitted @ (mean * scale)
    return weight, bias


def among(strengths: Sequence[float]) -> str:
    """What a strength is chosen from, in words."""
    return f"of {{{', '.join(f'{strength:g}' for strength in sorted(strengths, reverse=True))}}}"


def _how_fitted(strengths: Sequence[float], held_out: float, seed: int, images: int) -> str:
    how = f"s = {strengths[0]:g}, fitted on all of train"
    if len(strengths) > 1:
        how = (
            f"s {among(strengths)} chosen on {100 * held_out:g} % of train (stratified, seed "
            f"{seed}), refit on all of train"
        )
    return (
        "encoder features standardised by train mean and deviation, evaluation view, last weights; "
        f"multinomial logistic regression on {images} train images, mean cross "
        f"entropy + s/2 ||W||^2, L-BFGS to gradient min({_TOLERANCE:g}, {_OF_STRENGTH:g} s) or "
        f"{_MAX_ITERATIONS} iterations; {how}"
    )
