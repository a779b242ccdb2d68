"""What can be read from features beside what they are for: every recorded factor of the images.

How readable an attribute is, on one scale: 0 is what one knows without the features (the mean, or
guessing), 1 is all. Numbers have R^2 on test images, turns that of their cosine and sine together;
categories have balanced accuracy less chance, (b - 1/K) / (1 - 1/K). It can be below 0. Two
readers: a linear probe, and the k nearest neighbours among training images of which it is known.
"""

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch import Tensor

from squint.data import permutation
from squint.errors import DataError
from squint.evaluate import figures
from squint.evaluate.attributes import Attribute, attributes_of, label_of
from squint.evaluate.bench import Bench, Which
from squint.evaluate.knn import neighbors
from squint.evaluate.linear import standardisation, stratified_split

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""l2 strengths of linear probes, per training image, of which one is chosen on a tenth of train."""
NEIGHBORS, TEMPERATURE = 20, 0.1

_HELD_OUT, _LEAST_HELD_OUT = 0.1, 5
_LEAST = 10
"""Images of either part that must be known for an attribute to be measured."""
_ITERATIONS = 200


class Split(NamedTuple):
    """Features with an attribute, for training images and test images."""

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def check(bench: Bench) -> None:
    """Refuse to begin where nothing is known of the images but their labels.

    Raises:
        DataError: there are no attributes, or their table does not fit the images.
    """
    attributes_of(bench.images, bench.options.nuisance.attributes)


def measured(bench: Bench) -> dict[str, Any]:
    """The protocol: how readable label and attributes are, trained and random encoder."""
    options = bench.options.nuisance
    rows = {which: _readable(bench, which) for which in bench.kinds}
    content = [name for name in rows["trained"] if name in ("label", *options.content)]
    nuisance = [name for name in rows["trained"] if name not in content]
    table = {
        name: {
            f"{reader}{'' if which == 'trained' else ' (random)'}": rows[which][name][reader]
            for which in bench.kinds
            for reader in ("linear", "knn")
        }
        for name in (*content, *nuisance)
    }
    where = options.attributes or "recorded by the source"
    protocol = (
        "encoder features, evaluation view; readable: R^2 on test images of numbers and of cosine "
        "and sine of turns, balanced accuracy less chance, (b - 1/K)/(1 - 1/K), of categories; "
        "linear: features standardised by train, ridge or balanced logistic regression, l2 "
        f"strength of {{{', '.join(f'{s:g}' for s in STRENGTHS)}}} chosen on 10 % of train, at "
        f"least {_LEAST_HELD_OUT} images, seed 0; knn: cosine, k={NEIGHBORS} of the images of "
        f"train of which it is known, weights exp(cosine / {TEMPERATURE:g}); attributes {where}"
    )
    entries: dict[str, Any] = {}
    for title, names in (("content_readable", content), ("nuisance_readable", nuisance)):
        if names:
            means = {
                which: float(np.mean([rows[which][name]["linear"] for name in names]))
                for which in bench.kinds
            }
            said = f"mean of {', '.join(names)}; {protocol}"
            entries[title] = bench.entry(means, said)
    if not nuisance:
        raise DataError(
            f"Every attribute is named as content ({', '.join(content)}), so none is left as "
            "nuisance. Shorten --nuisance.content."
        )
    entries["nuisance_readable"]["table"] = table
    draw(bench, table, content)
    return entries


def draw(bench: Bench, table: Mapping[str, Mapping[str, float]], content: list[str]) -> None:
    """Bars of the linear probe, content first, then nuisances from most to least readable."""
    nuisance = sorted((n for n in table if n not in content), key=lambda n: -table[n]["linear"])
    names = [*content, *nuisance]

    def bars(axes: Any, theme: figures.Theme) -> None:
        for row, name in enumerate(names):
            colour = theme.series[0 if name in content else 1]
            axes.barh(row, max(table[name]["linear"], 0.0), 0.62, color=colour)
            if "linear (random)" in table[name]:
                random = max(table[name]["linear (random)"], 0.0)
                axes.plot([random] * 2, [row - 0.38, row + 0.38], color=theme.ink, linewidth=1.6)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.grid(axis="x")
        axes.set_xlabel("readable by a linear probe: 0 not at all, 1 entirely")
        axes.set_title(f"Content and nuisance, {bench.subject.title}")
        handles = [
            axes.barh(0, 0, color=theme.series[0], label="content"),
            axes.barh(0, 0, color=theme.series[1], label="nuisance"),
            axes.plot([], [], color=theme.ink, linewidth=1.6, label="random encoder")[0],
        ]
        axes.legend(handles=handles, loc="lower right")

    height = max(figures.SIZE[1], 1.2 + 0.22 * len(names))
    folder = bench.subject.figures
    figures.save(bars, folder, "nuisance", height=height)


def _readable(bench: Bench, which: Which) -> dict[str, dict[str, float]]:
    """Readability of the label and of each attribute by both readers."""
    train, test = bench.features_and_images(which)
    path = bench.options.nuisance.attributes
    columns = list(
        zip(attributes_of(train.images, path), attributes_of(test.images, path), strict=True)
    )
    labels = label_of(train.images), label_of(test.images)
    if labels[0] is not None and labels[1] is not None:
        columns.insert(0, (labels[0], labels[1]))
    _check_content(bench.options.nuisance.content, [column.name for column, _ in columns])
    near: dict[bytes, tuple[Tensor, Tensor]] = {}
    mean, scale = standardisation(train.features, torch.float64)
    x, x_test = (((part.features - mean) * scale).numpy() for part in (train, test))
    found: dict[str, dict[str, float]] = {}
    for ours, theirs in columns:
        _check_known(ours, theirs)
        known, known_test = ours.known, theirs.known
        split = Split(
            x[known], _target(ours)[known], x_test[known_test], _target(theirs)[known_test]
        )
        which_known = known.tobytes() + known_test.tobytes()
        if which_known not in near:
            bank, asked = train.features[known], test.features[known_test]
            near[which_known] = neighbors(asked, bank, k=min(NEIGHBORS, len(bank)))
        categories = ours.kind == "category"
        found[ours.name] = {
            "linear": linear_readable(split, categories=categories),
            "knn": knn_readable(*near[which_known], split.y, split.y_test, categories=categories),
        }
    return found


def linear_readable(split: Split, *, categories: bool) -> float:
    """Readability on the test rows by the linear probe of best strength on a tenth of train.

    Args:
        split: rows standardised; targets (k, t), or numbers of categories (k,).
        categories: which of the two.
    """
    if categories:
        fitted, held = stratified_split(split.y, share=_HELD_OUT, seed=0)
    else:
        shuffled = permutation(0, 0, len(split.y))
        cut = max(_LEAST_HELD_OUT, round(_HELD_OUT * len(split.y)))
        fitted, held = shuffled[cut:], shuffled[:cut]
    probe, choice, score = (
        (_logistic, balanced, balanced) if categories else (_ridge, _nearness, r2)
    )
    inner = Split(split.x[fitted], split.y[fitted], split.x[held], split.y[held])
    scores = [choice(inner.y_test, guess) for guess in probe(inner, STRENGTHS[::-1])]
    best = STRENGTHS[::-1][int(np.argmax(scores))]  # of equals the strongest
    return score(split.y_test, probe(split, (best,))[0])


def knn_readable(
    cosines: Tensor, rows: Tensor, y: np.ndarray, y_test: np.ndarray, *, categories: bool
) -> float:
    """Readability on the test rows by the weighted mean, or vote, of nearest training images.

    Args:
        cosines: (n, k) of test images to their nearest training images.
        rows: (n, k) which of the training images these are.
        y: targets of the training images (m, t), or numbers of their categories (m,).
        y_test: of the test images, (n, t) or (n,).
        categories: which of the two.
    """
    weights = np.exp((cosines.numpy() - 1) / TEMPERATURE)
    weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-30)
    if categories:
        one_hot = np.eye(int(y.max()) + 1)[y.astype(np.int64)]
        votes = np.einsum("nk,nkc->nc", weights, one_hot[rows.numpy()])
        return balanced(y_test, votes.argmax(axis=1))
    return r2(y_test, np.einsum("nk,nkt->nt", weights, y[rows.numpy()]))


def r2(truth: np.ndarray, guess: np.ndarray) -> float:
    """Share of the variance explained, all columns together; 0 for the test images' own mean."""
    rest = np.square(truth - guess).sum()
    return float(1 - rest / np.square(truth - truth.mean(axis=0)).sum())


def _nearness(truth: np.ndarray, guess: np.ndarray) -> float:
    """Orders guesses as `r2` does, also where the truth does not vary."""
    return -float(np.square(truth - guess).sum())


def balanced(truth: np.ndarray, guess: np.ndarray) -> float:
    """Mean over categories, two at least, of the share found: share of the way from chance to 1."""
    categories = np.unique(truth)
    shares = [float((guess[truth == category] == category).mean()) for category in categories]
    chance = 1 / len(categories)
    return (float(np.mean(shares)) - chance) / (1 - chance)


def _ridge(split: Split, strengths: tuple[float, ...]) -> list[np.ndarray]:
    """Predictions for the test rows, for each strength; the intercept is free."""
    mean, centre = split.x.mean(axis=0), split.y.mean(axis=0)
    x = split.x - mean
    values, basis = np.linalg.eigh(x.T @ x / len(x))
    product = basis.T @ x.T @ (split.y - centre) / len(x)
    return [
        (split.x_test - mean) @ (basis @ (product / (np.maximum(values, 0) + strength)[:, None]))
        + centre
        for strength in strengths
    ]


def _logistic(split: Split, strengths: tuple[float, ...]) -> list[np.ndarray]:
    """Predictions for the test rows, for each strength, every category weighing the same."""
    guesses: list[np.ndarray] = []
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(class_weight="balanced", max_iter=_ITERATIONS, warm_start=True)
        for strength in strengths:
            model.C = 1 / (strength * len(split.x))
            guesses.append(model.fit(split.x, split.y).predict(split.x_test))
    return guesses


def _target(attribute: Attribute) -> np.ndarray:
    return attribute.values if attribute.kind == "category" else attribute.target()


def _check_known(ours: Attribute, theirs: Attribute) -> None:
    for part, column in (("training", ours), ("test", theirs)):
        values = column.values[column.known]
        if len(values) < _LEAST or len(np.unique(values)) < 2:
            raise DataError(
                f"The attribute {column.name} is known of {len(values)} {part} images and takes "
                f"{len(np.unique(values))} values there; at least {_LEAST} images and 2 values are "
                "needed to tell how readable it is. Leave the column out."
            )
    several = np.unique(ours.values[ours.known], return_counts=True)[1] > 1
    if ours.kind == "category" and several.sum() < 2:
        raise DataError(
            f"The attribute {ours.name} has {several.sum()} categories of at least 2 training "
            "images; 2 are needed to choose a probe that tells them apart. Merge rare ones, or "
            "leave the column out."
        )
    if ours.kind == "category" and set(np.unique(theirs.values[theirs.known])) - set(ours.values):
        raise DataError(
            f"The attribute {ours.name} has categories among test images that no training image "
            "has. Merge rare ones, or leave the column out."
        )


def _check_content(content: tuple[str, ...], names: list[str]) -> None:
    for name in content:
        if name not in names:
            raise DataError(
                f"--nuisance.content names {name!r}, but the attributes are {', '.join(names)}."
            )
