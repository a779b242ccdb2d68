"""Crop, resize and flip of a whole batch as two matrix products.

An antialiased resize is linear and separable: `rows @ image @ columns.T`, with one small weight
matrix per image and axis that holds the crop window, the filter and the flip. Exact, batched,
without a loop over images, and the same code on every device.
"""

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor

from squint.shapes import Image
from squint.views.draw import Box
from squint.views.recipes import Interpolation

_SUPPORT: dict[Interpolation, float] = {"bilinear": 1.0, "bicubic": 2.0}


def crop_resize(
    images: Image, box: Box, flip: Bool[Tensor, " n"], size: int, interpolation: Interpolation
) -> Float[Tensor, "n c {size} {size}"]:
    """Cuts `box` out of each image, resizes it to a square with antialiasing, flips it if asked.

    Equals torchvision's `resized_crop(antialias=True)` followed by `hflip`; bicubic results may
    leave the range of the input a little.

    # differs from SimCLR's and BYOL's released code, whose tf.image.resize does not antialias.
    """
    n, c, h, w = images.shape
    rows = resize_weights(box.top, box.height, None, h, size, interpolation)  # (n, s, h)
    columns = resize_weights(box.left, box.width, flip, w, size, interpolation)  # (n, s, w)
    x = torch.bmm(images.reshape(n, c * h, w), columns.mT).view(n, c, h, size)
    return rows[:, None] @ x  # (n, c, s, s)


def resize_weights(
    start: Real[Tensor, " n"],
    length: Real[Tensor, " n"],
    flip: Bool[Tensor, " n"] | None,
    side: int,
    size: int,
    interpolation: Interpolation,
) -> Float[Tensor, "n {size} {side}"]:
    """Weight of each of `side` source pixels in each of `size` target pixels; a target sums to 1.

    Args:
        start: First source pixel of the window, per image; fractions cut a pixel, which counts if
            its centre is in the window.
        length: Source pixels in the window, per image.
        flip: Whether the target runs backwards, per image; None: never.
        side: Source pixels in the image, along this axis.
        size: Target pixels.
        interpolation: The filter; it is widened when the window shrinks, as PIL does.
    """
    scale = (length.float() / size)[:, None]  # (n, 1) source pixels per target pixel
    target = torch.arange(0.5, size, device=start.device).expand(len(start), size)  # (n, s)
    if flip is not None:
        target = torch.where(flip[:, None], size - target, target)
    centre = target * scale  # (n, s), counted from the start of the window
    source = torch.arange(0.5, side, device=start.device) - start[:, None]  # (n, side)
    distance = (source[:, None, :] - centre[:, :, None]).div_(scale.clamp(min=1)[:, :, None])
    inside = (source > 0) & (source < length[:, None])  # (n, side)
    weights = _filter(distance.abs_(), interpolation) * inside[:, None]  # (n, s, side)
    return weights.div_(weights.sum(dim=2, keepdim=True))


def _filter(
    x: Float[Tensor, "n s side"], interpolation: Interpolation
) -> Float[Tensor, "n s side"]:
    """Height of the filter at distance x >= 0 (bicubic: Keys 1981, a = -0.5, as PIL and TF)."""
    if interpolation == "bilinear":
        return (1 - x).clamp_(min=0)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((2.5 - 0.5 * x) * x - 4) * x + 2
    return torch.where(x < 1, near, far * (x < _SUPPORT[interpolation]))
