"""Crops out of images of many sizes on CUDA, in one launch for all of them."""

from collections.abc import Sequence
from functools import cache

import torch
from jaxtyping import UInt8
from torch import Tensor

from squint import trial
from squint.views import ragged
from squint.views.draw import Boxes
from squint.views.recipes import Interpolation


def missing(device: torch.device) -> str:
    """Why the kernel can't crop on this device, in a few words; empty if it can."""
    return trial.absent(device) or ("" if trial.interpreted() else _trial(device))


def crop_resize(
    images: Sequence[UInt8[Tensor, "c _ _"]],
    boxes: Sequence[Boxes],
    size: int,
    interpolations: tuple[Interpolation, Interpolation],
) -> UInt8[Tensor, "n 2 c {size} {size}"]:
    """As `ragged.crop_resize`, on a device of which `missing` has nothing to say."""
    from squint.views import crop_triton_kernels as kernels

    planar = [image.contiguous() for image in images]
    table = [
        (image.data_ptr(), *image.shape[1:], *box, int(interpolation == "bicubic"))
        for image, both in zip(planar, boxes, strict=True)
        for box, interpolation in zip(both, interpolations, strict=True)
    ]
    rows = torch.tensor(table, dtype=torch.int64).to(images[0].device)  # (2 n, 8)
    with trial.on(rows.device):
        return kernels.crops(rows, len(images[0]), size).unflatten(0, (-1, 2))


@cache
def _trial(device: torch.device) -> str:
    """Compile and run the kernel once; what went wrong, or nothing."""
    ramp = torch.arange(3 * 40 * 50, device=device).remainder(251).to(torch.uint8)
    images, boxes = [ramp.view(3, 40, 50)], [((3, 4, 30, 41), (0, 0, 9, 8))]

    def run() -> str:
        crops = crop_resize(images, boxes, 16, ("bicubic", "bilinear")).int()
        expected = ragged.one_by_one(images, boxes, 16, ("bicubic", "bilinear")).int()
        return "" if (crops - expected).abs().max() <= 1 else "it gives other crops than torch"

    instead = "torch cuts them image by image instead, which is slower and gives the same"
    return trial.failure(run, of="the crops", instead=instead)
