"""Draw the picture of the README: built-in images and the two views a method gets of each.

python examples/views_picture.py docs/views.png
"""

import sys

import numpy as np
import torch
from PIL import Image

from squint.data import open_source, pack
from squint.views import TwoViews
from squint.views.recipes import simclr_32

SCALE, GAP = 3, 4


def main(out: str) -> None:
    """Write a sheet: one column per shape; the image, then its two views."""
    packed = pack(open_source("demo").split("train"))
    assert packed is not None and packed.images.labels is not None
    labels = packed.images.labels
    rows = np.array([np.flatnonzero(labels == label)[7] for label in range(10)])
    pixels = torch.from_numpy(np.array(packed.pixels[rows])).permute(0, 3, 1, 2)  # (10, c, h, w)
    views = TwoViews(simclr_32(), seed=0)(pixels, torch.from_numpy(rows), 0)
    sheets = [pixels.float() / 255, *views]
    side = pixels.shape[-1] * SCALE + GAP
    canvas = np.full((3 * side - GAP, 10 * side - GAP, 3), 255, dtype=np.uint8)
    for row, sheet in enumerate(sheets):
        for column, image in enumerate(sheet):
            tile = (image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)  # (h, w, c)
            tile = tile.repeat(SCALE, axis=0).repeat(SCALE, axis=1)
            top, left = row * side, column * side
            canvas[top : top + len(tile), left : left + len(tile)] = tile
    Image.fromarray(canvas).save(out, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
