"""An attribute table of any images: brightness, contrast, colour and detail of each.

    python benchmarks/image_statistics.py --data cifar10-jpeg.tar.gz --out statistics.csv
    squint evaluate RUN --protocols nuisance --nuisance.attributes statistics.csv

Values are of the stored picture, before any view: luma (0 to 255) mean and standard deviation,
mean colour's hue in turns, mean saturation (0 to 1), and detail, the log2 of luma's mean squared
second difference.
"""

import argparse
import colorsys
import csv
from pathlib import Path

import numpy as np

from squint.data import open_source

HEADINGS = ("path", "brightness", "contrast", "hue:turns", "saturation", "detail")
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def statistics(picture: np.ndarray) -> tuple[float, ...]:
    """Brightness, contrast, hue, saturation and detail of a picture (h, w, 3), uint8."""
    rgb = picture.astype(np.float64)
    luma = rgb @ LUMA
    hue, _, _ = colorsys.rgb_to_hsv(*(rgb.mean(axis=(0, 1)) / 255))
    brightest = rgb.max(axis=2)
    saturation = (brightest - rgb.min(axis=2)) / np.maximum(brightest, 1)
    inner = luma[1:-1, 1:-1]
    around = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    detail = np.log2(np.square(around - 4 * inner).mean() + 1)
    return luma.mean(), luma.std(), hue, saturation.mean(), detail


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    images = open_source(options.data, channels=3)
    with options.out.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(HEADINGS)
        for number, path in enumerate(images.paths):
            row = statistics(images.read(number))
            table.writerow([path, *(f"{value:.5g}" for value in row)])


if __name__ == "__main__":
    main()
