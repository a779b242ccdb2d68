"""Weighted k-nearest-neighbour accuracy of frozen features (Wu et al. 2018, section 3.4).

Similarity is the cosine; each of the k most similar images of the bank votes for its class with
weight exp(cosine / temperature). Nothing is trained, nothing is chosen on the test images.
Accuracies are shares, 0 to 1.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from squint.errors import DataError, RecipeError
from squint.evaluate.bench import Bench
from squint.evaluate.labels import Labels, require
from squint.ops.products import times_transposed


def measured(bench: Bench) -> dict[str, Any]:
    """The protocol: `knn_top1` of the test part among the train part."""
    options = bench.options.knn
    values = {
        which: knn_top1(
            *bench.features(which)[0],
            *bench.features(which)[1],
            k=options.k,
            temperature=options.temperature,
            num_classes=bench.classes,
            device=bench.device,
        )
        for which in bench.kinds
    }
    protocol = knn_protocol(
        k=options.k,
        temperature=options.temperature,
        bank_images=len(bench.features()[0].labels),
    )
    return {"knn_top1": bench.entry(values, protocol)}


def knn_top1(
    train_features: Float[Tensor, "k f"],
    train_labels: Labels,
    test_features: Float[Tensor, "n f"],
    test_labels: Labels,
    *,
    k: int = 200,
    temperature: float = 0.1,
    num_classes: int,
    device: torch.device | str = "cpu",
) -> float:
    """Share of test images whose class wins the vote of their neighbours in train, 0 to 1.

    Of classes with equal votes the one with the lowest number wins.

    Args:
        train_features: the bank.
        train_labels: classes of the bank.
        test_features: images to be classified.
        test_labels: their classes.
        k: neighbours; at most the whole bank is used.
        temperature: of the votes, above 0. 0.1 with k 200 in lightly; 0.07 with k 20 in
            solo-learn.
        num_classes: labels are from 0 to num_classes - 1.
        device: where similarities are computed, in blocks; features may lie elsewhere.

    Raises:
        DataError: labels are absent or out of range.
        RecipeError: k or temperature is out of range.
    """
    bank_classes = _classes(train_labels, len(train_features), num_classes, "the train split")
    truth = _classes(test_labels, len(test_features), num_classes, "the test split")
    _check(k, temperature)
    k = min(k, len(train_features))
    cosines, rows = neighbors(test_features, train_features, k=k, device=device)
    return _share_right(cosines, bank_classes[rows], truth, temperature, num_classes)


def knn_protocol(*, k: int, temperature: float, bank_images: int) -> str:
    """All that decides the number, in one line, to be printed beside it.

    Args:
        k: neighbours asked for.
        temperature: of the votes.
        bank_images: images in the bank.
    """
    used = f"k={k}" if k <= bank_images else f"k={bank_images} (asked {k}, there are no more)"
    return (
        f"kNN top-1: l2-normalised encoder features, cosine, {used}, votes "
        f"exp(cosine / {temperature:g}), test images among {bank_images} train images, evaluation "
        "view, last weights"
    )


def neighbors(
    queries: Float[Tensor, "n f"],
    bank: Float[Tensor, "k f"],
    *,
    k: int,
    device: torch.device | str = "cpu",
    query_rows: int | None = None,
    bank_rows: int = 16384,
) -> tuple[Float[Tensor, "n neighbours"], Int[Tensor, "n neighbours"]]:
    """The nearest rows of a bank: cosines, highest first, and row numbers, on the CPU.

    Works in blocks of query_rows by bank_rows and keeps the nearest so far, so memory beyond the
    result is a few times 4 * bank_rows * (query_rows + f) bytes, whatever the sizes. The result is
    the same on every run; which of several equally similar rows comes last is not defined.

    Args:
        queries: features, any scale.
        bank: features, any scale.
        k: neighbours, from 1 to the rows of the bank.
        device: where similarities are computed.
        query_rows: rows of a block; default: 256 on a CPU, 4,096 elsewhere.
        bank_rows: columns of a block.
    """
    assert 1 <= k <= len(bank), f"{k} neighbors of {len(bank)} rows"
    if query_rows is None:
        query_rows = 256 if torch.device(device).type == "cpu" else 4096
    cosines = torch.full((len(queries), k), -torch.inf, device=device)
    rows = torch.zeros(len(queries), k, dtype=torch.int64, device=device)
    for first in range(0, len(bank), bank_rows):
        block = _unit(bank[first : first + bank_rows], device)  # (bank_rows, f)
        for start in range(0, len(queries), query_rows):
            part = slice(start, min(start + query_rows, len(queries)))
            wanted = _unit(queries[part], device)  # (query_rows, f)
            similar = times_transposed(wanted, block)  # (query_rows, bank_rows)
            cosines[part], rows[part] = _better(cosines[part], rows[part], similar, first)
    return cosines.cpu(), rows.cpu()


def _better(best: Tensor, rows: Tensor, similar: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """The nearest so far and of a block, whose columns are the bank's rows from `first` on."""
    k = best.shape[1]
    if first == 0:
        top, columns = similar.topk(min(k, similar.shape[1]), dim=1)
    else:
        top, columns = _above(similar, best[:, -1:])
    both = torch.cat([best, top], dim=1)  # (query_rows, neighbours + few)
    both_rows = torch.cat([rows, columns + first], dim=1)
    best, order = both.topk(k, dim=1)
    return best, both_rows.gather(1, order)


def _above(similar: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
    """Each row's entries above its `least`, and their columns; shorter rows end in -inf.

    Only few are, once a part of the bank has been searched: cheaper than a topk of every block.
    """
    row, column = (similar > least).nonzero().unbind(1)
    counts = torch.bincount(row, minlength=len(similar))
    place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    width = int(counts.max()) if len(counts) else 0
    top = similar.new_full((len(similar), width), -torch.inf)
    columns = row.new_zeros(len(similar), width)
    top[row, place] = similar[row, column]
    columns[row, place] = column
    return top, columns


def _unit(features: Tensor, device: torch.device | str) -> Tensor:
    return F.normalize(features.to(device, torch.float32), dim=1)


def _share_right(
    cosines: Tensor, votes: Tensor, truth: Tensor, temperature: float, num_classes: int
) -> float:
    # weights relative to the nearest neighbour's: the same winner, no overflow at low temperature
    weights = ((cosines - cosines[:, :1]) / temperature).exp()  # (n, neighbours)
    scores = torch.zeros(len(cosines), num_classes).scatter_add_(1, votes, weights)
    return (scores.argmax(dim=1) == truth).double().mean().item()


def _classes(labels: Labels, images: int, num_classes: int, what: str) -> Tensor:
    known = require(labels, images=images, what=what)
    if int(known.max()) >= num_classes:
        raise DataError(
            f"Label {int(known.max())} of {what} is not below num_classes={num_classes}. Train and "
            "test labels must index one list of classes; give its length."
        )
    return known


def _check(k: int, temperature: float) -> None:
    if k < 1:
        raise RecipeError(f"k={k} neighbours can't vote: k must be at least 1, usually 20 to 200.")
    if temperature <= 0:
        raise RecipeError(f"temperature={temperature} of kNN must be above 0, usually 0.1.")
