"""From drawn parameters to pixels: the reference, pure and batched; nothing is random here."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from squint.shapes import Image
from squint.views import color
from squint.views.draw import Look, Params
from squint.views.recipes import Jitter, Padding, View
from squint.views.resize import crop_resize

Operation = Callable[..., Image]


def apply(
    images: Image, params: Params, view: View, size: int
) -> Float[Tensor, "n c {size} {size}"]:
    """One view of each image, in 0..1: crop, flip, jitter, grey, blur, solarize.

    Images without three channels skip what needs RGB: saturation, hue and grey.

    Args:
        images: In 0..1.
        params: From `draw`, on the device of the images.
        view: The recipe the parameters were drawn from.
        size: Side of the view in pixels.
    """
    box, look = params
    # differs from SimCLR's code, which clips in the jitter and at the end, not after the resize
    x = crop_resize(images, box, look.flip, size, view.crop.interpolation).clamp_(0, 1)
    return _finish(x, look, view)


def apply_look(crops: Image, look: Look, view: View) -> Image:
    """`apply` after the crop: flip, jitter, grey, blur, solarize of crops in 0..1."""
    x = torch.where(look.flip[:, None, None, None], crops.flip(3), crops)
    return _finish(x, look, view)


def blur(
    images: Image, sigma: Float[Tensor, " n"], padding: Padding, radius: int | None = None
) -> Image:
    """Gaussian blur with one standard deviation per image, in pixels.

    The kernel ends after `radius` pixels (`blur_radius` unless given) and sums to 1. The blur is
    separable: two convolutions, each channel of each image with the taps of its image.
    """
    n, c, h, w = images.shape
    if radius is None:
        radius = blur_radius(min(h, w))
    taps = _blur_taps(sigma, radius).repeat_interleave(c, dim=0)[:, None]  # (n * c, 1, taps)
    x = images.reshape(1, n * c, h, w)
    x = F.pad(x, [radius] * 4, mode="reflect" if padding == "reflect" else "constant")
    x = F.conv2d(x, taps[:, :, :, None], groups=n * c)  # (1, n * c, h, w + 2 * radius)
    x = F.conv2d(x, taps[:, :, None], groups=n * c)  # (1, n * c, h, w)
    return x.view(n, c, h, w)


def blur_radius(side: int) -> int:
    """A twentieth of the image's shorter side, as in SimCLR: 23 taps at 224 px, at least 3."""
    return max(1, side // 20)


def _blur_taps(sigma: Float[Tensor, " n"], radius: int) -> Float[Tensor, "n taps"]:
    """Weights of the pixels from -radius to radius, per image; they sum to 1."""
    distance = torch.arange(-radius, radius + 1, device=sigma.device)
    taps = torch.exp(-0.5 * (distance / sigma[:, None]) ** 2)  # (n, taps)
    return taps / taps.sum(dim=1, keepdim=True)


def _finish(x: Image, look: Look, view: View) -> Image:
    """Everything after the flip. Overwrites x, which is the caller's own."""
    may_lose_color = view.gray > 0 and x.shape[1] == 3
    if may_lose_color and view.gray_before_jitter:
        _where(look.gray, x, color.gray)
    if view.jitter.probability > 0:
        _jitter(x, look, view.jitter)
    if may_lose_color and not view.gray_before_jitter:
        _where(look.gray, x, color.gray)
    if view.blur.probability > 0:
        _where(look.blur, x, partial(blur, padding=view.blur.padding), look.sigma)
    if view.solarize > 0:
        _where(look.solarize, x, color.solarize)
    return x


def _jitter(x: Image, look: Look, jitter: Jitter) -> None:
    """The four colour operations, in each image's own order, clipped after each; in place."""
    operations = _operations(jitter, rgb=x.shape[1] == 3)
    for turn in look.order.unbind(dim=1):
        for number, operation, strength in operations:
            chosen = look.jitter & (turn == number)
            _where(chosen, x, operation, getattr(look, strength))


def _operations(jitter: Jitter, *, rgb: bool) -> list[tuple[int, Operation, str]]:
    """Number in `Look.order`, function and name of strength of each operation with an effect."""
    tensorflow = jitter.form != "torchvision"
    operations: list[tuple[int, Operation, str]] = [
        (
            0,
            color.add_brightness if jitter.form == "byol" else color.scale_brightness,
            "brightness",
        ),
        (1, color.contrast_per_channel if tensorflow else color.contrast_about_gray, "contrast"),
    ]
    if rgb:
        operations += [
            (2, color.saturation_hsv if tensorflow else color.saturation_to_gray, "saturation"),
            (3, color.hue, "hue"),
        ]
    return [entry for entry in operations if getattr(jitter, entry[2]) > 0]


def _where(
    chosen: Bool[Tensor, " n"], x: Image, operation: Operation, *strength: Float[Tensor, " n"]
) -> None:
    """Overwrites the chosen images with `operation` of them, clipped to 0..1."""
    # To count the chosen images the host would wait for a GPU, and a compiler can't know their
    # number: there all are changed, and the chosen ones kept.
    can_count = x.device.type == "cpu" and not torch.compiler.is_compiling()
    change = _change_chosen if can_count else _change_all
    change(chosen, x, operation, *strength)


def _change_chosen(
    chosen: Bool[Tensor, " n"], x: Image, operation: Operation, *strength: Float[Tensor, " n"]
) -> None:
    rows = chosen.nonzero()[:, 0]
    if len(rows) == 0:
        return
    changed = operation(x.index_select(0, rows), *(s[rows] for s in strength))
    x.index_copy_(0, rows, changed.clamp_(0, 1))


def _change_all(
    chosen: Bool[Tensor, " n"], x: Image, operation: Operation, *strength: Float[Tensor, " n"]
) -> None:
    changed = operation(x, *strength).clamp_(0, 1)
    torch.where(chosen[:, None, None, None], changed, x, out=x)
