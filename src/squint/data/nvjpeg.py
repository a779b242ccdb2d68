"""JPEG files decoded on CUDA by nvJPEG, through torchvision; optional: its pixels are others.

nvJPEG's inverse DCT and its upsampling of chroma are not libjpeg's: fractions of a grey level on
average, up to tens at edges of colour.
"""

import io
import warnings
from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from squint.data import decode as pillow


def decode(files: list[Tensor], channels: int, device: torch.device) -> list[Tensor]:
    """JPEG files, uint8 in the CPU's memory, decoded on a device to (channels, h, w) uint8 each."""
    from torchvision.io import ImageReadMode, decode_jpeg  # late: it takes seconds

    mode = ImageReadMode.GRAY if channels == 1 else ImageReadMode.RGB
    images = decode_jpeg(files, mode, device)
    assert isinstance(images, list)
    return images


def first_line(error: Exception) -> str:
    """What went wrong, short enough for a warning."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


@cache
def missing(device: torch.device) -> str:
    """Decode two small files on a CUDA device; what went wrong, said once, or nothing."""
    ramp = np.add.outer(np.arange(48), 2 * np.arange(64)).astype(np.uint8)
    colour = np.stack([ramp, ramp[::-1], 255 - ramp], axis=2)
    try:
        files = [_jpeg(colour), _jpeg(ramp)]
        tensors = [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files]
        for image, file in zip(decode(tensors, 3, device), files, strict=True):
            right = torch.from_numpy(pillow.decode(file, 3).copy()).permute(2, 0, 1)
            far = (image.cpu().float() - right.float()).abs().mean().item()
            if far > 4:
                raise ValueError(f"its pixels are {far:.0f} grey levels from libjpeg's")
    except Exception as error:
        reason = first_line(error)
        warnings.warn(
            f"nvJPEG does not run here ({reason}): workers decode the images instead. Install a "
            "torchvision built for this CUDA, or give --train.decode workers.",
            stacklevel=2,
        )
        return reason
    return ""


def _jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()
