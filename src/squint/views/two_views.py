"""Two views of every image, and the one view evaluation sees.

Packed images of one size take one call, on the device they lie on. Files of varied sizes take
two: a loader worker crops, the device does the rest.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from squint import shapes
from squint.shapes import Pixels, Rows
from squint.views.draw import draw, draw_box, draw_look
from squint.views.normalise import normalise
from squint.views.paths import PathName, Square, pick
from squint.views.recipes import Interpolation, View, ViewsConfig


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
            RecipeError: The normalisation does not fit the number of channels.
        """
        path = pick(self.path, pixels.device)
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
            return path.apply(pixels, params, view, self.config, self.memory_format)

        return show(self.config.first, 0), show(self.config.second, 1)

    @torch.no_grad()
    def crops(
        self, image: UInt8[Tensor, "c h w"], index: int, epoch: int
    ) -> UInt8[Tensor, "2 c s s"]:
        """The crops of both views of one image, resized but not yet flipped, for `finish`.

        Runs in a loader worker. Same boxes as the packed path; pixels differ from it by rounding
        to whole grey levels, and by a few levels where bicubic overshoots black or white.
        """
        return torch.stack(
            [
                self._crop(image, self.config.first, 0, index, epoch),
                self._crop(image, self.config.second, 1, index, epoch),
            ]
        )  # (2, c, s, s)

    @torch.no_grad()
    def finish(
        self, crops: UInt8[Tensor, "n 2 c s s"], index: Rows, epoch: int
    ) -> tuple[Square, Square]:
        """What `crops` left to do for a batch of its results, where they lie.

        Raises:
            RecipeError: The normalisation does not fit the number of channels.
        """
        path = pick(self.path, crops.device)

        def show(view: View, number: shapes.View) -> Square:
            look = draw_look(view, index, seed=self.seed, epoch=epoch, view_number=number)
            look = look.to(crops.device)
            return path.apply_look(crops[:, number], look, view, self.config, self.memory_format)

        return show(self.config.first, 0), show(self.config.second, 1)

    def _crop(
        self, image: UInt8[Tensor, "c h w"], view: View, number: shapes.View, index: int, epoch: int
    ) -> UInt8[Tensor, "c s s"]:
        box = draw_box(
            view.crop,
            torch.tensor([index]),
            seed=self.seed,
            epoch=epoch,
            view_number=number,
            height=image.shape[1],
            width=image.shape[2],
        )
        top, left, height, width = (int(side) for side in box)
        return _resize(
            image[:, top : top + height, left : left + width],
            self.config.size,
            view.crop.interpolation,
        )


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
        """
        recipe = self.config.evaluation
        height, width = pixels.shape[-2:]
        side = max(1, round(recipe.crop * min(height, width)))
        square = _torchvision().center_crop(pixels, [side, side])  # (*n, c, side, side)
        return _resize(square, recipe.size, recipe.interpolation)

    @torch.no_grad()
    def normalised(self, square: UInt8[Tensor, "*n c s s"]) -> Float[Tensor, "*n c s s"]:
        """A square in the recipe's normalisation.

        Raises:
            RecipeError: The normalisation does not fit the number of channels.
        """
        images = square.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
        return normalise(images, self.config)


def eval_view(
    config: ViewsConfig,
) -> Callable[[UInt8[Tensor, "*n c h w"]], Float[Tensor, "*n c s s"]]:
    """The evaluation transform of a recipe, for one image `(c, h, w)` or many `(n, c, h, w)`."""
    return EvaluationView(config)


def _resize(
    pixels: UInt8[Tensor, "*n c h w"], size: int, interpolation: Interpolation
) -> UInt8[Tensor, "*n c s s"]:
    if pixels.shape[-2:] == (size, size):
        return pixels
    torchvision = _torchvision()
    mode = torchvision.InterpolationMode(interpolation)
    return torchvision.resize(pixels, [size, size], mode, antialias=True)


def _torchvision() -> Any:
    """Its functions, loaded on first use: they bring torch's compiler, seconds of start-up."""
    return import_module("torchvision.transforms.v2.functional")
