"""Extraction: order, precision, and an encoder left as it was found."""

import pytest
import torch
from torch import nn

from squint.errors import DataError, RunError
from squint.evaluate.features import extract


class Tiny(nn.Module):
    """Convolution, BatchNorm, mean: small, but it differs between the two modes."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.norm = nn.BatchNorm2d(5)
        self.seen = []

    def forward(self, images):
        self.seen.append((self.training, torch.is_inference_mode_enabled(), images.stride()))
        return self.norm(self.conv(images)).mean((2, 3))


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.randn(10, 3, 6, 6)


def test_rows_keep_their_order_and_equal_one_pass(images):
    encoder = Tiny()
    features = extract(encoder, images.split(4), count=10, device="cpu")
    assert features.dtype == torch.float32 and not features.is_inference()
    with torch.no_grad():
        torch.testing.assert_close(features, encoder.eval()(images))


def test_evaluation_mode_inside_former_modes_after(images):
    encoder = Tiny().train()
    encoder.norm.eval()
    statistics = encoder.norm.running_mean.clone()
    extract(encoder, [images], count=10, device="cpu")
    ((training, inference, stride),) = encoder.seen
    assert not training and inference and stride[1] == 1  # channels last
    assert encoder.training and encoder.conv.training and not encoder.norm.training
    assert torch.equal(encoder.norm.running_mean, statistics)


def test_modes_return_after_an_error(images):
    encoder = Tiny().train()
    with pytest.raises(DataError, match="More than the 10 images"):
        extract(encoder, [images, images], count=10, device="cpu")
    assert encoder.training and encoder.norm.training


def test_bfloat16_is_near_but_not_equal(images):
    encoder = Tiny()
    exact = extract(encoder, [images], count=10, device="cpu")
    lower = extract(encoder, [images], count=10, device="cpu", precision="bfloat16")
    assert lower.dtype == torch.float32 and not torch.equal(exact, lower)
    torch.testing.assert_close(exact, lower, rtol=0.05, atol=0.05)


def test_large_batches_pass_through_a_processor_in_pieces():
    torch.manual_seed(0)
    images = torch.randn(40, 3, 64, 64)
    encoder = Tiny()
    sizes = []
    encoder.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    features = extract(encoder, [images], count=40, device="cpu")
    assert sizes == [16, 16, 8]
    with torch.no_grad():
        torch.testing.assert_close(features, encoder.eval()(images))
    sizes.clear()
    extract(encoder, [torch.randn(10, 3, 256, 256)], count=10, device="cpu")
    assert sizes == [8, 2]


@pytest.mark.parametrize("count", [9, 11])
def test_count_must_match(images, count):
    with pytest.raises(DataError, match="announced"):
        extract(Tiny(), images.split(4), count=count, device="cpu")


def test_no_images():
    with pytest.raises(DataError, match="above 0"):
        extract(Tiny(), [], count=0, device="cpu")


def test_broken_weights_are_named(images):
    images[3] = torch.nan
    with pytest.raises(RunError, match="1 of 10 images are not finite"):
        extract(Tiny(), [images], count=10, device="cpu")
