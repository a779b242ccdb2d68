"""Windows of JPEG files, decoded by libjpeg-turbo; optional like the other kernels.

Only ordinary files are taken: 8-bit grey or YCbCr, upright, whole. Of the others these functions
give None, and Pillow decodes them or says what is wrong. Pixels are Pillow's own in either case.
"""

import ctypes
import sysconfig
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

PATH = Path(__file__).with_name(f"_jpeg{sysconfig.get_config_var('EXT_SUFFIX')}")
"""Where the library is, if it was built."""


class Size(NamedTuple):
    """Of an image as it is stored."""

    height: int
    width: int
    channels: int


@cache
def library() -> ctypes.CDLL | None:
    """The loaded decoder; None where it was not built or cannot be loaded."""
    try:
        decoder = ctypes.CDLL(str(PATH))
    except OSError:
        return None
    text, number = ctypes.c_char_p, ctypes.c_int64
    decoder.squint_jpeg_size.argtypes = (text, number, ctypes.c_void_p)
    decoder.squint_jpeg_window.argtypes = (
        text,
        number,
        ctypes.c_void_p,
        ctypes.c_int32,
        ctypes.c_void_p,
    )
    return decoder


def size(data: bytes) -> Size | None:
    """Size of an ordinary JPEG file, from its segments alone; None for any other file."""
    decoder = library()
    if decoder is None:
        return None
    found = (ctypes.c_int32 * 3)()
    if decoder.squint_jpeg_size(data, len(data), found):
        return None
    return Size(*found)


def window(
    data: bytes, top: int, left: int, height: int, width: int, channels: int
) -> np.ndarray | None:
    """Part of a file that `size` accepted, (height, width, channels) uint8, as Pillow decodes it.

    None if libjpeg finds fault with the data, or the window leaves the image.
    """
    decoder = library()
    assert decoder is not None, "`size` gave None"
    pixels = np.empty((height, width, channels), dtype=np.uint8)
    place = (ctypes.c_int32 * 4)(top, left, height, width)
    if decoder.squint_jpeg_window(data, len(data), place, channels, pixels.ctypes.data):
        return None
    return pixels
