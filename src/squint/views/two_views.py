"""Two views of every image, and the one view evaluation sees.

Packed images of one size take one call, where they lie; files of varied sizes take two: a loader
worker crops, the device does the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from squint import native, shapes
from squint.data.picture import Part, Picture, Reduction
from squint.errors import DataError
from squint.native.resize import Window, crop_resize
from squint.shapes import Pixels, Rows
from squint.views import resize as reference
from squint.views.draw import Box, Boxes, WholeBox, draw, draw_box, draw_look
from squint.views.normalise import Square, normalise
from squint.views.paths import PathName, pick
from squint.views.recipes import Interpolation, View, ViewsConfig

LEAST_SHRINK = 2
"""Least ratio of a crop's sides, decoded at a reduced scale, to its view's: docs/views.md."""


class TwoViews:
    """Draws and applies the two views of each image: a function of (seed, epoch, image) alone.

    Picklable, without state; gradients are never recorded.

    Args:
        config: The recipe of both views.
        seed: Of every draw.
        path: Which code makes the views (see `squint.views.paths`); all give the same.
        memory_format: How views lie in memory.
    """

    def __init__(
        self,
        config: ViewsConfig,
        *,
        seed: int,
        path: PathName = "auto",
        memory_format: torch.memory_format = torch.contiguous_format,
    ):
        self.config = config
        self.seed = seed
        self.path: PathName = path
        self.memory_format = memory_format

    @torch.no_grad()
    def __call__(self, pixels: Pixels, index: Rows, epoch: int) -> tuple[Square, Square]:
        """The views of packed images, in the recipe's normalisation, where the pixels lie.

        Args:
            pixels: Images of one size.
            index: Number of each image in its source, on the pixels' device or on the CPU.
            epoch: Counted from 0.

        Raises:
            DataError: The pixels are no bytes.
            RecipeError: The normalisation does not fit the number of channels.
        """
        _check_bytes(pixels)
        backend = pick(self.path, pixels.device)
        height, width = pixels.shape[2:]

        def show(view: View, number: shapes.View) -> Square:
            params = draw(
                view,
                index,
                seed=self.seed,
                epoch=epoch,
                view_number=number,
                height=height,
                width=width,
            ).to(pixels.device)
            return backend.apply(pixels, params, view, self.config, self.memory_format)

        return show(self.config.first, 0), show(self.config.second, 1)

    @torch.no_grad()
    def crops(
        self, image: UInt8[Tensor, "c h w"], index: int, epoch: int
    ) -> UInt8[Tensor, "2 c s s"]:
        """The crops of both views of one decoded image, not yet flipped, for `finish`.

        Same boxes as the packed path; pixels differ from it by rounding to whole grey levels, and
        by a few levels where bicubic overshoots black or white.
        """
        height, width = image.shape[1:]
        (boxes,) = self._draw_boxes([index], epoch, [height], [width])
        return self._cut(Part(image.permute(1, 2, 0).numpy(), 0, 0, 1), boxes)

    @torch.no_grad()
    def boxes_of_pictures(
        self, pictures: Sequence[Picture], index: Sequence[int], epoch: int
    ) -> Sequence[Boxes]:
        """Where `crops_of_picture` crops each picture; drawn as quickly for many as for one."""
        heights = [picture.height for picture in pictures]
        return self._draw_boxes(index, epoch, heights, [picture.width for picture in pictures])

    @torch.no_grad()
    def crops_of_picture(
        self, picture: Picture, index: int, epoch: int, boxes: Boxes | None = None
    ) -> UInt8[Tensor, "2 c s s"]:
        """`crops` of a file: only the rows and columns that both crops need are decoded.

        Runs in a loader worker.

        Args:
            picture: The image.
            index: Its number in its source.
            epoch: Counted from 0.
            boxes: From `boxes_of_pictures` of the same; drawn here if not given.

        Raises:
            Unreadable: The picture is damaged there.
        """
        if boxes is None:
            (boxes,) = self.boxes_of_pictures([picture], [index], epoch)
        top, left = (min(box[side] for box in boxes) for side in (0, 1))
        bottom, right = (max(box[side] + box[side + 2] for box in boxes) for side in (0, 1))
        reduction = 1 if self.config.exact else reduction_of(boxes, self.config.size)
        part = picture.part(top, left, bottom - top, right - left, reduction)
        return self._cut(part, boxes)

    @torch.no_grad()
    def finish(
        self, crops: UInt8[Tensor, "n 2 c s s"], index: Rows, epoch: int
    ) -> tuple[Square, Square]:
        """Views of a batch of crops: flip, colours, blur and normalisation, where the crops lie.

        Raises:
            DataError: The crops are no bytes.
            RecipeError: The normalisation does not fit the number of channels.
        """
        _check_bytes(crops)
        backend = pick(self.path, crops.device)

        def show(view: View, number: shapes.View) -> Square:
            look = draw_look(view, index, seed=self.seed, epoch=epoch, view_number=number)
            look = look.to(crops.device)
            return backend.apply_look(crops[:, number], look, view, self.config, self.memory_format)

        return show(self.config.first, 0), show(self.config.second, 1)

    def _draw_boxes(
        self, index: Sequence[int], epoch: int, heights: Sequence[int], widths: Sequence[int]
    ) -> list[Boxes]:
        """Crop boxes of both views of images of these sizes."""
        numbers, h_image, w_image = torch.tensor([index, heights, widths], dtype=torch.int64)

        def drawn(view: View, number: shapes.View) -> list[WholeBox]:
            box = draw_box(
                view.crop,
                numbers,
                seed=self.seed,
                epoch=epoch,
                view_number=number,
                height=h_image,
                width=w_image,
            )
            top, left, height, width = (side.tolist() for side in box)
            return list(zip(top, left, height, width, strict=True))

        views = drawn(self.config.first, 0), drawn(self.config.second, 1)
        return list(zip(*views, strict=True))

    def _cut(self, part: Part, boxes: Boxes) -> UInt8[Tensor, "2 c s s"]:
        """Cut both crops out of a decoded image, or of a part of it, and resize them."""
        compiled = self.path in ("auto", "native") and native.library() is not None
        crop = crop_resize if compiled else _crop_resize
        image, size = tensor_of(part.pixels), self.config.size
        crops = image.new_empty(2, len(image), size, size)
        views = (self.config.first, self.config.second)
        for box, view, out in zip(boxes, views, crops, strict=True):
            crop(image, window_of(box, part), size, view.crop.interpolation, out=out)
        return crops


def _check_bytes(pixels: Tensor) -> None:
    if pixels.dtype != torch.uint8:
        raise DataError(f"Views are made of 8-bit pixels, these are {pixels.dtype}: give uint8.")


def reduction_of(boxes: Boxes, size: int) -> Reduction:
    """The scale to decode both crops at: their sides keep `LEAST_SHRINK` times the views' size."""
    shrink = min(side for box in boxes for side in box[2:]) / size
    reductions: tuple[Reduction, ...] = (8, 4, 2)
    for reduction in reductions:
        if shrink >= LEAST_SHRINK * reduction:
            return reduction
    return 1


def window_of(box: WholeBox, part: Part) -> Window:
    """A box of an image, in pixels of a part of it."""
    top, left, height, width = (side / part.reduction for side in box)
    return Window(top - part.top, left - part.left, height, width)


@dataclass(frozen=True)
class EvaluationView:
    """The deterministic view evaluation shows the encoder; picklable."""

    config: ViewsConfig

    @torch.no_grad()
    def __call__(self, pixels: UInt8[Tensor, "*n c h w"]) -> Float[Tensor, "*n c s s"]:
        """One image or packed images: `square`, then `normalised`.

        Raises:
            RecipeError: The normalisation does not fit the number of channels.
        """
        return self.normalised(self.square(pixels))

    @torch.no_grad()
    def square(self, pixels: UInt8[Tensor, "*n c h w"]) -> UInt8[Tensor, "*n c s s"]:
        """The central square, resized to the encoder's input.

        Its side is `evaluation.crop` of the shorter side. Images that have the wanted size
        already, and are kept whole, keep every pixel.

        # differs from the released codes: MoCo's resizes first and cuts then; SimCLR's and BYOL's
        # resize without antialiasing, and round the square's place up where ours rounds to even
        # (BYOL's also cuts its side off to whole pixels).
        """
        recipe = self.config.evaluation
        height, width = pixels.shape[-2:]
        side = max(1, round(recipe.crop * min(height, width)))
        square = _torchvision().center_crop(pixels, [side, side])  # (*n, c, side, side)
        return _resize(square, recipe.size, recipe.interpolation)

    @torch.no_grad()
    def square_of(self, picture: Picture) -> UInt8[Tensor, "c s s"]:
        """`square` of a picture, of which only that is decoded.

        Raises:
            Unreadable: The picture is damaged there.
        """
        recipe = self.config.evaluation
        side = max(1, round(recipe.crop * min(picture.height, picture.width)))
        top, left = (round((length - side) / 2) for length in (picture.height, picture.width))
        square = tensor_of(picture.window(top, left, side, side))
        return _resize(square, recipe.size, recipe.interpolation)

    @torch.no_grad()
    def normalised(self, square: UInt8[Tensor, "*n c s s"]) -> Float[Tensor, "*n c s s"]:
        """A square in the recipe's normalisation.

        Raises:
            RecipeError: The normalisation does not fit the number of channels.
        """
        images = square.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
        return normalise(images, self.config)


def tensor_of(pixels: UInt8[np.ndarray, "h w c"]) -> UInt8[Tensor, "c h w"]:
    """Decoded pixels as a tensor, on the same memory if it may be written to."""
    return torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy()).permute(2, 0, 1)


def _resize(
    pixels: UInt8[Tensor, "*n c h w"], size: int, interpolation: Interpolation
) -> UInt8[Tensor, "*n c s s"]:
    if pixels.shape[-2:] == (size, size):
        return pixels
    torchvision = _torchvision()
    mode = torchvision.InterpolationMode(interpolation)
    return torchvision.resize(pixels, [size, size], mode, antialias=True)


def _crop_resize(
    image: UInt8[Tensor, "c h w"],
    window: Window,
    size: int,
    interpolation: Interpolation,
    *,
    out: UInt8[Tensor, "c s s"],
) -> None:
    """`native.resize.crop_resize` without the kernels: torchvision for whole pixels, or ours."""
    if all(side.is_integer() for side in window):
        top, left, height, width = map(int, window)
        out.copy_(_resize(image[:, top : top + height, left : left + width], size, interpolation))
        return
    box = Box(*(torch.tensor([side]) for side in window))
    x = reference.crop_resize(image[None].float(), box, torch.tensor([False]), size, interpolation)
    out.copy_(x[0].round().clamp(0, 255))


def _torchvision() -> Any:
    """Its functions, loaded on first use: they bring torch's compiler, seconds of start-up."""
    return import_module("torchvision.transforms.v2.functional")
