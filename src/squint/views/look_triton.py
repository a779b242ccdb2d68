"""Views on CUDA in one to four launches: crop, colours, and the two passes of the blur.

For images of three channels. What each view of a recipe needs is compiled by itself, in seconds,
and tried out on a few images before it is used.
"""

from functools import cache

import torch
from torch import Tensor

from squint import trial
from squint.shapes import Pixels
from squint.views import apply as reference
from squint.views.draw import Look, Params, draw
from squint.views.normalise import Square, normalise, per_channel
from squint.views.recipes import View, ViewsConfig


def suit(images: Pixels, view: View, config: ViewsConfig, *, cropped: bool) -> bool:
    """Whether the kernels make this view of these images, or of these crops."""
    if images.shape[1] != 3 or trial.absent(images.device):
        return False
    return trial.interpreted() or not _trial(images.device, view, config, cropped)


def apply(
    pixels: Pixels,
    params: Params,
    view: View,
    config: ViewsConfig,
    memory_format: torch.memory_format,
) -> Square:
    """One normalised view of each image, as `paths.apply`."""
    from squint.views import look_triton_kernels as kernels

    bicubic = view.crop.interpolation == "bicubic"
    box, look = params
    with trial.on(pixels.device):
        crops = kernels.crop(pixels.contiguous(), box, look.flip, config.size, bicubic=bicubic)
        return _rest(crops, look, view, config, memory_format, flip=False)


def apply_look(
    crops: Pixels, look: Look, view: View, config: ViewsConfig, memory_format: torch.memory_format
) -> Square:
    """`apply` after the crop, as `paths.apply_look`."""
    if crops.stride()[2:] != (crops.shape[3], 1):
        crops = crops.contiguous()
    with trial.on(crops.device):
        return _rest(crops, look, view, config, memory_format, flip=True)


def _rest(
    crops: Tensor,
    look: Look,
    view: View,
    config: ViewsConfig,
    memory_format: torch.memory_format,
    *,
    flip: bool,
) -> Tensor:
    from squint.views import look_triton_kernels as kernels

    jitter, some = view.jitter, view.jitter.probability > 0
    flags = kernels.Flags(
        GRAY_FIRST=view.gray > 0 and view.gray_before_jitter,
        GRAY_LAST=view.gray > 0 and not view.gray_before_jitter,
        BRIGHTNESS=some and jitter.brightness > 0,
        CONTRAST=some and jitter.contrast > 0,
        SATURATION=some and jitter.saturation > 0,
        HUE=some and jitter.hue > 0,
        ADD=jitter.form == "byol",
        TENSORFLOW=jitter.form != "torchvision",
    )
    mean, std = zip(*per_channel(config, 3), strict=True)
    finish = kernels.Finish(view.solarize > 0, (*mean, *std))
    views = torch.empty(crops.shape, device=crops.device, memory_format=memory_format)
    if view.blur.probability == 0:
        kernels.colour(crops, look, views, flags, finish, flip=flip)
        return views
    sharp = torch.empty(crops.shape, device=crops.device)
    kernels.colour(crops, look, sharp, flags, None, flip=flip)
    from squint.views.blur_triton_kernels import blurred

    radius, reflect = reference.blur_radius(config.size), view.blur.padding == "reflect"
    blurred(sharp, look, views, finish, radius=radius, reflect=reflect)
    return views


@cache
def _trial(device: torch.device, view: View, config: ViewsConfig, cropped: bool) -> str:
    """Compile and run a view's kernels on a few images; what went wrong, or nothing."""
    size, rows = config.size, torch.arange(8)
    pixels = torch.arange(8 * 3 * size * size).mul(7919).remainder(256).to(torch.uint8)
    pixels = pixels.view(8, 3, size, size)
    params = draw(view, rows, seed=0, epoch=0, view_number=0, height=size, width=size)

    def run() -> str:
        there, drawn = pixels.to(device), params.to(device)
        if cropped:
            views = apply_look(there, drawn.look, view, config, torch.channels_last)
            expected = reference.apply_look(pixels / 255, params.look, view)
        else:
            views = apply(there, drawn, view, config, torch.channels_last)
            expected = reference.apply(pixels / 255, params, view, size)
        far = (views.cpu() - normalise(expected, config)).abs().mean().item()
        return "" if far < 1e-3 else f"they give views {far:.1g} from torch's"

    instead = "torch.compile makes the code instead, which takes half a minute and gives the same"
    return trial.failure(run, of="the views", instead=instead)
