"""Random parameters of a view, drawn apart from being applied.

Every number is a hash of (seed, epoch, view, image index, which draw) and of nothing else: the
views of an image do not depend on its batch, on workers or ranks, or on how often a run was
interrupted, and a slow and a fast way to apply them can be fed the same draw.
"""

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from squint import shapes
from squint.device import send
from squint.shapes import Rows
from squint.views.recipes import TENSORFLOW_LEAST_AREA, Crop, Jitter, View
from squint.views.uniform import stream, uniform

TORCHVISION_TRIES = 10
# differs from TensorFlow's sampler, which tries 100 times: on images up to 3:1 fewer than one box
# in 1e12 would need a 17th try (a try fails with probability below 0.17).
TENSORFLOW_TRIES = 16


class Box(NamedTuple):
    """Crop box per image, in whole pixels of the source image."""

    top: Int[Tensor, " n"]
    left: Int[Tensor, " n"]
    height: Int[Tensor, " n"]
    width: Int[Tensor, " n"]


WholeBox = tuple[int, int, int, int]
"""Top, left, height and width of one crop, in whole pixels of the source image."""

Boxes = tuple[WholeBox, WholeBox]
"""Where the first and the second view of an image lie."""


class Look(NamedTuple):
    """What happens to each image after the crop, in the order of the fields."""

    flip: Bool[Tensor, " n"]
    jitter: Bool[Tensor, " n"]
    """Whether the four colour operations happen at all."""
    brightness: Float[Tensor, " n"]
    """Factor; for the byol form, what is added."""
    contrast: Float[Tensor, " n"]
    saturation: Float[Tensor, " n"]
    hue: Float[Tensor, " n"]
    """Turns of the hue circle, -0.5 to 0.5."""
    order: Int[Tensor, "n 4"]
    """Which operation comes first, second, ...: 0 brightness, 1 contrast, 2 saturation, 3 hue."""
    gray: Bool[Tensor, " n"]
    blur: Bool[Tensor, " n"]
    sigma: Float[Tensor, " n"]
    """Standard deviation of the blur, in pixels of the view."""
    solarize: Bool[Tensor, " n"]

    def to(self, device: torch.device) -> "Look":
        """The same on `device`."""
        return Look(*_sent(self, device))


class Params(NamedTuple):
    """Everything that is random about one view of each image."""

    box: Box
    look: Look

    def to(self, device: torch.device) -> "Params":
        """The same on `device`."""
        fields = _sent((*self.box, *self.look), device)
        return Params(Box(*fields[: len(self.box)]), Look(*fields[len(self.box) :]))


class Draw(IntEnum):
    """Number of each draw. Append only: another number is another random view everywhere."""

    FLIP = 0
    JITTER = 1
    BRIGHTNESS = 2
    CONTRAST = 3
    SATURATION = 4
    HUE = 5
    ORDER = 6  # four draws
    GRAY = 10
    BLUR = 11
    SIGMA = 12
    SOLARIZE = 13
    TOP = 14
    LEFT = 15
    TRIES = 16  # two draws per try


def draw(
    view: View,
    index: Rows,
    *,
    seed: int,
    epoch: int,
    view_number: shapes.View,
    height: int | Rows,
    width: int | Rows,
) -> Params:
    """Draws the parameters of one view of each image, on the device of `index`.

    Args:
        view: What may happen, with which probability and range.
        index: Number of each image in its source: the same image, the same draw.
        seed: Of the run; any signed 64-bit integer.
        epoch: Counted from 0.
        view_number: 0 or 1.
        height: Of the source images in pixels, one for all or one per image.
        width: As `height`.
    """
    box = draw_box(
        view.crop,
        index,
        seed=seed,
        epoch=epoch,
        view_number=view_number,
        height=height,
        width=width,
    )
    return Params(box, draw_look(view, index, seed=seed, epoch=epoch, view_number=view_number))


def draw_box(
    crop: Crop,
    index: Rows,
    *,
    seed: int,
    epoch: int,
    view_number: shapes.View,
    height: int | Rows,
    width: int | Rows,
) -> Box:
    """Draws the crop box of each image: the first of several random boxes that fits into it.

    If none fits, torchvision's law (`log_uniform`) takes the largest central box of allowed
    ratio, TensorFlow's (`uniform`) the whole image. BYOL's (`byol`) draws one box and cuts off
    what does not fit. Arguments as for `draw`.
    """
    # float64, so that devices whose exp and sqrt differ in the last bit round to the same pixel
    h_image = _per_image(height, index)[:, None]  # (n, 1)
    w_image = _per_image(width, index)[:, None]  # (n, 1)
    law, tries = {
        "log_uniform": (_torchvision_boxes, TORCHVISION_TRIES),
        "uniform": (_tensorflow_boxes, TENSORFLOW_TRIES),
        "byol": (_byol_boxes, 1),
    }[crop.ratio_law]
    key = stream(seed, epoch, view_number)
    place, shape = uniform(key, index, Draw.TOP, 2 + 2 * tries).split([2, 2 * tries], dim=1)
    h, w, fits = law(crop, shape, h_image, w_image)  # (n, boxes), the last fits always
    first = fits.int().argmax(dim=1, keepdim=True)  # (n, 1)
    h, w = h.gather(1, first), w.gather(1, first)  # (n, 1)

    free = torch.cat([h_image - h, w_image - w], dim=1)  # (n, 2)
    # TensorFlow never draws the last position
    place = place * (free if crop.ratio_law == "uniform" else free + 1)
    top, left = torch.where(first == tries, free / 2, place).floor().long().unbind(1)  # (n,)
    return Box(top, left, h[:, 0].long(), w[:, 0].long())


def draw_look(view: View, index: Rows, *, seed: int, epoch: int, view_number: shapes.View) -> Look:
    """Draws what happens to each image after the crop. Arguments as for `draw`."""
    u = uniform(stream(seed, epoch, view_number), index, 0, Draw.TOP)  # (n, draws)
    jitter = view.jitter
    return Look(
        flip=u[:, Draw.FLIP] < view.flip,
        jitter=u[:, Draw.JITTER] < jitter.probability,
        brightness=_between(u[:, Draw.BRIGHTNESS], *_brightness_range(jitter)).float(),
        contrast=_between(u[:, Draw.CONTRAST], *_factor_range(jitter.contrast)).float(),
        saturation=_between(u[:, Draw.SATURATION], *_factor_range(jitter.saturation)).float(),
        hue=_between(u[:, Draw.HUE], -jitter.hue, jitter.hue).float(),
        order=u[:, Draw.ORDER : Draw.ORDER + 4].argsort(dim=1, stable=True),
        gray=u[:, Draw.GRAY] < view.gray,
        blur=u[:, Draw.BLUR] < view.blur.probability,
        sigma=_between(u[:, Draw.SIGMA], *view.blur.sigma).float(),
        solarize=u[:, Draw.SOLARIZE] < view.solarize,
    )


Tries = tuple[Float64[Tensor, "n t"], Float64[Tensor, "n t"], Bool[Tensor, "n t"]]
Side = Float64[Tensor, "n 1"]


def _torchvision_boxes(
    crop: Crop, u: Float64[Tensor, "n u"], h_image: Side, w_image: Side
) -> Tries:
    """Heights, widths and whether they fit, per try (torchvision, RandomResizedCrop.get_params)."""
    h, w = _log_uniform(crop, u, h_image, w_image)  # (n, tries)
    fits = (h > 0) & (w > 0) & (h <= h_image) & (w <= w_image)

    # differs from torchvision, whose last resort may have no rows: a side has one pixel at least
    ratio = (w_image / h_image).clamp(*crop.ratio)
    h_else = torch.minimum(h_image, (w_image / ratio).round().clamp(min=1))
    w_else = torch.minimum(w_image, (h_image * ratio).round().clamp(min=1))
    return _with_last_resort(h, w, fits, h_else, w_else)


def _byol_boxes(crop: Crop, u: Float64[Tensor, "n u"], h_image: Side, w_image: Side) -> Tries:
    """One box per image, that of torchvision's first try, cut off (BYOL's utils/dataset.py).

    # differs from the released code: a side that rounds to nothing has one pixel.
    """
    h, w = _log_uniform(crop, u, h_image, w_image)  # (n, 1)
    h, w = torch.minimum(h.clamp(min=1), h_image), torch.minimum(w.clamp(min=1), w_image)
    return h, w, torch.ones_like(h, dtype=torch.bool)


def _log_uniform(
    crop: Crop, u: Float64[Tensor, "n u"], h_image: Side, w_image: Side
) -> tuple[Float64[Tensor, "n t"], Float64[Tensor, "n t"]]:
    """Heights and widths per try: area uniform, ratio log-uniform, whether or not they fit."""
    area = _between(u[:, 0::2], *crop.area) * h_image * w_image  # (n, tries)
    low, high = crop.ratio
    ratio = _between(u[:, 1::2], math.log(low), math.log(high)).exp()
    return (area / ratio).sqrt().round(), (area * ratio).sqrt().round()


def _tensorflow_boxes(crop: Crop, u: Float64[Tensor, "n u"], h_image: Side, w_image: Side) -> Tries:
    """Heights, widths and whether they fit, per try (sample_distorted_bounding_box_op.cc).

    The ratio is uniform, and so is the height between those of the least and the largest area;
    the area itself is not.
    """
    ratio = _between(u[:, 0::2], *crop.ratio)  # (n, tries)
    least, most = (share * h_image * w_image for share in crop.area)  # (n, 1)
    h_most = (most / ratio).sqrt().round()
    h_wide = ((w_image + 0.5) / ratio).ceil() - 1  # largest whose rounded width is in the image
    h_most = torch.where((h_most * ratio).round() > w_image, h_wide, h_most)
    h_most = torch.minimum(h_most, h_image)
    h_least = torch.minimum((least / ratio).sqrt().round(), h_most)
    h = h_least + (u[:, 1::2] * (h_most - h_least + 1)).floor()

    # a box that rounding pushed out of the area range gets one row more or less
    h = torch.where(h * (h * ratio).round() < least, h + 1, h)
    h = torch.where(h * (h * ratio).round() > most, h - 1, h)
    w = (h * ratio).round()
    least = torch.maximum(least, TENSORFLOW_LEAST_AREA * h_image * w_image)
    fits = (h * w >= least) & (h * w <= most) & (w <= w_image) & (h <= h_image) & (h * w > 0)
    return _with_last_resort(h, w, fits, h_image, w_image)


def _with_last_resort(
    h: Float64[Tensor, "n t"],
    w: Float64[Tensor, "n t"],
    fits: Bool[Tensor, "n t"],
    h_else: Side,
    w_else: Side,
) -> tuple[Float64[Tensor, "n t+1"], Float64[Tensor, "n t+1"], Bool[Tensor, "n t+1"]]:
    """Appends a box that fits always."""
    always = torch.ones_like(h_else, dtype=torch.bool)
    return (
        torch.cat([h, h_else], dim=1),
        torch.cat([w, w_else], dim=1),
        torch.cat([fits, always], dim=1),
    )


def _sent(fields: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Tensors on another device, in one message that no host waits for."""
    if fields[0].device == device:
        return list(fields)
    # the widest first, so that every field begins at a multiple of its width
    order = sorted(range(len(fields)), key=lambda i: -fields[i].itemsize)
    parts = [fields[i].contiguous().view(-1).view(torch.uint8) for i in order]
    received = send(torch.cat(parts), device).split([len(part) for part in parts])
    sent = list(fields)
    for i, part in zip(order, received, strict=True):
        sent[i] = part.view(fields[i].dtype).view(fields[i].shape)
    return sent


def _per_image(side: int | Rows, index: Rows) -> Float64[Tensor, " n"]:
    if isinstance(side, int):
        return torch.full_like(index, side, dtype=torch.float64)
    return side.to(index.device, torch.float64)


def _between(u: Float64[Tensor, "*shape"], low: float, high: float) -> Float64[Tensor, "*shape"]:
    return low + (high - low) * u


def _factor_range(half_width: float) -> tuple[float, float]:
    return max(0.0, 1 - half_width), 1 + half_width


def _brightness_range(jitter: Jitter) -> tuple[float, float]:
    if jitter.form == "byol":
        return -jitter.brightness, jitter.brightness
    return _factor_range(jitter.brightness)
