"""The compiled crop: against the reference's matrices, whatever the memory looks like."""

import pytest
import torch
import torchvision.transforms.v2.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from squint import native
from squint.native.resize import Window, crop_resize
from squint.views import resize as reference
from squint.views.draw import Box
from squint.views.recipes import Interpolation

pytestmark = pytest.mark.skipif(native.library() is None, reason="the kernels are not built")


def interleaved(image: Tensor) -> Tensor:
    return image.permute(1, 2, 0).contiguous().permute(2, 0, 1)


def expected(
    image: Tensor, window: tuple[float, ...], size: int, interpolation: Interpolation, flip: bool
) -> Tensor:
    box = Box(*(torch.tensor([side], dtype=torch.float64) for side in window))
    x = reference.crop_resize(image[None].double(), box, torch.tensor([flip]), size, interpolation)
    return x[0].clamp(0, 255)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_it_is_the_references_crop_rounded(data: st.DataObject) -> None:
    channels = data.draw(st.integers(1, 5))
    sides = [data.draw(st.integers(1, 130)) for _ in range(2)]
    lengths = [data.draw(st.integers(1, side)) for side in sides]
    starts = [data.draw(st.integers(0, a - b)) for a, b in zip(sides, lengths, strict=True)]
    cut = data.draw(st.sampled_from([0, 0, 1 / 8, 1 / 2, 5 / 8]))  # off either end
    cuts = [cut if length > 2 else 0 for length in lengths]
    size = data.draw(st.sampled_from([8, 15, 16, 17, 32, 60, 224]))
    interpolation: Interpolation = data.draw(st.sampled_from(["bilinear", "bicubic"]))
    flip = data.draw(st.booleans())
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 999)))
    image = torch.randint(0, 256, (channels, *sides), generator=generator, dtype=torch.uint8)
    window = (
        *(start + cut for start, cut in zip(starts, cuts, strict=True)),
        *(length - 2 * cut for length, cut in zip(lengths, cuts, strict=True)),
    )
    wanted = expected(image, window, size, interpolation, flip)
    for layout in (image, interleaved(image)):
        ours = crop_resize(layout, Window(*map(float, window)), size, interpolation, flip=flip)
        # Rounding, and float32 before it. Where a window begins in the middle of a pixel, the first
        # target may lie where bicubic weights nearly vanish: float32 tells them to a few digits.
        off = 0.02 if max(cuts) and interpolation == "bicubic" else 0.001
        assert (ours - wanted).abs().max() < 0.5 + off


def test_it_is_torchvisions_crop_but_for_the_rounding_in_between() -> None:
    image = F.gaussian_blur(torch.rand(3, 400, 500), [9, 9]).mul(255).to(torch.uint8)
    for top, left, height, width in [(30, 40, 250, 300), (0, 0, 400, 500), (7, 9, 40, 30)]:
        ours = crop_resize(image, Window(float(top), left, height, width), 224, "bilinear")
        theirs = F.resized_crop(image, top, left, height, width, [224, 224], antialias=True)
        assert (ours.int() - theirs.int()).abs().max() <= 1


def test_part_of_an_image_is_read_where_it_lies() -> None:
    image = interleaved(torch.randint(0, 256, (3, 60, 70), dtype=torch.uint8))
    part = image[:, 10:40, 20:60]
    ours = crop_resize(part, Window(0.0, 0.0, 30.0, 40.0), 24, "bicubic")
    whole = crop_resize(image, Window(10.0, 20.0, 30.0, 40.0), 24, "bicubic")
    assert torch.equal(ours, whole)


def test_a_window_between_pixels_is_that_of_a_finer_image() -> None:
    # an image decoded at half its scale: a window with half pixels at its edges
    smooth = F.gaussian_blur(torch.rand(3, 128, 128), [31, 31]) * 4 - 1.5
    fine = smooth.clamp(0, 1).mul(255).to(torch.uint8)
    coarse = F.resize(fine, [64, 64], antialias=True)
    ours = crop_resize(coarse, Window(10.5, 3.5, 40.5, 50.0), 20, "bilinear")
    wanted = crop_resize(fine, Window(21.0, 7.0, 81.0, 100.0), 20, "bilinear")
    assert (ours.int() - wanted.int()).abs().float().mean() < 3


def test_a_window_without_a_centre_takes_the_pixel_around_it() -> None:
    image = torch.arange(64, dtype=torch.uint8).view(1, 8, 8)
    ours = crop_resize(image, Window(2.6, 5.6, 0.3, 0.3), 8, "bicubic")
    assert (ours == 2 * 8 + 5).all()


def test_other_memory_is_refused() -> None:
    image = torch.zeros(3, 8, 16, dtype=torch.uint8)[:, :, ::2]
    with pytest.raises(ValueError, match="neither planar nor interleaved"):
        crop_resize(image, Window(0.0, 0.0, 8.0, 8.0), 8, "bilinear")
