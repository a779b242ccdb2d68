"""The common image corruptions (Hendrycks & Dietterich 2019): 15 + 4, at 5 severities.

Written from the paper (arXiv 1903.12261) and from what the released code does, against recorded
outputs of it. `corrupt` gives an image the same corruption whatever its batch is; its random
numbers are ours, so corrupted images agree with published ones in distribution, not in bits.
"""

import difflib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from squint import shapes
from squint.errors import DataError, RunError
from squint.evaluate.corruptions.apply import Square, apply
from squint.evaluate.corruptions.constants import COMMON, EXTRA, LEAST_SIDE, NAMES, strength
from squint.evaluate.corruptions.draws import ImageDraws
from squint.evaluate.corruptions.weather import Texture

__all__ = ["COMMON", "EXTRA", "NAMES", "corrupt", "corrupt_numbered"]

_PIXELS_AT_ONCE = 1 << 15  # as many as the working copies of stay in a core's cache


def corrupt(
    images_uint8: shapes.Pixels,
    name: str,
    severity: int,
    *,
    rows: shapes.Rows,
    seed: int,
    frost_textures: Sequence[Texture] = (),
    threads: int = 0,
) -> shapes.Pixels:
    """Corrupts a batch of images.

    At 32 and 224 px the constants are those of CIFAR-10-C and ImageNet-C; at other sizes those
    of the nearer one, lengths in pixels grown with the side.

    Args:
        images_uint8: RGB, square.
        name: One of `NAMES`.
        severity: 1 to 5.
        rows: Number of each image in its source: the same number, the same random numbers.
        seed: Of all random numbers; any signed 64-bit integer.
        frost_textures: Pictures of frost to take crops of, height x width x 3, larger than the
            images (below 85 px: than five times 32 px); without them frost is made of noise.
        threads: That work at once; 0 for one per core. The result is the same for any number.

    Raises:
        RunError: The name or the severity is unknown, or the textures are in vain.
        DataError: The images, the rows or the textures are of the wrong kind or size.
    """
    _check_choice(name, severity)
    _check_images(images_uint8, rows)
    _check_textures(frost_textures, name)
    if len(images_uint8) == 0:
        return images_uint8.clone()
    pixels = images_uint8.cpu().permute(0, 2, 3, 1).contiguous().numpy()  # (n, h, w, c)
    side, numbers = pixels.shape[1], rows.cpu().numpy().astype(np.int64)
    constants = strength(name, severity, side)
    key = NAMES.index(name)

    def some(which: slice) -> Square:
        draws = ImageDraws(numbers[which], seed=seed, corruption=key, severity=severity)
        return apply(pixels[which], name, constants, draws, frost_textures)

    step = max(1, _PIXELS_AT_ONCE // side**2)
    chunks = [slice(start, start + step) for start in range(0, len(pixels), step)]
    # one thread of linear algebra in each of ours
    with (
        threadpool_limits(1, user_api="blas"),
        ThreadPoolExecutor(threads or os.cpu_count()) as pool,
    ):
        out = torch.from_numpy(np.concatenate(list(pool.map(some, chunks))))
    return out.permute(0, 3, 1, 2).contiguous().to(images_uint8.device)  # (n, c, h, w)


def corrupt_numbered(images_uint8: shapes.Pixels, name: str, severity: int) -> shapes.Pixels:
    """`corrupt` under seed 0, for images that are numbered as they lie there."""
    rows = torch.arange(len(images_uint8))
    return corrupt(images_uint8, name, severity, rows=rows, seed=0)


def _check_choice(name: str, severity: int) -> None:
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.4)
        nearest = f" The nearest is {near[0]}." if near else ""
        raise RunError(
            f"There is no corruption {name!r}.{nearest} It must be one of {', '.join(NAMES)}."
        )
    if severity not in range(1, 6):
        raise RunError(f"severity={severity} has no constants: they are for 1 to 5. Give one.")


def _check_images(images: torch.Tensor, rows: torch.Tensor) -> None:
    if images.dtype != torch.uint8:
        raise DataError(
            f"The images are {images.dtype}, but must be torch.uint8, 0 to 255: corruptions come "
            "before normalisation. Pass the decoded images."
        )
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3] or shape[2] < LEAST_SIDE:
        raise DataError(
            f"The images have shape {shape}, but must be n x 3 x side x side with a side of at "
            f"least {LEAST_SIDE} px: corruptions are defined for square RGB. Crop them, or repeat "
            "a grey channel."
        )
    if rows.shape != images.shape[:1]:
        raise DataError(
            f"rows has shape {tuple(rows.shape)} for {len(images)} images, but must hold the "
            "number of each: random numbers are made from it. Give one number per image."
        )


def _check_textures(textures: Sequence[Texture], name: str) -> None:
    if textures and name != "frost":
        raise RunError(f"frost_textures has no effect on {name}: only frost reads it. Drop it.")
