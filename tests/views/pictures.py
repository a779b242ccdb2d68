"""Real photographs (scikit-learn's two), cut into pieces, and noise of the same shape."""

from functools import cache

import torch
from sklearn.datasets import load_sample_images
from torch import Tensor


@cache
def _photographs() -> Tensor:
    return torch.stack([torch.tensor(p) for p in load_sample_images().images])  # (2, h, w, 3)


def photographs(n: int, height: int, width: int, *, interleaved: bool = False) -> Tensor:
    """Pieces of real pictures, (n, 3, height, width) of uint8; in memory (n, h, w, 3) if asked."""
    whole = _photographs().permute(0, 3, 1, 2)  # (2, 3, 427, 640)
    generator = torch.Generator().manual_seed(n + height)
    pieces: list[Tensor] = []
    for i in range(n):
        top = int(torch.randint(0, whole.shape[2] - height + 1, (), generator=generator))
        left = int(torch.randint(0, whole.shape[3] - width + 1, (), generator=generator))
        pieces.append(whole[i % 2, :, top : top + height, left : left + width])
    layout = torch.channels_last if interleaved else torch.contiguous_format
    return torch.stack(pieces).contiguous(memory_format=layout)


def noise(n: int, channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Independent pixels of uint8: the hardest case for anything that smooths or divides."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, channels, height, width), generator=generator).byte()
