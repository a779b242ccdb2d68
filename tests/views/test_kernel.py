"""The native kernels against the reference, fed the same draws.

Both compute in float32 and round differently; a difference is given as a share of the range from
black to white. No operation jumps: hue is continuous where colour ends, solarizing at one half.
So a rounding error stays one, amplified by contrast and saturation.
"""

import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from squint import native, presets
from squint.views import cifar_recipes, kernel, paths, recipes
from squint.views.draw import Box, Look, Params, draw
from squint.views.recipes import Blur, Crop, Jitter, View, ViewsConfig
from squint.views.two_views import TwoViews
from views.pictures import noise, photographs

pytestmark = pytest.mark.skipif(native.library() is None, reason="the kernels are not built")

CLOSE = 1e-5  # of black to white: a four-hundredth of a grey level
PLANAR = torch.contiguous_format


def all_recipes() -> dict[str, View]:
    """Every view of every preset and of every named recipe, by the first name it goes by."""
    by_view: dict[View, str] = {}
    pairs = {name: presets.recipe(name).views for name in presets.names()}
    pairs |= {make.__name__: make() for make in (cifar_recipes.solo_simclr_32, recipes.byol_224)}
    for name, pair in pairs.items():
        by_view.setdefault(pair.first, f"{name}, first")
        by_view.setdefault(pair.second, f"{name}, second")
    return {name: view for view, name in by_view.items()}


def drawn(view: View, pixels: Tensor, seed: int = 0) -> Params:
    place: dict[str, Any] = {"seed": seed, "epoch": 0, "view_number": 0}
    height, width = pixels.shape[2:]
    return draw(view, torch.arange(len(pixels)), **place, height=height, width=width)


def difference(ours: Tensor, reference: Tensor, config: ViewsConfig) -> float:
    assert ours.shape == reference.shape and ours.dtype == reference.dtype
    return float((ours - reference).abs().max()) * min(config.std)


def of_views(pixels: Tensor, params: Params, view: View, config: ViewsConfig) -> float:
    """Largest difference of whole views."""
    ours = kernel.apply(pixels, params, view, config)
    return difference(ours, paths.apply(pixels, params, view, config, PLANAR), config)


def of_looks(crops: Tensor, look: Look, view: View, config: ViewsConfig) -> float:
    """Largest difference after the crop."""
    ours = kernel.apply_look(crops, look, view, config)
    return difference(ours, paths.apply_look(crops, look, view, config, PLANAR), config)


@pytest.mark.parametrize("view", all_recipes().values(), ids=all_recipes().keys())
@pytest.mark.parametrize("size", [32, 224])
def test_every_recipe_gives_the_references_views(view: View, size: int) -> None:
    config = ViewsConfig(size=size, mean=recipes.IMAGENET_MEAN, std=recipes.IMAGENET_STD)
    n = 96 if size == 32 else 6
    for pixels in (photographs(n, size + 8, size + 3), noise(n, 3, size + 8, size + 3)):
        params = drawn(view, pixels)
        assert of_views(pixels, params, view, config) < CLOSE
        crops = pixels[:, :, :size, :size]
        assert of_looks(crops, params.look, view, config) < CLOSE


@pytest.mark.parametrize("view", all_recipes().values(), ids=all_recipes().keys())
@pytest.mark.parametrize("channels", [2, 4, 7])
def test_every_recipe_gives_the_references_views_of_other_channels(
    view: View, channels: int
) -> None:
    mean, std = (torch.linspace(*ends, channels).tolist() for ends in ((0.2, 0.6), (0.1, 0.3)))
    config = ViewsConfig(size=32, mean=tuple(mean), std=tuple(std))
    colours = torch.cat([photographs(48, 40, 35), photographs(48, 40, 35).flip(0)] * 2, dim=1)
    for pixels in (colours[:, :channels], noise(48, channels, 40, 35)):
        params = drawn(view, pixels)
        assert of_views(pixels, params, view, config) < CLOSE
        crops = pixels[:, :, :32, :32]
        assert of_looks(crops, params.look, view, config) < CLOSE


def case(seed: int) -> tuple[Tensor, Params, View, ViewsConfig]:
    """Any recipe, any images, and boxes no recipe would draw, of one pixel too."""
    r = random.Random(seed)
    n, channels = r.randint(1, 5), r.choice([1, 2, 3, 3, 3, 4, 17])
    height, width = r.randint(1, 70), r.randint(1, 70)
    strengths = {name: r.choice([0.0, r.random()]) for name in ("brightness", "contrast")}
    strengths |= {"saturation": r.choice([0.0, r.random()]), "hue": r.choice([0.0, 0.5])}
    view = View(
        crop=Crop(interpolation=r.choice(["bilinear", "bicubic"])),
        jitter=Jitter(
            probability=r.choice([0.0, 0.8, 1.0]),
            form=r.choice(["torchvision", "simclr", "byol"]),
            **strengths,
        ),
        gray=r.choice([0.0, 0.5]),
        gray_before_jitter=r.choice([False, True]),
        blur=Blur(
            probability=r.choice([0.0, 0.5]),
            sigma=(0.05, 20.0),
            padding=r.choice(["zero", "reflect"]),
        ),
        solarize=r.choice([0.0, 0.5]),
    )
    size = r.choice([r.randint(8, 70), 16, 32, 224])
    config = ViewsConfig(size=size, first=view, second=view, mean=(0.3,), std=(0.5,))
    pixels = noise(n, channels, height, width, seed)
    if r.random() < 0.3:
        pixels = pixels // 128 * 255  # black, white and pure colours
    lengths = [
        [r.choice([1, side, r.randint(1, side)]) for _ in range(n)] for side in (height, width)
    ]
    starts = [
        [r.randint(0, side - length) for length in row]
        for side, row in zip((height, width), lengths, strict=True)
    ]
    box = Box(*map(torch.tensor, (*starts, *lengths)))
    return pixels, Params(box, drawn(view, pixels, seed).look), view, config


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**30))
def test_anything_gives_the_references_views(seed: int) -> None:
    assert of_views(*case(seed)) < 4 * CLOSE


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**30))
def test_anything_gives_the_references_looks(seed: int) -> None:
    _, params, view, config = case(seed)
    crops = noise(len(params.look.flip), 3, config.size, config.size)
    assert of_looks(crops, params.look, view, config) < 4 * CLOSE


@pytest.mark.parametrize("channels", [1, 3])
def test_memory_may_lie_in_any_way(channels: int) -> None:
    config = replace(recipes.simclr_32(), mean=(0.1,), std=(0.2,))
    pixels = photographs(40, 40, 36)[:, :channels]
    params = drawn(config.first, pixels)
    planar = kernel.apply(pixels, params, config.first, config)
    interleaved = pixels.contiguous(memory_format=torch.channels_last)
    every_second = torch.stack([pixels, noise(40, channels, 40, 36)], dim=1)[:, 0]
    wide = torch.stack([pixels, pixels], dim=4).flatten(3)[..., ::2]  # not readable in place
    for same in (interleaved, every_second, wide):
        assert torch.equal(kernel.apply(same, params, config.first, config), planar)
    last = kernel.apply(pixels, params, config.first, config, torch.channels_last)
    assert last.is_contiguous(memory_format=torch.channels_last) and torch.equal(last, planar)


def test_levels_are_divided_by_255_to_the_last_bit() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(1, 3, 1, 1)
    view = View(flip=0.0, jitter=Jitter(probability=0.0), gray=0.0, blur=Blur(probability=0.0))
    config = ViewsConfig(size=16, first=view, second=view)
    for flip in (0.0, 1.0):
        look = drawn(replace(view, flip=flip), levels).look
        expected = levels.flip(3) / 255 if flip else levels / 255
        for layout in (torch.contiguous_format, torch.channels_last):
            crops = levels.contiguous(memory_format=layout)
            assert torch.equal(kernel.apply_look(crops, look, view, config), expected)


def test_threads_do_not_change_the_views() -> None:
    pixels, index = photographs(77, 32, 32), torch.arange(77)
    views = TwoViews(recipes.simclr_32(), seed=0, path="native")
    alone = views(pixels, index, 0)
    torch.set_num_threads(3)
    try:
        together = views(pixels, index, 0)
    finally:
        torch.set_num_threads(1)
    assert all(map(torch.equal, alone, together))


def test_an_error_is_an_error_whatever_the_threads() -> None:
    pixels = noise(4, 3, 8, 9)
    look = drawn(View(), pixels).look
    with pytest.raises(ValueError, match="not square"):
        kernel.apply_look(pixels, look, View(), ViewsConfig(size=8))
    with pytest.raises(ValueError, match="4 drawn looks do not fit 3 images"):
        kernel.apply_look(pixels[:3, :, :, :8], look, View(), ViewsConfig(size=8))
