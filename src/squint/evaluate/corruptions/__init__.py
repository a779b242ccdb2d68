"""The common image corruptions (Hendrycks & Dietterich 2019): 15 + 4, at 5 severities.

Written from the paper (arXiv 1903.12261) and from what the released code does, against recorded
outputs of it. `corrupt` gives an image the same corruption whatever its batch is; its random
numbers are ours, so corrupted images agree with published ones in distribution, not in bits.
"""

import difflib
from collections.abc import Sequence

import torch

from squint import shapes
from squint.errors import DataError, RunError
from squint.evaluate.corruptions.apply import apply
from squint.evaluate.corruptions.constants import COMMON, CONSTANTS, EXTRA, NAMES, SizeClass
from squint.evaluate.corruptions.draws import ImageDraws
from squint.evaluate.corruptions.weather import Texture

__all__ = ["COMMON", "EXTRA", "NAMES", "corrupt"]


def corrupt(
    images_uint8: shapes.Pixels,
    name: str,
    severity: int,
    *,
    rows: shapes.Rows,
    seed: int,
    size_class: SizeClass,
    frost_textures: Sequence[Texture] = (),
) -> shapes.Pixels:
    """Corrupts a batch of images.

    Args:
        images_uint8: RGB, square, of `size_class` pixels.
        name: One of `NAMES`.
        severity: 1 to 5.
        rows: Number of each image in its source: the same number, the same random numbers.
        seed: Of all random numbers; any signed 64-bit integer.
        size_class: 32 for the constants of CIFAR-10-C, 224 for those of ImageNet-C.
        frost_textures: Pictures of frost to take crops of, height x width x 3, larger than the
            images; without them frost is made of noise.

    Raises:
        RunError: The name, the severity or the size class is unknown, or the textures are in vain.
        DataError: The images, the rows or the textures are of the wrong kind or size.
    """
    _check_choice(name, severity, size_class)
    _check_images(images_uint8, rows, size_class)
    _check_textures(frost_textures, name, size_class)
    draws = ImageDraws(rows, seed=seed, corruption=NAMES.index(name), severity=severity)
    pixels = images_uint8.cpu().permute(0, 2, 3, 1).contiguous().numpy()  # (n, h, w, c)
    if len(pixels) == 0:
        return images_uint8.clone()
    strength = CONSTANTS[size_class][name][severity - 1]
    out = torch.from_numpy(apply(pixels, name, strength, draws, frost_textures))
    return out.permute(0, 3, 1, 2).contiguous().to(images_uint8.device)  # (n, c, h, w)


def _check_choice(name: str, severity: int, size_class: int) -> None:
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.4)
        nearest = f" The nearest is {near[0]}." if near else ""
        raise RunError(
            f"There is no corruption {name!r}.{nearest} It must be one of {', '.join(NAMES)}."
        )
    if severity not in range(1, 6):
        raise RunError(f"severity={severity} has no constants: they are for 1 to 5. Give one.")
    if size_class not in CONSTANTS:
        raise RunError(
            f"size_class={size_class} has no constants: they are for 32 (CIFAR) and 224 "
            "(ImageNet). Resize the images to one of these."
        )


def _check_images(images: torch.Tensor, rows: torch.Tensor, side: int) -> None:
    if images.dtype != torch.uint8:
        raise DataError(
            f"The images are {images.dtype}, but must be torch.uint8, 0 to 255: corruptions come "
            "before normalisation. Pass the decoded images."
        )
    if images.ndim != 4 or tuple(images.shape[1:]) != (3, side, side):
        raise DataError(
            f"The images have shape {tuple(images.shape)}, but must be n x 3 x {side} x {side}: "
            f"the constants are for RGB of {side} px. Resize them, or choose the other size_class."
        )
    if rows.shape != images.shape[:1]:
        raise DataError(
            f"rows has shape {tuple(rows.shape)} for {len(images)} images, but must hold the "
            "number of each: random numbers are made from it. Give one number per image."
        )


def _check_textures(textures: Sequence[Texture], name: str, side: int) -> None:
    if textures and name != "frost":
        raise RunError(f"frost_textures has no effect on {name}: only frost reads it. Drop it.")
    for texture in textures:
        if texture.ndim != 3 or texture.shape[2] != 3 or min(texture.shape[:2]) <= side:
            raise DataError(
                f"A frost texture has shape {texture.shape}, but must be height x width x 3 with "
                f"both sides above {side}: crops are taken of it. Enlarge it."
            )
