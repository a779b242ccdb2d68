"""Whole views: against torchvision applied image by image with the same parameters."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torchvision.transforms.v2.functional as F
from torch import Tensor
from torchvision.transforms import InterpolationMode

from squint.views import apply as apply_module
from squint.views import color
from squint.views.apply import apply, apply_look, blur
from squint.views.draw import Params, draw
from squint.views.recipes import Blur, Crop, Jitter, View

PLACE: dict[str, Any] = {"seed": 0, "epoch": 0, "view_number": 0}


def drawn(view: View, images: Tensor) -> Params:
    height, width = images.shape[2:]
    return draw(view, torch.arange(len(images)), **PLACE, height=height, width=width)


def torchvision_view(image: Tensor, row: int, params: Params, view: View, size: int) -> Tensor:
    """One image through torchvision's functions, one after another."""
    box, look = params
    top, left, height, width = (int(side[row]) for side in box)
    mode = InterpolationMode.BICUBIC
    x = F.resized_crop(image, top, left, height, width, [size, size], mode, True).clamp(0, 1)
    x = F.horizontal_flip(x) if look.flip[row] else x
    x = F.rgb_to_grayscale(x, 3) if look.gray[row] and view.gray_before_jitter else x
    operations = [
        (F.adjust_brightness, look.brightness),
        (F.adjust_contrast, look.contrast),
        (F.adjust_saturation, look.saturation),
        (F.adjust_hue, look.hue),
    ]
    for number in look.order[row].tolist() if look.jitter[row] else []:
        operation, strength = operations[number]
        x = operation(x, float(strength[row]))
    x = F.rgb_to_grayscale(x, 3) if look.gray[row] and not view.gray_before_jitter else x
    taps = 2 * (size // 20) + 1
    x = F.gaussian_blur(x, [taps, taps], [float(look.sigma[row])]) if look.blur[row] else x
    return F.solarize(x, 0.5) if look.solarize[row] else x


@pytest.mark.parametrize("gray_before_jitter", [False, True])
def test_views_equal_torchvisions(gray_before_jitter: bool) -> None:
    torch.manual_seed(0)
    view = View(solarize=0.3, gray_before_jitter=gray_before_jitter)
    # smooth images: solarizing jumps at 0.5, and rounding decides only for pixels that hit it
    images = F.gaussian_blur(torch.rand(64, 3, 50, 44), [9, 9])
    images = (images - 0.35).mul(3.3).clamp(0, 1)
    params = drawn(view, images)
    ours = apply(images, params, view, 60)
    for row, image in enumerate(images):
        theirs = torchvision_view(image, row, params, view, 60)
        close = (ours[row] - theirs).abs() < 5e-5
        assert close.float().mean() > 0.999, row


def test_grey_before_jitter_draws_the_same_and_shows_another_image() -> None:
    images = torch.rand(64, 3, 16, 16)
    late = View(jitter=Jitter(probability=1.0), gray=1.0, blur=Blur(probability=0.0))
    early = replace(late, gray_before_jitter=True)
    params = drawn(late, images)
    for before, after in zip(params.look, drawn(early, images).look, strict=True):
        assert torch.equal(before, after)
    first, last = apply(images, params, early, 16), apply(images, params, late, 16)
    assert (first != last).flatten(1).any(dim=1).all()
    # hue and saturation find nothing to change in a grey image: one without colour comes out
    torch.testing.assert_close(first[:, 0], first[:, 1], rtol=0, atol=1e-5)
    torch.testing.assert_close(first[:, 0], first[:, 2], rtol=0, atol=1e-5)


def test_solarizing_at_0_5_is_pils_threshold_of_128_on_8_bit_pixels() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    ours = color.solarize(levels / 255)
    assert torch.equal(ours.mul(255).round().to(torch.uint8), F.solarize(levels, 128))


@pytest.mark.parametrize("form", ["torchvision", "simclr", "byol"])
def test_jitter_runs_in_the_order_of_each_image(form: str) -> None:
    images = torch.rand(48, 3, 8, 8)
    jitter = Jitter(probability=0.7, form=form)  # type: ignore[arg-type]
    view = View(flip=0.0, jitter=jitter, gray=0.0, blur=Blur(probability=0.0))
    look = drawn(view, images).look
    torchvision = form == "torchvision"
    operations = [
        (color.add_brightness if form == "byol" else color.scale_brightness, look.brightness),
        (color.contrast_about_gray if torchvision else color.contrast_per_channel, look.contrast),
        (color.saturation_to_gray if torchvision else color.saturation_hsv, look.saturation),
        (color.hue, look.hue),
    ]
    ours = apply_look(images, look, view)
    for row in range(len(images)):
        x = images[row : row + 1]
        for number in look.order[row].tolist() if look.jitter[row] else []:
            operation, strength = operations[number]
            x = operation(x, strength[row : row + 1]).clamp(0, 1)
        torch.testing.assert_close(ours[row : row + 1], x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [21, 60, 224])
def test_blur_equals_torchvision(size: int) -> None:
    images = torch.rand(3, 3, size, size + 3)
    sigma = torch.tensor([0.1, 0.9, 2.0])
    radius = size // 20
    ours = blur(images, sigma, "reflect")
    dark = blur(images, sigma, "zero")
    for row in range(3):
        kernel, strength = [2 * radius + 1] * 2, [float(sigma[row])]
        expected = F.gaussian_blur(images[row], kernel, strength)
        torch.testing.assert_close(ours[row], expected, rtol=0, atol=1e-5)
        padded = F.pad(images[row], [radius] * 4)
        expected = F.gaussian_blur(padded, kernel, strength)[:, radius:-radius, radius:-radius]
        torch.testing.assert_close(dark[row], expected, rtol=0, atol=1e-5)


def test_simclrs_kernel_has_23_taps_at_224() -> None:
    point = torch.zeros(1, 1, 224, 224)
    point[0, 0, 112, 112] = 1
    line = blur(point, torch.tensor([5.0]), "zero")[0, 0, 112]
    assert line.nonzero()[:, 0].tolist() == list(range(101, 124))


def test_zero_padding_darkens_borders_and_reflection_does_not() -> None:
    white = torch.ones(1, 3, 40, 40)
    sigma = torch.tensor([1.0])
    assert blur(white, sigma, "zero")[0, 0, 0, 0] < 0.6
    torch.testing.assert_close(blur(white, sigma, "reflect"), white)


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
@pytest.mark.parametrize("form", ["torchvision", "simclr", "byol"])
def test_images_without_rgb_keep_what_does_not_need_it(channels: int, form: str) -> None:
    images = torch.rand(40, channels, 12, 12)
    jitter = Jitter(probability=1.0, form=form)  # type: ignore[arg-type]
    view = View(crop=Crop(area=(1.0, 1.0), ratio=(1.0, 1.0)), jitter=jitter, gray=1.0, solarize=0.5)
    changed = apply(images, drawn(view, images), view, 12)
    assert changed.shape == images.shape
    assert ((changed - images).abs().amax(dim=(1, 2, 3)) > 1e-3).all()
    if channels > 1:
        assert (changed.std(dim=1) > 0).any()  # not grey


@pytest.mark.parametrize("view", [View(solarize=0.5), View(crop=Crop(interpolation="bilinear"))])
def test_views_stay_in_range_and_leave_the_input_alone(view: View) -> None:
    images = torch.rand(32, 3, 20, 24).round()
    before = images.clone()
    params = drawn(view, images)
    x = apply(images, params, view, 32)
    assert x.min() >= 0 and x.max() <= 1 and x.is_contiguous()
    apply_look(images, params.look, view)
    assert torch.equal(images, before)


def test_accelerators_branch_gives_the_same_views(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.rand(32, 3, 20, 24)
    view = View(solarize=0.5)
    params = drawn(view, images)
    gathered = apply(images, params, view, 32)
    monkeypatch.setattr(apply_module, "_change_chosen", apply_module._change_all)
    torch.testing.assert_close(apply(images, params, view, 32), gathered, rtol=0, atol=1e-6)
