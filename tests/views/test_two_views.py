"""The two views of packed images and of files, and the view of evaluation."""

import pickle
import subprocess
import sys
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as F
from torch import Tensor
from torchvision.transforms import InterpolationMode

from squint import views as room
from squint.data.picture import Picture
from squint.errors import RecipeError
from squint.views.draw import draw_box
from squint.views.recipes import (
    Blur,
    Crop,
    EvalView,
    Jitter,
    View,
    ViewsConfig,
    simclr_32,
)
from squint.views.two_views import EvaluationView, TwoViews

PLAIN = View(flip=0.5, jitter=Jitter(probability=0.0), gray=0.0, blur=Blur(probability=0.0))


def smooth_pixels(n: int, channels: int, height: int, width: int) -> Tensor:
    torch.manual_seed(0)
    images = F.gaussian_blur(torch.rand(n, channels, height, width), [5, 5])
    return ((images - 0.3) * 2.5).clamp(0, 1).mul(255).to(torch.uint8)


def test_an_image_has_the_same_views_in_any_batch() -> None:
    pixels = torch.randint(0, 256, (6, 3, 40, 36), dtype=torch.uint8)
    views = TwoViews(replace(simclr_32(), first=View()), seed=3)
    many = views(pixels, torch.arange(6), epoch=2)
    alone = views(pixels[4:5], torch.tensor([4]), epoch=2)
    for batch, single in zip(many, alone, strict=True):
        assert batch.shape == (6, 3, 32, 32) and batch.is_contiguous()
        torch.testing.assert_close(batch[4:5], single, rtol=0, atol=1e-6)


def test_seed_epoch_index_and_view_each_change_the_views() -> None:
    pixels = smooth_pixels(1, 3, 32, 32).repeat(2, 1, 1, 1)
    index = torch.tensor([0, 1])
    first, second = TwoViews(simclr_32(), seed=0)(pixels, index, 0)
    again = TwoViews(simclr_32(), seed=0)(pixels, index, 0)
    assert torch.equal(first, again[0]) and torch.equal(second, again[1])
    others = [
        second,
        first.flip(0),
        TwoViews(simclr_32(), seed=1)(pixels, index, 0)[0],
        TwoViews(simclr_32(), seed=0)(pixels, index, 1)[0],
    ]
    for other in others:
        assert ((first - other).abs().mean(dim=(1, 2, 3)) > 1e-2).all()


def test_each_view_follows_its_own_recipe() -> None:
    config = ViewsConfig(size=32, first=replace(PLAIN, gray=1.0), second=PLAIN)
    first, second = TwoViews(config, seed=0)(smooth_pixels(4, 3, 32, 32), torch.arange(4), 0)
    assert first.std(dim=1).max() < 1e-6 < second.std(dim=1).max()


@pytest.mark.parametrize(
    "crop",
    [Crop(), Crop(ratio_law="uniform", interpolation="bilinear"), Crop(ratio_law="byol")],
)
def test_files_get_the_same_crops_as_packed_images(crop: Crop) -> None:
    view = replace(PLAIN, crop=crop)
    views = TwoViews(ViewsConfig(size=48, first=view, second=view), seed=1)
    # away from black and white, where the uint8 resize also clips between its two passes
    pixels, index = smooth_pixels(12, 3, 90, 70) // 2 + 64, torch.arange(12)
    crops = torch.stack([views.crops(pixels[i], i, epoch=3) for i in range(12)])
    assert crops.dtype == torch.uint8 and crops.shape == (12, 2, 3, 48, 48)
    for packed, split in zip(views(pixels, index, 3), views.finish(crops, index, 3), strict=True):
        assert (packed - split).abs().max() < 1.5 / 255


@pytest.mark.parametrize("law", ["log_uniform", "uniform", "byol"])
def test_boxes_of_many_pictures_are_those_of_each(
    law: Literal["log_uniform", "uniform", "byol"],
) -> None:
    first, second = View(crop=Crop(ratio_law=law)), View(crop=Crop(ratio_law=law, area=(0.3, 1.0)))
    views = TwoViews(ViewsConfig(first=first, second=second), seed=5)
    rng = np.random.default_rng(0)
    sizes = [(8, 8), (9, 300), (300, 9), *rng.integers(8, 400, (300, 2)).tolist()]
    pictures = [Picture(np.zeros((*size, 3), dtype=np.uint8), 3) for size in sizes]
    index = rng.permutation(2**40 - np.arange(len(sizes))).tolist()
    together = views.boxes_of_pictures(pictures, index, 3)
    assert len(together) == len(sizes) and not views.boxes_of_pictures([], [], 3)
    for i, (height, width), boxes in zip(index, sizes, together, strict=True):
        place = {"seed": 5, "epoch": 3, "height": height, "width": width}
        alone = (
            draw_box(first.crop, torch.tensor([i]), view_number=0, **place),
            draw_box(second.crop, torch.tensor([i]), view_number=1, **place),
        )
        assert boxes == tuple(tuple(int(side) for side in box) for box in alone)


def test_files_get_the_same_looks_as_packed_images() -> None:
    # the rounding of the crops is amplified: contrast and saturation reach 1.8 each
    config = ViewsConfig(size=48, second=View(solarize=0.2), mean=(0.5,), std=(0.25,))
    views = TwoViews(config, seed=1)
    pixels, index = smooth_pixels(24, 3, 64, 64), torch.arange(24)
    crops = torch.stack([views.crops(pixels[i], i, epoch=0) for i in range(24)])
    for packed, split in zip(views(pixels, index, 0), views.finish(crops, index, 0), strict=True):
        assert (packed - split).abs().mean() < 0.02


def test_pickled_views_are_the_same() -> None:
    pixels, index = smooth_pixels(3, 3, 32, 32), torch.arange(3)
    views = TwoViews(simclr_32(), seed=4)
    copy = pickle.loads(pickle.dumps(views))
    assert torch.equal(copy(pixels, index, 1)[1], views(pixels, index, 1)[1])
    transform = EvaluationView(simclr_32())
    assert torch.equal(pickle.loads(pickle.dumps(transform))(pixels), transform(pixels))


def test_gradients_are_not_recorded() -> None:
    with torch.enable_grad():
        first, _ = TwoViews(simclr_32(), seed=0)(smooth_pixels(1, 3, 32, 32), torch.arange(1), 0)
    assert not first.requires_grad


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_one_number_normalises_any_number_of_channels(channels: int) -> None:
    config = ViewsConfig(size=16, mean=(0.25,), std=(0.5,), evaluation=EvalView(size=16, crop=1.0))
    pixels = smooth_pixels(2, channels, 16, 16)
    torch.testing.assert_close(EvaluationView(config)(pixels), (pixels / 255 - 0.25) / 0.5)
    first, _ = TwoViews(config, seed=0)(pixels, torch.arange(2), 0)
    assert first.shape == (2, channels, 16, 16) and -0.5 <= first.min() <= first.max() <= 1.5


def test_each_channel_is_normalised_by_its_own_numbers() -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    config = ViewsConfig(mean=mean, std=std, evaluation=EvalView(size=16, crop=1.0))
    pixels = smooth_pixels(2, 3, 16, 16)
    expected = F.normalize(pixels / 255, list(mean), list(std))
    torch.testing.assert_close(EvaluationView(config)(pixels), expected)
    torch.testing.assert_close(EvaluationView(config)(pixels[0]), expected[0])


@pytest.mark.parametrize(
    ("channels", "mean"), [(4, (0.0, 0.0, 0.0)), (1, (0.4, 0.5, 0.6)), (3, (0.4, 0.5))]
)
def test_normalisation_must_fit_the_channels(channels: int, mean: tuple[float, ...]) -> None:
    config = ViewsConfig(size=16, mean=mean, std=(1.0,) * len(mean))
    with pytest.raises(RecipeError, match=f"the images {channels} channels"):
        TwoViews(config, seed=0)(smooth_pixels(1, channels, 16, 16), torch.arange(1), 0)


def test_evaluation_leaves_images_of_the_right_size_alone() -> None:
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(EvaluationView(simclr_32())(pixels), pixels / 255)


@pytest.mark.parametrize("shape", [(300, 400), (401, 300)])
def test_evaluation_sees_the_central_square(shape: tuple[int, int]) -> None:
    pixels = smooth_pixels(1, 3, *shape)[0]
    square = F.center_crop(pixels, [262, 262])  # round(0.875 * 300) is 262: half to even
    expected = F.resize(square, [224, 224], InterpolationMode.BICUBIC, antialias=True)
    ours = EvaluationView(ViewsConfig())(pixels)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, expected / 255)


@pytest.mark.parametrize("shape", [(300, 401), (402, 299), (33, 33), (8, 100)])
def test_evaluation_decodes_only_what_it_sees(shape: tuple[int, int]) -> None:
    pixels = smooth_pixels(1, 3, *shape)[0]
    view = EvaluationView(ViewsConfig())
    picture = Picture(pixels.permute(1, 2, 0).numpy(), 3)
    assert torch.equal(view.square_of(picture), view.square(pixels))


def test_the_room_names_its_two_doors() -> None:
    assert room.TwoViews is TwoViews and room.EvaluationView is EvaluationView
    with pytest.raises(AttributeError, match="no attribute 'ThreeViews'"):
        room.ThreeViews  # noqa: B018


NO_BYTES = """
import torch
from squint.errors import DataError
from squint.views import TwoViews
from squint.views.recipes import ViewsConfig
views, index = TwoViews(ViewsConfig(size=16), seed=0), torch.arange(2)
for make, shape in ((views, (2, 3, 16, 16)), (views.finish, (2, 2, 3, 16, 16))):
    for dtype in (torch.int64, torch.float32):
        try:
            make(torch.zeros(shape, dtype=dtype), index, 0)
        except DataError as error:
            assert "8-bit pixels" in str(error) and str(dtype) in str(error)
            continue
        raise SystemExit(f"{dtype} was taken")
"""


def test_pixels_that_are_no_bytes_are_refused() -> None:
    """In a process of its own, as users have it: without the checks of shapes that tests run."""
    done = subprocess.run([sys.executable, "-c", NO_BYTES], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
