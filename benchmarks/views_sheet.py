"""The same draws through the reference and the native kernels, side by side, to look at.

    python benchmarks/views_sheet.py OUT.png [--recipe byol_224] [--size 96]

One row per image: the image; the first view by the reference, by the kernels, and 1,000 times
their difference on grey; then the second view likewise.
"""

import argparse
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor

from squint.views import TwoViews, cifar_recipes, recipes

MAGNIFIED = 1000


def main() -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out")
    parser.add_argument("--recipe", default="byol_224")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--rows", type=int, default=8)
    chosen = parser.parse_args()
    room = recipes if hasattr(recipes, chosen.recipe) else cifar_recipes
    config = replace(getattr(room, chosen.recipe)(), size=chosen.size, mean=(0.0,), std=(1.0,))
    pixels = photographs(chosen.rows, chosen.size)
    index = torch.arange(len(pixels))
    columns = [pixels / 255]
    reference = TwoViews(config, seed=0, path="reference")(pixels, index, 0)
    native = TwoViews(config, seed=0, path="native")(pixels, index, 0)
    for theirs, ours in zip(reference, native, strict=True):
        print(f"largest difference: {(theirs - ours).abs().max():.1e}")
        columns += [theirs, ours, 0.5 + MAGNIFIED * (ours - theirs)]
    Image.fromarray(sheet(columns)).save(chosen.out)


def photographs(n: int, side: int) -> Tensor:
    """Squares of scikit-learn's two photographs."""
    whole = [np.asarray(picture) for picture in load_sample_images().images]
    tiles: list[np.ndarray] = []
    for i in range(n):
        picture = whole[i % 2]
        top, left = (97 * i % (length - 3 * side) for length in picture.shape[:2])
        tiles.append(picture[top : top + 3 * side : 3, left : left + 3 * side : 3])
    return torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2)  # (n, 3, side, side)


def sheet(columns: list[Tensor], gap: int = 4) -> np.ndarray:
    """Columns of images in 0..1 as one picture."""
    n, _, h, w = columns[0].shape
    canvas = np.full((n * (h + gap), len(columns) * (w + gap), 3), 255, dtype=np.uint8)
    for x, column in enumerate(columns):
        levels = column.clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).numpy()
        for y, image in enumerate(levels):
            top, left = y * (h + gap), x * (w + gap)
            canvas[top : top + h, left : left + w] = image
    return canvas


if __name__ == "__main__":
    main()
