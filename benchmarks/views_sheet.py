"""The same draws made in two ways, side by side, to look at.

    python benchmarks/views_sheet.py OUT.png [--data SRC] [--compare paths|exact]
        [--recipe byol_224] [--size 96] [--rows 8]

One row per image: the image; the first view in one way, in the other, and their difference on
grey, magnified; then the second view likewise. The ways are `paths`, the reference and the native
kernels, or `exact`, files decoded at their own scale and at a reduced one, of which only images
large enough for it are shown. Without a source the images are packed ones.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor

from squint.data import open_source
from squint.data.picture import Picture
from squint.views import TwoViews, cifar_recipes, recipes
from squint.views.two_views import reduction_of, tensor_of

Two = tuple[Tensor, Tensor]


def main() -> None:
    """Write the sheet."""
    chosen = options()
    room = recipes if hasattr(recipes, chosen.recipe) else cifar_recipes
    config = replace(
        getattr(room, chosen.recipe)(), size=chosen.size, mean=(0.0,) * 3, std=(1.0,) * 3
    )
    if chosen.compare == "paths":
        ways = [TwoViews(config, seed=0, path=path) for path in ("reference", "native")]
    else:
        ways = [TwoViews(replace(config, exact=exact), seed=0) for exact in (True, False)]
    if chosen.data:
        images, (one, other) = from_files(chosen.data, ways, chosen.rows, chosen.compare == "exact")
        magnified = 10
    else:
        images = photographs(chosen.rows, chosen.size)
        one, other = (way(images, torch.arange(len(images)), 0) for way in ways)
        magnified = 1000
    columns = [images / 255]
    for left, right in zip(one, other, strict=True):
        difference = (left - right).abs()
        print(f"difference: mean {difference.mean():.1e}, largest {difference.max():.1e}")
        columns += [left, right, 0.5 + magnified * (right - left)]
    Image.fromarray(sheet(columns)).save(chosen.out)


def options() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("out")
    parser.add_argument("--data", default="")
    parser.add_argument("--compare", choices=["paths", "exact"], default="paths")
    parser.add_argument("--recipe", default="byol_224")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--rows", type=int, default=8)
    return parser.parse_args()


def from_files(source: str, ways: list[TwoViews], rows: int, large: bool) -> tuple[Tensor, list]:
    """Squares of the images, and both views of each as each way makes them of files."""
    size = ways[0].config.size
    shown: list[Tensor] = []
    numbers: list[int] = []
    crops: list[list[Tensor]] = [[] for _ in ways]
    for row, picture, boxes in pictures(source, ways[0]):
        if large and reduction_of(boxes, size) == 1:
            continue
        for made, way in zip(crops, ways, strict=True):
            made.append(way.crops_of_picture(picture, row, 0, boxes))
        whole = tensor_of(picture.window(0, 0, picture.height, picture.width))
        shown.append(F.adaptive_avg_pool2d(whole.float(), size))
        numbers.append(row)
        if len(numbers) == rows:
            break
    index = torch.tensor(numbers)
    views = [way.finish(torch.stack(made), index, 0) for way, made in zip(ways, crops, strict=True)]
    return torch.stack(shown), views


def pictures(source: str, views: TwoViews) -> Iterator[tuple[int, Picture, tuple]]:
    """Number, picture and crop boxes of each image."""
    images = open_source(source)
    for row in range(len(images)):
        picture = images.picture(row)
        (boxes,) = views.boxes_of_pictures([picture], [row], 0)
        yield row, picture, boxes


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
