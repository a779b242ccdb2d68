"""A look at the encoder while it trains: kNN on a part of the labelled images."""

from collections.abc import Callable

from torch import nn

from squint.data import Images
from squint.evaluate.inputs import labelled_features
from squint.evaluate.knn import knn_top1
from squint.evaluate.parts import halves
from squint.recipe import Recipe
from squint.train.compiling import not_compiled
from squint.train.runtime import Runtime

BANK, QUERIES = 5_000, 1_000
"""At most so many images are compared; `squint evaluate` compares all."""


def online_knn(
    encoder: nn.Module, images: Images, recipe: Recipe, runtime: Runtime
) -> Callable[[], float] | None:
    """A function that gives the encoder's present kNN accuracy, or None without labels.

    k = 20, temperature 0.1, `BANK` images of the train part and `QUERIES` of the test part: a
    sign of life while training, not a result. Runs on the first rank only.
    """
    if images.labels is None or not recipe.train.knn_every_epochs or not runtime.is_main:
        return None
    train, test, _ = halves(images)
    if min(len(train), len(test)) < 2:
        return None

    def measure() -> float:
        with not_compiled(encoder, recipe):
            bank, queries = (
                labelled_features(encoder, part, recipe.views, device=runtime.device, limit=limit)
                for part, limit in ((train, BANK), (test, QUERIES))
            )
        return knn_top1(*bank, *queries, k=20, temperature=0.1, num_classes=len(images.classes))

    return measure
