"""Two views of packed images: shape, range, reproducibility."""

import torch

from squint.views.recipes import simclr_32
from squint.views.two_views import TwoViews


def test_an_image_has_the_same_views_in_any_batch() -> None:
    pixels = torch.randint(0, 256, (6, 3, 40, 36), dtype=torch.uint8)
    views = TwoViews(simclr_32(), seed=3)
    many = views(pixels, torch.arange(6), epoch=2)
    alone = views(pixels[4:5], torch.tensor([4]), epoch=2)
    for batch, single in zip(many, alone, strict=True):
        assert batch.shape == (6, 3, 32, 32) and batch.is_contiguous()
        torch.testing.assert_close(batch[4:5], single, rtol=0, atol=1e-6)
