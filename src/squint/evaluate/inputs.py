"""From a source to what a protocol compares: features with labels, or pairs of held-out views."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from squint.data import Images, Unreadable, pack, permutation
from squint.data.picture import Picture
from squint.device import Precision
from squint.errors import DataError
from squint.evaluate.corruptions.constants import LEAST_SIDE
from squint.evaluate.features import extract
from squint.evaluate.labels import Classes
from squint.evaluate.parts import check_labels
from squint.shapes import Image, Pixels, Rows
from squint.views import TwoViews
from squint.views.recipes import ViewsConfig
from squint.views.two_views import EvaluationView

BATCH = 500
"""Images that pass through an encoder at once."""

Made = TypeVar("Made")

_THREADS = 8


class Labelled(NamedTuple):
    """Features of the readable images, and their labels."""

    features: Float[Tensor, "k f"]
    labels: Int[Tensor, " k"]


class Seen(NamedTuple):
    """Features of the readable images, and these."""

    features: Float[Tensor, "k f"]
    images: Images


def labelled_features(
    encoder: nn.Module,
    images: Images,
    views: ViewsConfig,
    *,
    device: torch.device,
    limit: int | None = None,
    precision: Precision = "float32",
) -> Labelled:
    """Features of the evaluation view of every image, or of at most `limit` chosen at random.

    Raises:
        DataError: the images have no labels, or can't be read.
    """
    check_labels(images)
    seen = seen_features(encoder, images, views, device=device, limit=limit, precision=precision)
    return labelled(seen)


def labelled(seen: Seen) -> Labelled:
    """Features and labels of images that all have one."""
    labels = seen.images.labels
    assert labels is not None, "see check_labels"
    return Labelled(seen.features, torch.from_numpy(labels))


def seen_features(
    encoder: nn.Module,
    images: Images,
    views: ViewsConfig,
    *,
    device: torch.device,
    limit: int | None = None,
    precision: Precision = "float32",
) -> Seen:
    """As `labelled_features`, for images with or without labels.

    Raises:
        DataError: none of them, or of 500 in a row, can be read.
    """
    stock = stock_of(images, limit)
    view = EvaluationView(views)
    readable = torch.ones(len(stock.images), dtype=torch.bool)

    def batches() -> Iterator[Tensor]:
        if stock.pixels is not None:
            yield from (view(pixels) for _, pixels in _from_memory(stock))
            return
        for rows, views_of_images, good in _from_files(
            stock, lambda picture, _: view.normalised(view.square_of(picture))
        ):
            readable[rows] = good
            yield views_of_images

    features = extract(
        encoder, batches(), count=len(stock.images), device=device, precision=precision
    )
    if readable.all():
        return Seen(features, stock.images)
    return Seen(features[readable], stock.images.select(readable.numpy().nonzero()[0]))


def view_pairs(
    images: Images,
    views: ViewsConfig,
    *,
    device: torch.device,
    limit: int | None,
    epoch: int = 0,
) -> Iterator[tuple[Image, Image]]:
    """Two training views of each of at most `limit` images, batch by batch.

    They are the views of `epoch` under seed 0, whatever the run used. Unreadable images are left
    out.
    """
    two_views = TwoViews(views, seed=0)
    return batches_of(
        images,
        limit=limit,
        whole=lambda pixels, rows: two_views(pixels.to(device), rows, epoch),
        crop=lambda picture, row: two_views.crops_of_picture(picture, row, epoch),
        finish=lambda crops, rows: two_views.finish(crops.to(device), rows, epoch),
    )


def batches_of(
    images: Images,
    *,
    limit: int | None,
    whole: Callable[[Tensor, Tensor], Made],
    crop: Callable[[Picture, int], Tensor],
    finish: Callable[[Tensor, Tensor], Made],
) -> Iterator[Made]:
    """Something made of every batch of at most `limit` images; unreadable ones are left out.

    Args:
        images: a source.
        limit: images, chosen at random if there are more.
        whole: makes it of pixels (n, c, h, w) and their numbers (n,), where images are small.
        crop: else, the first step for one image and its number, in threads.
        finish: and the rest for a batch of crops and their numbers.
    """
    stock = stock_of(images, limit)
    if stock.pixels is not None:
        for rows, pixels in _from_memory(stock):
            yield whole(pixels, rows)
        return
    for rows, crops, good in _from_files(stock, crop):
        yield finish(crops[good], rows[good])


def squares(images: Images, views: ViewsConfig, *, limit: int) -> UInt8[Tensor, "n c s s"]:
    """The evaluation view of at most `limit` images in whole grey levels, not normalised.

    Unreadable images are left out.
    """
    view = EvaluationView(views)
    return torch.cat(
        list(
            batches_of(
                images,
                limit=limit,
                whole=lambda pixels, _: view.square(pixels),
                crop=lambda picture, _: view.square_of(picture),
                finish=lambda crops, _: crops,
            )
        )
    )


def corruptible(pixels: Tensor) -> bool:
    """Whether corruptions are defined for such images: RGB and not too small."""
    return pixels.shape[1] == 3 and pixels.shape[2] >= LEAST_SIDE


def labelled_squares(
    images: Images, views: ViewsConfig, *, limit: int | None
) -> Iterator[tuple[Rows, Pixels, Classes]]:
    """Numbers (n,), evaluation views before normalisation and labels (n,), batch by batch.

    Numbers are those among `images`, whatever the limit. Unreadable images are left out.

    Args:
        images: a source whose images all have labels, see `check_labels`.
        views: what the encoder sees.
        limit: images, chosen at random if there are more; None for all.

    Raises:
        DataError: none of them, or of 500 in a row, can be read.
    """
    stock = stock_of(images, limit)
    view = EvaluationView(views)
    numbers = torch.from_numpy(stock.rows)
    assert stock.images.labels is not None, "see check_labels"
    labels = torch.from_numpy(stock.images.labels)
    if stock.pixels is not None:
        for rows, pixels in _from_memory(stock):
            yield numbers[rows], view.square(pixels), labels[rows]
        return
    for rows, pixels, good in _from_files(stock, lambda picture, _: view.square_of(picture)):
        yield numbers[rows][good], pixels[good], labels[rows][good]


class Stock(NamedTuple):
    """Some images of a source, and their pixels if they are small."""

    images: Images
    pixels: np.ndarray | None
    rows: np.ndarray
    """(k,) row of each image in `pixels`."""


def stock_of(images: Images, limit: int | None) -> Stock:
    """All images, or at most `limit` chosen at random; of small ones only the readable."""
    packed = pack(images, max_unreadable_percent=100.0)  # as files: the unreadable are left out
    images = packed.images if packed else images
    rows = np.arange(len(images))
    if limit is not None and limit < len(rows):
        rows = np.sort(permutation(0, 0, len(rows))[:limit])
        images = images.select(rows)
    return Stock(images, np.asarray(packed.pixels) if packed else None, rows)


def _from_memory(stock: Stock) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows (n,) and pixels (n, c, h, w) of every image."""
    assert stock.pixels is not None, "only for packed images"
    for start in range(0, len(stock.rows), BATCH):
        chunk = stock.pixels[stock.rows[start : start + BATCH]]  # (n, h, w, c)
        pixels = torch.from_numpy(chunk).permute(0, 3, 1, 2).contiguous()  # (n, c, h, w)
        yield torch.arange(start, start + len(chunk)), pixels


def _from_files(
    stock: Stock, transform: Callable[[Picture, int], Tensor]
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Rows (n,), transformed images (n, …), and which could be read; the others are zeros."""

    def read(row: int) -> Tensor | None:
        try:
            return transform(stock.images.picture(row), row)
        except Unreadable:
            return None

    with ThreadPoolExecutor(_THREADS) as threads:
        for start in range(0, len(stock.images), BATCH):
            rows = range(start, min(start + BATCH, len(stock.images)))
            read_ones = list(threads.map(read, rows))
            good = torch.tensor([image is not None for image in read_ones])
            blank = next((torch.zeros_like(i) for i in read_ones if i is not None), None)
            if blank is None:
                raise DataError(
                    f"None of {len(rows)} images of {stock.images.name} in a row can be read. "
                    "Check the source; `squint pretrain` lists unreadable images."
                )
            images = torch.stack([blank if image is None else image for image in read_ones])
            yield torch.tensor(rows), images, good
