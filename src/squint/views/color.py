"""Colour operations on batches, each with its own strength per image.

Pixels are in 0..1. The operations do not clip: the jitter does, after each of them, as the
reference implementations do. `hue`, `gray` and both saturations need three channels (RGB).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from squint.shapes import Image

RGB = Float[Tensor, "n 3 h w"]
PerImage = Float[Tensor, " n"]

_TINY = 1e-12


def luma(images: RGB) -> Float[Tensor, "n 1 h w"]:
    """Grey value of each pixel (ITU-R 601 weights, rounded as torchvision and TensorFlow do)."""
    red, green, blue = images.split(1, dim=1)
    return 0.2989 * red + 0.587 * green + 0.114 * blue  # (n, 1, h, w)


def gray(images: RGB) -> RGB:
    """The image without colour, in three equal channels."""
    return luma(images).repeat(1, 3, 1, 1)


def scale_brightness(images: Image, factor: PerImage) -> Image:
    """Multiplies every pixel (torchvision; SimCLR's released TF2 code)."""
    return images * factor[:, None, None, None]


def add_brightness(images: Image, delta: PerImage) -> Image:
    """Adds to every pixel (BYOL; TensorFlow)."""
    return images + delta[:, None, None, None]


def contrast_about_gray(images: Image, factor: PerImage) -> Image:
    """Stretches about the mean grey of the image (torchvision).

    Without three channels the mean is taken over all of them.
    """
    grays = luma(images) if images.shape[1] == 3 else images
    mean = grays.mean(dim=(1, 2, 3), keepdim=True)  # (n, 1, 1, 1)
    return torch.lerp(mean, images, factor[:, None, None, None])


def contrast_per_channel(images: Image, factor: PerImage) -> Image:
    """Stretches each channel about its own mean (TensorFlow)."""
    mean = images.mean(dim=(2, 3), keepdim=True)  # (n, c, 1, 1)
    return torch.lerp(mean, images, factor[:, None, None, None])


def saturation_to_gray(images: RGB, factor: PerImage) -> RGB:
    """Moves every pixel away from its grey value (torchvision)."""
    return torch.lerp(luma(images), images, factor[:, None, None, None])


def saturation_hsv(images: RGB, factor: PerImage) -> RGB:
    """Multiplies the S of HSV and cuts it off at 1 (TensorFlow).

    V and H stay, so each channel keeps its place between V and the pixel's least channel: all
    distances to V grow by one factor, and the detour over HSV is not needed.
    """
    value, chroma = _value_and_chroma(images)  # (n, h, w)
    most = value / chroma.clamp(min=_TINY)  # saturation 1
    factor = torch.minimum(factor[:, None, None].clamp(min=0), most)
    return torch.lerp(value[:, None], images, factor[:, None])


def hue(images: RGB, turns: PerImage) -> RGB:
    """Turns the H of HSV, one turn being the full circle (torchvision, TensorFlow).

    Args:
        images: In 0..1.
        turns: From -1 to 1.
    """
    value, chroma = _value_and_chroma(images)  # (n, h, w)
    red, green, blue = images.unbind(dim=1)
    divisor = chroma.clamp(min=_TINY)
    sixths = torch.where(
        value == red,
        (green - blue).div_(divisor),
        torch.where(
            value == green,
            (blue - red).div_(divisor).add_(2),
            (red - green).div_(divisor).add_(4),
        ),
    )
    angle = sixths.div_(6).add_(turns[:, None, None])  # (n, h, w)
    # a channel's distance below V rises, stays and falls once around the circle; red, green and
    # blue start 5, 3 and 1 sixths into it, and two turns more make every angle positive
    start = torch.arange(5, 0, -2, device=images.device)[:, None, None] / 6 + 2
    sixths = (angle[:, None] + start).frac_().mul_(6)  # (n, 3, h, w)
    below = sixths.sub_(2).abs_().neg_().add_(2).clamp_(0, 1)
    return torch.addcmul(value[:, None], chroma[:, None], below, value=-1)


def solarize(images: Image) -> Image:
    """Inverts every pixel at or above 0.5 (BYOL; torchvision with threshold 0.5)."""
    return torch.where(images < 0.5, images, 1 - images)


def _value_and_chroma(
    images: RGB,
) -> tuple[Float[Tensor, "n h w"], Float[Tensor, "n h w"]]:
    """Largest channel of each pixel (V of HSV), and its distance from the least one."""
    red, green, blue = images.unbind(dim=1)
    value = torch.maximum(torch.maximum(red, green), blue)
    return value, value - torch.minimum(torch.minimum(red, green), blue)
