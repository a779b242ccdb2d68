"""Colour operations: against torchvision, colorsys, and TensorFlow and JAX golden vectors."""

import colorsys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as F
from torch import Tensor

from squint.views import color
from squint.views.apply import blur

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "byol.npz"
needs_golden = pytest.mark.skipif(not GOLDEN.exists(), reason=f"no golden vectors at {GOLDEN}")


@pytest.fixture
def images() -> Tensor:
    """Random images with grey, black, white and saturated pixels among them."""
    torch.manual_seed(0)
    images = torch.rand(5, 3, 12, 10)
    images[0, :, :4] = images[0, :1, :4]
    images[1, :, 0], images[1, :, 1] = 0, 1
    images[2] = images[2].round()
    return images


@pytest.mark.parametrize(
    ("ours", "theirs", "strengths"),
    [
        (color.scale_brightness, F.adjust_brightness, [0.0, 0.5, 1.0, 1.3, 2.0]),
        (color.contrast_about_gray, F.adjust_contrast, [0.0, 0.5, 1.0, 1.3, 2.0]),
        (color.saturation_to_gray, F.adjust_saturation, [0.0, 0.5, 1.0, 1.3, 2.0]),
        (color.hue, F.adjust_hue, [-0.5, -0.13, 0.0, 0.2, 0.5]),
    ],
)
def test_equals_torchvision(
    ours: Callable[..., Tensor],
    theirs: Callable[..., Tensor],
    strengths: list[float],
    images: Tensor,
) -> None:
    batch = ours(images, torch.tensor(strengths)).clamp(0, 1)
    for row, strength in enumerate(strengths):
        expected = theirs(images[row], strength)
        torch.testing.assert_close(batch[row], expected, rtol=0, atol=1e-5)


def test_gray_and_solarize_equal_torchvision(images: Tensor) -> None:
    expected = F.rgb_to_grayscale(images, num_output_channels=3)
    torch.testing.assert_close(color.gray(images), expected, rtol=0, atol=1e-6)
    assert torch.equal(color.solarize(images), F.solarize(images, 0.5))


def test_contrast_of_one_channel_equals_torchvision() -> None:
    images = torch.rand(2, 1, 9, 9)
    ours = color.contrast_about_gray(images, torch.tensor([0.4, 1.7])).clamp(0, 1)
    for row, factor in enumerate((0.4, 1.7)):
        torch.testing.assert_close(ours[row], F.adjust_contrast(images[row], factor))


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.8])
@pytest.mark.parametrize("turns", [-0.5, -0.2, 0.0, 0.1])
def test_saturation_and_hue_equal_colorsys(factor: float, turns: float, images: Tensor) -> None:
    n = len(images)
    saturated = color.saturation_hsv(images, torch.full((n,), factor))
    turned = color.hue(images, torch.full((n,), turns))
    pixels, saturated, turned = (
        x.movedim(1, 3).reshape(-1, 3).tolist() for x in (images, saturated, turned)
    )
    for pixel, after_saturation, after_hue in zip(pixels, saturated, turned, strict=True):
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        expected = colorsys.hsv_to_rgb(h, min(1.0, s * factor), v)
        assert after_saturation == pytest.approx(expected, abs=1e-5)
        assert after_hue == pytest.approx(colorsys.hsv_to_rgb((h + turns) % 1, s, v), abs=1e-5)


def test_strengths_belong_to_their_image(images: Tensor) -> None:
    strengths = torch.linspace(-0.4, 0.5, len(images))
    for operation in (color.add_brightness, color.contrast_per_channel, color.saturation_hsv):
        batch = operation(images, strengths)
        for row in range(len(images)):
            alone = operation(images[row : row + 1], strengths[row : row + 1])
            torch.testing.assert_close(batch[row : row + 1], alone)


def golden(name: str) -> Tensor:
    """An image of the golden file as a batch of one, (1, 3, h, w)."""
    with np.load(GOLDEN) as file:
        return torch.from_numpy(file[f"augment0/{name}"]).float().movedim(2, 0)[None]


@needs_golden
@pytest.mark.parametrize(
    ("name", "operation", "strengths"),
    [
        ("brightness", color.add_brightness, [-0.1, 0.03, 0.1]),
        ("contrast", color.contrast_per_channel, [0.6, 0.9, 1.4]),
        ("saturation", color.saturation_hsv, [0.6, 0.9, 1.4]),
        ("hue", color.hue, [-0.1, 0.03, 0.1]),
        ("blur", lambda x, sigma: blur(x, sigma, "zero", radius=1), [0.1, 0.7, 2.0]),
    ],
)
def test_equals_byols_released_code(
    name: str, operation: Callable[..., Tensor], strengths: list[float]
) -> None:
    image = golden("image")
    for number, strength in enumerate(strengths):
        ours = operation(image, torch.tensor([strength]))
        torch.testing.assert_close(ours, golden(f"{name}{number}"), rtol=0, atol=1e-5)


@needs_golden
def test_gray_and_solarize_equal_byols_released_code() -> None:
    image = golden("image")
    gray = golden("grayscale").expand_as(image)
    torch.testing.assert_close(color.gray(image), gray, rtol=0, atol=1e-5)
    torch.testing.assert_close(color.solarize(image), golden("solarized"), rtol=0, atol=1e-6)
