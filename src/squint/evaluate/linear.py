"""Linear probe: logistic regression on standardised frozen features.

Features are shifted and scaled by the train split's mean and standard deviation, per dimension.
Multinomial logistic regression (two classes: binary) minimises mean cross entropy in nats +
strength / 2 * ||W||^2, bias free of penalty, by L-BFGS. The strength is chosen on a held-out part
of train, then all of train is fitted with it. Test images decide nothing.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch import Tensor

from squint.errors import DataError, RecipeError
from squint.evaluate.bench import Bench, Which
from squint.evaluate.labels import Labels, require

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Strengths of the l2 penalty to choose from."""

_TOLERANCE = 1e-4
_MAX_ITERATIONS = 200
_ONE_THREAD_BELOW = 1e9
"""Multiply-adds per pass under which threads cost more than they save: on two busy cores 45,000 x
256 features and 10 classes took 3 s with one thread and 56 s with two."""


def measured(bench: Bench) -> dict[str, Any]:
    """The protocol: `linear_probe` fitted on the train part, counted on the test part."""
    probes = {which: probe_of(bench, which) for which in bench.kinds}
    values = {which: probe.top1 for which, probe in probes.items()}
    trained = probes["trained"]
    entry = bench.entry(values, trained.protocol, strength=trained.strength)
    return {"linear_top1": entry}


def probe_of(bench: Bench, which: Which = "trained") -> "LinearProbe":
    """The fitted probe, shared by all protocols that read features linearly."""

    def fit() -> LinearProbe:
        train, test = bench.features(which)
        return linear_probe(*train, *test)

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
    protocol: str
    """All that decides the number, in one line."""


def linear_probe(
    train_features: Float[Tensor, "k f"],
    train_labels: Labels,
    test_features: Float[Tensor, "n f"],
    test_labels: Labels,
    *,
    strengths: Sequence[float] = STRENGTHS,
    held_out: float = 0.1,
    seed: int = 0,
) -> LinearProbe:
    """Accuracy of a linear classifier on frozen features, see the module.

    Args:
        train_features: to fit on.
        train_labels: at least two classes, at least one of them twice.
        test_features: to count on.
        test_labels: only classes that train has.
        strengths: l2 strengths to choose from; of equally good ones the strongest is taken.
        held_out: share of every class of train that chooses the strength, at least one image of
            every class that has two.
        seed: of the choice of the held-out images.

    Raises:
        DataError: labels are absent, train has one class only, lacks a class of test, or has no
            class with two images.
        RecipeError: strengths or held_out is out of range.
    """
    _check_settings(strengths, held_out)
    y = require(train_labels, images=len(train_features), what="the train split").numpy()
    y_test = require(test_labels, images=len(test_features), what="the test split").numpy()
    _check_classes(y, y_test)
    fit_rows, held_rows = stratified_split(y, share=held_out, seed=seed)
    if not len(held_rows):
        raise DataError(
            f"None of the {len(y)} train images can be held out to choose the strength: every "
            "class has one image only. Give at least two of some class, or use kNN."
        )
    mean, scale = _standardisation(train_features)
    x, x_test = (((part - mean) * scale).numpy() for part in (train_features, test_features))
    strongest_first = sorted(strengths, reverse=True)
    with threadpool_limits(_threads(x, y)):
        path = _fit_path(x[fit_rows], y[fit_rows], strongest_first)
        scores = [float(model.score(x[held_rows], y[held_rows])) for model in path]
        chosen = int(np.argmax(scores))  # the first, that is the strongest, of equals
        final = _fit(x, y, strongest_first[chosen], path[chosen])
        top1 = float(final.score(x_test, y_test))
    weight, bias = _head(final, mean, scale)
    return LinearProbe(
        weight=weight,
        bias=bias,
        top1=top1,
        strength=strongest_first[chosen],
        held_out_top1=tuple(scores),
        converged=int(max(final.n_iter_)) < _MAX_ITERATIONS,
        protocol=_protocol(strongest_first, held_out, seed, len(y)),
    )


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


def _fit_path(x: np.ndarray, y: np.ndarray, strengths: Sequence[float]) -> list[LogisticRegression]:
    """One fit per strength, each starting where the one before ended."""
    path: list[LogisticRegression] = []
    for strength in strengths:
        path.append(_fit(x, y, strength, path[-1] if path else None))
    return path


def _fit(
    x: np.ndarray, y: np.ndarray, strength: float, start: LogisticRegression | None
) -> LogisticRegression:
    model = LogisticRegression(
        C=1 / (strength * len(x)), tol=_TOLERANCE, max_iter=_MAX_ITERATIONS, warm_start=True
    )
    if start is not None:
        model.coef_ = np.copy(start.coef_)
        model.intercept_ = np.copy(start.intercept_)
    with warnings.catch_warnings():
        # the outcome says whether the limit was met; weak penalties often end there
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x, y)


def _standardisation(train: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and inverse deviation per dimension, (f,); the latter is 0 where train is constant."""
    variance, mean = torch.var_mean(train.float(), dim=0, correction=0)  # (f,) each
    std = variance.sqrt()
    varies = std > 1e-6 * mean.abs()
    return mean, torch.where(varies, 1 / std, torch.zeros_like(std))


def _head(model: LogisticRegression, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of raw features, one row per class number."""
    coef, intercept = (
        torch.from_numpy(np.asarray(part)).float() for part in (model.coef_, model.intercept_)
    )
    if len(coef) == 1:  # two classes: the logit of the second, that of the first is 0
        coef, intercept = (
            torch.cat([torch.zeros_like(coef), coef]),
            torch.cat([torch.zeros(1), intercept]),
        )
    classes = torch.from_numpy(np.asarray(model.classes_))
    weight = torch.zeros(int(classes.max()) + 1, coef.shape[1])
    bias = torch.full((len(weight),), -torch.inf)
    weight[classes] = coef * scale  # (classes, f)
    bias[classes] = intercept - coef @ (mean * scale)
    return weight, bias


def _threads(x: np.ndarray, y: np.ndarray) -> int | None:
    """Threads for the fits; None leaves the number alone."""
    return 1 if x.size * len(np.unique(y)) < _ONE_THREAD_BELOW else None


def _protocol(strengths: Sequence[float], held_out: float, seed: int, images: int) -> str:
    grid = ", ".join(f"{strength:g}" for strength in strengths)
    return (
        "linear top-1: encoder features standardised by train mean and deviation, evaluation view, "
        f"last weights; multinomial logistic regression on {images} train images, mean cross "
        f"entropy + s/2 ||W||^2, L-BFGS to gradient {_TOLERANCE:g} or {_MAX_ITERATIONS} "
        f"iterations; s of {{{grid}}} chosen on {100 * held_out:g} % of train (stratified, seed "
        f"{seed}), refit on all of train; counted on the test images"
    )


def _check_settings(strengths: Sequence[float], held_out: float) -> None:
    if not strengths or min(strengths) <= 0:
        raise RecipeError(
            f"strengths={tuple(strengths)} must hold at least one number, all above 0: without a "
            f"penalty separable features have no best fit. The default is {STRENGTHS}."
        )
    if not 0 < held_out < 1:
        raise RecipeError(
            f"held_out={held_out} must be a share of train, above 0 and below 1, usually 0.1."
        )


def _check_classes(train: np.ndarray, test: np.ndarray) -> None:
    classes = np.unique(train)
    if len(classes) < 2:
        raise DataError(
            f"All {len(train)} train images are of class {classes[0]}: a classifier needs at least "
            "two classes. Check the class folders of the train split."
        )
    missing = np.setdiff1d(test, classes)
    if len(missing):
        shown = ", ".join(str(label) for label in missing[:10])
        raise DataError(
            f"{len(missing)} classes of the test split never occur in train ({shown}): no "
            "classifier can name them. Use the same classes in both splits."
        )
