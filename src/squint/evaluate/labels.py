"""Labels as every protocol that compares predictions with them needs them."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from squint.errors import DataError

Labels = Int[np.ndarray, " _"] | Int[Tensor, " _"] | None
"""Class per image, from 0; None where a source has no labels."""

Classes = Int[Tensor, " n"]
"""Class of each image, from 0."""


def require(labels: Labels, *, images: int, what: str) -> Int[Tensor, " rows"]:
    """Labels as int64 on the CPU, one per image.

    Args:
        labels: as the source gives them.
        images: how many there must be.
        what: the images' name in messages, for instance "the train split".

    Raises:
        DataError: there are none, or some images lack one.
    """
    if labels is None:
        raise DataError(
            f"{_capital(what)} has no labels, but this protocol counts how often predicted and "
            "true class agree. Sort the images into one folder per class, or choose a protocol "
            "that needs none, such as compression."
        )
    known = torch.as_tensor(labels, dtype=torch.int64, device="cpu")
    assert len(known) == images, f"{len(known)} labels for {images} images of {what}"
    missing = int((known < 0).sum())
    if missing or not images:
        raise DataError(
            f"{missing} of {images} images of {what} have no label; every image needs one, and at "
            "least one image is needed. Evaluate on the labelled images only."
        )
    return known


def check_classes(train: np.ndarray, test: np.ndarray, names: Sequence[str] = ()) -> None:
    """Refuse labels that nothing can be learned from.

    Args:
        train: classes of the images to learn from.
        test: classes of the images to be named.
        names: of the classes, for messages.

    Raises:
        DataError: train has one class only, or lacks a class of test.
    """
    classes = np.unique(train)
    known = [names[label] if len(names) else str(label) for label in range(int(test.max()) + 1)]
    if len(classes) < 2:
        raise DataError(
            f"All {len(train)} train images are of one class: a classifier needs at least two. "
            "Check the class folders of the train split."
        )
    missing = np.setdiff1d(test, classes)
    if len(missing):
        shown = ", ".join(known[label] for label in missing[:10])
        raise DataError(
            f"{len(missing)} of {len(np.unique(test))} classes of the test images never occur "
            f"among the train images ({shown}): no classifier can name them. Use the same classes "
            "in both splits or, without splits, give several images of every class."
        )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
