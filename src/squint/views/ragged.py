"""Both crops of images of many sizes that lie decoded on the training device."""

from collections.abc import Sequence

import torch
from jaxtyping import UInt8
from torch import Tensor

from squint.views import resize as reference
from squint.views.draw import Box, Boxes
from squint.views.recipes import Interpolation, ViewsConfig


@torch.no_grad()
def crops(
    images: Sequence[UInt8[Tensor, "c _ _"]], boxes: Sequence[Boxes], config: ViewsConfig
) -> UInt8[Tensor, "n 2 c s s"]:
    """What `TwoViews.crops_of_picture` makes of each image, from its `boxes_of_pictures`.

    Args:
        images: On one device, one or more.
        boxes: Of each image, inside it.
        config: The recipe of both views.
    """
    interpolations = (config.first.crop.interpolation, config.second.crop.interpolation)
    return crop_resize(images, boxes, config.size, interpolations)


def crop_resize(
    images: Sequence[UInt8[Tensor, "c _ _"]],
    boxes: Sequence[Boxes],
    size: int,
    interpolations: tuple[Interpolation, Interpolation],
) -> UInt8[Tensor, "n 2 c {size} {size}"]:
    """Cuts both boxes out of each image and resizes them with antialiasing, by the fastest path."""
    from squint.views import crop_triton

    if crop_triton.missing(images[0].device):
        return one_by_one(images, boxes, size, interpolations)
    return crop_triton.crop_resize(images, boxes, size, interpolations)


def one_by_one(
    images: Sequence[UInt8[Tensor, "c _ _"]],
    boxes: Sequence[Boxes],
    size: int,
    interpolations: tuple[Interpolation, Interpolation],
) -> UInt8[Tensor, "n 2 c {size} {size}"]:
    """`crop_resize` in torch, the reference: rounded to whole grey levels once, at the end."""
    device = images[0].device
    result = images[0].new_empty(len(images), 2, len(images[0]), size, size)
    upright = torch.tensor([False], device=device)
    for image, both, crops in zip(images, boxes, result, strict=True):
        for (top, left, height, width), filter_, crop in zip(
            both, interpolations, crops, strict=True
        ):
            window = image[None, :, top : top + height, left : left + width].float()
            box = Box(*(torch.tensor([side], device=device) for side in (0, 0, height, width)))
            made = reference.crop_resize(window, box, upright, size, filter_)
            crop.copy_(made[0].round().clamp(0, 255))
    return result
