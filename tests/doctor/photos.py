"""Smooth pictures that are unlike each other, as files."""

from pathlib import Path

import numpy as np
from PIL import Image


def photo(seed: int, width: int = 96, height: int = 72) -> Image.Image:
    """A few coloured clouds."""
    clouds = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(clouds).resize((width, height), Image.Resampling.BICUBIC)


def folder(root: Path, count: int, start: int = 0) -> Path:
    """So many photographs, all different."""
    root.mkdir(parents=True, exist_ok=True)
    for seed in range(start, start + count):
        photo(seed).save(root / f"{seed:03}.jpg", quality=92)
    return root
