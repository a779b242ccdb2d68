"""Views as pixels: the reference, pure and batched. Parameters in, nothing random here."""

from collections.abc import Callable
from functools import partial

import torch
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
    linear and separable: two products with a banded matrix per image.
    """
    n, c, h, w = images.shape
    if radius is None:
        radius = blur_radius(min(h, w))
    rows = _blur_weights(sigma, radius, h, padding)  # (n, h, h)
    columns = rows if w == h else _blur_weights(sigma, radius, w, padding)  # (n, w, w)
    x = torch.bmm(images.reshape(n, c * h, w), columns.mT).view(n, c, h, w)
    return rows[:, None] @ x  # (n, c, h, w)


def blur_radius(side: int) -> int:
    """A twentieth of the image's shorter side, as in SimCLR: 23 taps at 224 px, at least 3."""
    return max(1, side // 20)


def _blur_weights(
    sigma: Float[Tensor, " n"], radius: int, side: int, padding: Padding
) -> Float[Tensor, "n {side} {side}"]:
    """Weight of each source pixel (last axis) in each blurred pixel, along one axis."""
    distance = torch.arange(radius + 2, device=sigma.device)
    kernel = torch.exp(-0.5 * (distance / sigma[:, None]) ** 2)  # (n, radius + 2)
    kernel[:, radius + 1] = 0  # stands for every distance beyond the radius
    kernel = kernel / (2 * kernel.sum(dim=1, keepdim=True) - kernel[:, :1])

    source = torch.arange(side, device=sigma.device)
    target = source[:, None]
    weights = kernel[:, (source - target).abs().clamp(max=radius + 1)]  # (n, side, side)
    if padding == "reflect":
        # pixel j is also seen at -j, mirrored on the first pixel, and mirrored on the last
        last = side - 1
        before = torch.where(source > 0, source + target, side)
        after = torch.where(source < last, 2 * last - source - target, side)
        weights += kernel[:, before.clamp(max=radius + 1)]
        weights += kernel[:, after.clamp(max=radius + 1)]
    return weights


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
    # Counting the chosen images would stop the host until another device is done, and a compiler
    # can't know their number: change all.
    can_count = x.device.type == "cpu" and not torch.compiler.is_compiling()
    change = _change_chosen if can_count else _change_all
    change(chosen, x, operation, *strength)


def _change_chosen(
    chosen: Bool[Tensor, " n"], x: Image, operation: Operation, *strength: Float[Tensor, " n"]
) -> None:
    rows = chosen.nonzero()[:, 0]
    changed = operation(x.index_select(0, rows), *(s[rows] for s in strength))
    x.index_copy_(0, rows, changed.clamp_(0, 1))


def _change_all(
    chosen: Bool[Tensor, " n"], x: Image, operation: Operation, *strength: Float[Tensor, " n"]
) -> None:
    changed = operation(x, *strength).clamp_(0, 1)
    torch.where(chosen[:, None, None, None], changed, x, out=x)
