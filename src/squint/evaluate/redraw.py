"""Pairs of views that differ in one augmentation alone.

Both views of a pair follow the same recipe, of the first or of the second view, and share every
random number but those of one augmentation, which is drawn anew for the second (epoch 1 in place
of epoch 0, seed 0). What a code pays for such a pair, beyond what it pays for two equal views, is
what that augmentation costs it.
"""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from squint import shapes
from squint.data import Images
from squint.data.picture import Picture
from squint.evaluate.inputs import batches_of
from squint.shapes import Image, Rows
from squint.views import TwoViews
from squint.views.apply import apply, apply_look
from squint.views.draw import Look, Params, draw, draw_look
from squint.views.normalise import normalise
from squint.views.recipes import View, ViewsConfig
from squint.views.two_views import tensor_of

Pair = tuple[Image, Image]

NOTHING, EVERYTHING = "nothing", "everything"

_FIELDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "flip": ("flip",),
        "jitter": ("jitter", "brightness", "contrast", "saturation", "hue", "order"),
        "gray": ("gray",),
        "blur": ("blur", "sigma"),
        "solarize": ("solarize",),
    }
)
"""Fields of `Look` that belong to each augmentation; the crop has the box."""


def augmentations(views: ViewsConfig) -> tuple[str, ...]:
    """Those that can happen in one of the two views, in the order of application."""
    return tuple(
        name
        for name in ("crop", *_FIELDS)
        if any(_can_happen(name, view) for view in (views.first, views.second))
    )


def recipes(views: ViewsConfig) -> tuple[shapes.View, ...]:
    """Numbers of the views that have a recipe of their own: one where both follow the same."""
    return (0,) if views.first == views.second else (0, 1)


def redrawn_pairs(
    images: Images, views: ViewsConfig, *, device: torch.device, limit: int
) -> Iterator[dict[str, Pair]]:
    """For every batch, the pairs by what was drawn anew: nothing, each augmentation, everything.

    With two recipes all batches come twice, once in each. Batches as in `batches_of`.
    """
    for number in recipes(views):
        view = views.first if number == 0 else views.second
        maker = _Maker(views, view, number, device)
        yield from batches_of(
            images, limit=limit, whole=maker.whole, crop=maker.crop, finish=maker.finish
        )


class _Maker:
    """Makes the pairs of a batch from pixels, or from crops that worker threads made."""

    def __init__(
        self, views: ViewsConfig, view: View, number: shapes.View, device: torch.device
    ) -> None:
        self._views, self._view, self._device = views, view, device
        self._number: shapes.View = number
        self._two_views = TwoViews(views, seed=0)

    @torch.no_grad()
    def whole(self, pixels: Tensor, rows: Rows) -> dict[str, Pair]:
        """Pairs of packed images."""
        images = pixels.to(self._device).float().div_(255)
        height, width = images.shape[2:]
        old, new = (
            draw(
                self._view,
                rows,
                seed=0,
                epoch=epoch,
                view_number=self._number,
                height=height,
                width=width,
            ).to(self._device)
            for epoch in (0, 1)
        )

        def show(new_crop: bool, look: Look) -> Image:
            params = Params(new.box if new_crop else old.box, look)
            return apply(images, params, self._view, self._views.size)

        return self._pairs(old.look, new.look, show)

    def crop(self, picture: Picture, row: int) -> Tensor:
        """The old and the new crop of one image, (2, c, s, s)."""
        image = tensor_of(picture.window(0, 0, picture.height, picture.width))
        crops = [self._two_views.crops(image, row, epoch)[self._number] for epoch in (0, 1)]
        return torch.stack(crops)

    @torch.no_grad()
    def finish(self, crops: Tensor, rows: Rows) -> dict[str, Pair]:
        """Pairs of images already cropped."""
        images = crops.to(self._device).float().div_(255)  # (n, 2, c, s, s)
        old, new = (
            draw_look(self._view, rows, seed=0, epoch=epoch, view_number=self._number).to(
                self._device
            )
            for epoch in (0, 1)
        )

        def show(new_crop: bool, look: Look) -> Image:
            return apply_look(images[:, int(new_crop)], look, self._view)

        return self._pairs(old, new, show)

    def _pairs(self, old: Look, new: Look, show: Callable[[bool, Look], Image]) -> dict[str, Pair]:
        def finished(new_crop: bool, look: Look) -> Image:
            return normalise(show(new_crop, look), self._views)

        first = finished(False, old)
        pairs = {NOTHING: (first, first)}
        for name in augmentations(self._views):
            fields = {field: getattr(new, field) for field in _FIELDS.get(name, ())}
            pairs[name] = first, finished(name == "crop", old._replace(**fields))
        return pairs | {EVERYTHING: (first, finished(True, new))}


def _can_happen(name: str, view: View) -> bool:
    jitter = view.jitter
    return {
        "crop": True,
        "flip": view.flip > 0,
        "jitter": jitter.probability > 0
        and any((jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)),
        "gray": view.gray > 0,
        "blur": view.blur.probability > 0,
        "solarize": view.solarize > 0,
    }[name]
