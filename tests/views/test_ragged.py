"""Crops out of images of many sizes: the kernel and torch against the compiled crop of workers."""

import pytest
import torch

from interpreter import needs_loops, needs_triton, run_interpreted
from squint import native
from squint.native.resize import Window
from squint.native.resize import crop_resize as compiled
from squint.views import ragged
from squint.views.draw import Boxes

SIZES = ((40, 57), (9, 8), (42, 31), (64, 64))
BOXES: list[Boxes] = [
    ((3, 4, 18, 23), (20, 31, 20, 26)),
    ((0, 0, 9, 8), (8, 7, 1, 1)),
    ((0, 1, 20, 13), (30, 20, 5, 11)),
    ((7, 9, 20, 20), (40, 1, 12, 17)),
]


@pytest.mark.skipif(native.library() is None, reason="the kernels were not built")
@pytest.mark.parametrize("interpolations", [("bilinear", "bicubic"), ("bicubic", "bilinear")])
@pytest.mark.parametrize("channels", [1, 3])
def test_crops_in_torch_are_those_of_the_workers(
    channels: int, interpolations: tuple[ragged.Interpolation, ragged.Interpolation]
) -> None:
    images = [torch.randint(256, (channels, *size), dtype=torch.uint8) for size in SIZES]
    found = ragged.one_by_one(images, BOXES, 20, interpolations)
    assert found.shape == (4, 2, channels, 20, 20) and found.dtype == torch.uint8
    for image, boxes, crops in zip(images, BOXES, found, strict=True):
        for box, interpolation, crop in zip(boxes, interpolations, crops, strict=True):
            expected = compiled(image, Window(*box), 20, interpolation)
            far = (crop.int() - expected.int()).abs()
            assert far.max() <= 1 and (far > 0).float().mean() < 0.05  # halves, in the last bits


TRITON = """
import torch
from squint.views import crop_triton, ragged
from views.test_ragged import BOXES, SIZES
assert not crop_triton.missing(torch.device("cpu"))
for channels, size, some, interpolations in (
    (3, 8, slice(0, 2), ("bilinear", "bicubic")), (1, 33, slice(2, 4), ("bicubic", "bilinear"))
):
    images = [torch.randint(256, (channels, *side), dtype=torch.uint8) for side in SIZES[some]]
    images[0] = images[0].mT.contiguous().mT  # not planar
    found = ragged.crop_resize(images, BOXES[some], size, interpolations)
    expected = ragged.one_by_one(images, BOXES[some], size, interpolations)
    assert found.shape == expected.shape and found.dtype == expected.dtype
    far = (found.int() - expected.int()).abs()
    assert far.max() <= 1 and (far > 0).float().mean() < 0.01  # halves
    assert expected.float().std() > 20
print("equal")
"""


@needs_triton
@needs_loops
def test_the_triton_kernel_equals_the_reference_in_triton_s_interpreter() -> None:
    run_interpreted(TRITON)
