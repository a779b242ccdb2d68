"""Crops out of JPEG files at a reduced scale (`views.exact` off): near the exact ones, and only
where the files are large enough for it."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from squint import native
from squint.data.picture import Part, Picture
from squint.native import jpeg
from squint.views import recipes
from squint.views.recipes import ViewsConfig
from squint.views.two_views import LEAST_SHRINK, TwoViews, reduction_of, window_of
from views.pictures import photographs

needs_libjpeg = pytest.mark.skipif(jpeg.library() is None, reason="built without libjpeg")


def encoded(pixels: Tensor, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=92, **options)
    return file.getvalue()


def crops(data: bytes, config: ViewsConfig, *, index: int = 0, path: str = "auto") -> Tensor:
    views = TwoViews(config, seed=0, path=path)  # type: ignore[arg-type]
    return views.crops_of_picture(Picture(data, 3), index, 0)


def test_both_crops_keep_twice_the_size_of_their_views() -> None:
    large, small = (0, 0, 900, 1000), (5, 9, 512, 513)
    assert LEAST_SHRINK == 2
    assert reduction_of((large, small), 32) == 8
    assert reduction_of((large, small), 33) == 4
    assert reduction_of((large, small), 128) == 2
    assert reduction_of((small, large), 129) == reduction_of((large, small), 224) == 1
    assert reduction_of((large, large), 224) == 2
    assert reduction_of(((0, 0, 4000, 447), large), 224) == 1


def test_the_region_stays_the_same() -> None:
    part = Part(np.zeros((60, 60, 3), dtype=np.uint8), top=4, left=10, reduction=4)
    assert window_of((18, 45, 201, 100), part) == (0.5, 1.25, 50.25, 25.0)
    assert window_of((18, 45, 201, 100), part._replace(reduction=1)) == (14, 35, 201, 100)


@needs_libjpeg
@pytest.mark.parametrize("make", [recipes.simclr_224, recipes.moco_v3_224])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
@pytest.mark.parametrize("size", [32, 48, 64])
def test_reduced_crops_are_near(make: type, subsampling: str, size: int) -> None:
    """Measured: half a level in the mean, 3 at the 99th percentile (docs/views.md)."""
    exact = replace(make(), size=size)
    levels: list[Tensor] = []
    for index, photo in enumerate(photographs(24, 420, 630)):
        data = encoded(photo, subsampling=subsampling)
        views = TwoViews(exact, seed=0)
        (boxes,) = views.boxes_of_pictures([Picture(data, 3)], [index], 0)
        if reduction_of(boxes, size) > 1:
            near = crops(data, replace(exact, exact=False), index=index)
            levels.append((near.int() - crops(data, exact, index=index).int()).abs().float())
    difference = torch.stack(levels)  # (images, 2, c, s, s)
    assert len(difference) >= 3 and difference.max() > 0
    assert difference.mean() < 0.8
    assert difference.mean(dim=(1, 2, 3, 4)).max() < 1.5
    assert (difference > 5).float().mean() < 0.01
    assert difference.max() < 50


@needs_libjpeg
@pytest.mark.skipif(native.library() is None, reason="the kernels are not built")
def test_the_reference_crops_the_same_reduced_files() -> None:
    config = replace(recipes.moco_v2_224(), size=48, exact=False)
    for index, photo in enumerate(photographs(4, 400, 600)):
        data = encoded(photo)
        ours = crops(data, config, index=index, path="native")
        theirs = crops(data, config, index=index, path="reference")
        # windows of whole pixels go to torchvision, which rounds between its passes
        assert (ours.int() - theirs.int()).abs().max() <= 1


@pytest.mark.parametrize("side", [32, 100, 447])
def test_small_files_are_never_reduced(side: int) -> None:
    data = encoded(photographs(1, min(side, 420), side)[0])
    for index in range(3):
        exact, near = (
            crops(data, replace(recipes.simclr_224(), exact=exact), index=index)
            for exact in (True, False)
        )
        assert torch.equal(exact, near)


def test_what_is_no_jpeg_is_cropped_exactly() -> None:
    file = io.BytesIO()
    photo = photographs(1, 400, 600)[0]
    Image.fromarray(photo.permute(1, 2, 0).numpy()).save(file, "PNG")
    exact, near = (
        crops(file.getvalue(), replace(recipes.simclr_224(), size=32, exact=exact))
        for exact in (True, False)
    )
    assert torch.equal(exact, near)
