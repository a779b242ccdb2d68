"""Small images for the tests of this folder."""

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def pixels(seed: int, height: int = 12, width: int = 12, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def write_tree(root: Path, names: Iterable[str], side: int = 12) -> Path:
    """A png per name, all different; image k has the pixels of seed k."""
    for k, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(pixels(k, side, side)))
    return root
