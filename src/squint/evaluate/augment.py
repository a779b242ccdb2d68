"""Random crops and flips of labelled images: what supervised protocols train on."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from squint.data import Images, Unreadable
from squint.evaluate.inputs import stock_of
from squint.evaluate.parts import check_labels
from squint.views import TwoViews
from squint.views.recipes import Blur, Crop, Jitter, View, ViewsConfig

_THREADS = 8


class Crops:
    """Random resized crops (8 to 100 % of the area) and flips at the evaluation size, no colour.

    A function of (seed, epoch, image) alone. An unreadable image is black.

    Raises:
        DataError: the images have no labels.
    """

    def __init__(
        self, images: Images, views: ViewsConfig, *, seed: int, device: torch.device
    ) -> None:
        check_labels(images)
        plain = View(
            crop=Crop(interpolation=views.evaluation.interpolation),
            jitter=Jitter(probability=0.0),
            gray=0.0,
            blur=Blur(probability=0.0),
        )
        config = dataclasses.replace(views, size=views.evaluation.size, first=plain, second=plain)
        self._views = TwoViews(config, seed=seed)
        self._stock = stock_of(images, None)
        self._device = device
        labels = self._stock.images.labels
        assert labels is not None, "checked above"
        self.labels: Int[Tensor, " k"] = torch.from_numpy(labels)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, rows: Int[Tensor, " n"], epoch: int) -> Float[Tensor, "n c s s"]:
        """The crops of these images in this epoch, normalised, on the device."""
        if self._stock.pixels is not None:
            chunk = self._stock.pixels[self._stock.rows[rows.numpy()]]  # (n, h, w, c)
            pixels = torch.from_numpy(np.ascontiguousarray(chunk.transpose(0, 3, 1, 2)))
            return self._views(pixels.to(self._device), rows, epoch)[0]
        with ThreadPoolExecutor(_THREADS) as threads:
            crops = torch.stack(
                list(threads.map(lambda row: self._crop(row, epoch), rows.tolist()))
            )
        return self._views.finish(crops.to(self._device), rows, epoch)[0]

    def _crop(self, row: int, epoch: int) -> Tensor:
        images = self._stock.images
        try:
            return self._views.crops_of_picture(images.picture(row), row, epoch)
        except Unreadable:
            black = torch.zeros(images.channels, 32, 32, dtype=torch.uint8)
            return self._views.crops(black, row, epoch)
