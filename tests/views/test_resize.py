"""Crop, resize and flip as matrix products, against torchvision."""

import pytest
import torch
import torchvision.transforms.v2.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode

from squint.views.draw import Box
from squint.views.resize import crop_resize, resize_weights

MODES = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}


def box_of(*rows: tuple[int, int, int, int]) -> Box:
    return Box(*torch.tensor(rows).unbind(dim=1))


@pytest.mark.parametrize("interpolation", MODES)
@pytest.mark.parametrize("size", [8, 32, 75])
def test_equals_torchvision(interpolation: str, size: int) -> None:
    torch.manual_seed(0)
    rows = [(0, 0, 50, 61), (3, 7, 20, 33), (40, 50, 10, 11), (49, 0, 1, 61), (5, 60, 40, 1)]
    images = torch.rand(len(rows), 3, 50, 61)
    flip = torch.tensor([False, True, False, True, False])
    ours = crop_resize(images, box_of(*rows), flip, size, interpolation)  # type: ignore[arg-type]
    for row, image in enumerate(images):
        theirs = F.resized_crop(image, *rows[row], [size, size], MODES[interpolation], True)
        theirs = theirs.flip(2) if flip[row] else theirs
        torch.testing.assert_close(ours[row], theirs, rtol=0, atol=2e-5)


@settings(max_examples=25, deadline=None)
@given(
    side=st.integers(1, 80),
    size=st.integers(1, 80),
    cut=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    interpolation=st.sampled_from(sorted(MODES)),
)
def test_weights_sum_to_one_and_stay_in_the_window(
    side: int, size: int, cut: tuple[float, float], interpolation: str
) -> None:
    first, last = sorted(int(edge * (side - 1)) for edge in cut)
    start, length = torch.tensor([first]), torch.tensor([last - first + 1])
    weights = resize_weights(start, length, None, side, size, interpolation)[0]  # type: ignore[arg-type]
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(size))
    assert not weights[:, :first].any() and not weights[:, last + 1 :].any()
    flipped = resize_weights(start, length, torch.tensor([True]), side, size, interpolation)[0]  # type: ignore[arg-type]
    torch.testing.assert_close(flipped, weights.flip(0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_whole_image_at_its_own_size_is_untouched(channels: int) -> None:
    images = torch.rand(2, channels, 16, 16)
    box = box_of((0, 0, 16, 16), (0, 0, 16, 16))
    same = crop_resize(images, box, torch.tensor([False, False]), 16, "bicubic")
    torch.testing.assert_close(same, images, rtol=0, atol=1e-6)
