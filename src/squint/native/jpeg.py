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

INTERFACE = 2
"""Number of the functions in jpeg.c: a library with another one is left alone."""

SLACK = 36
"""Columns that memory for a window must have beyond its own; see jpeg.c."""


class Size(NamedTuple):
    """Of an image as it is stored."""

    height: int
    width: int
    channels: int


@cache
def library() -> ctypes.CDLL | None:
    """The loaded decoder; None where it was not built, or from other sources than these."""
    try:
        decoder = ctypes.CDLL(str(PATH))
        if decoder.squint_jpeg_interface() != INTERFACE:
            return None
    except (OSError, AttributeError):  # no library; one that is older than the number
        return None
    text, number = ctypes.c_char_p, ctypes.c_int64
    decoder.squint_jpeg_size.argtypes = (text, number, ctypes.c_void_p)
    decoder.squint_jpeg_window.argtypes = (
        text,
        number,
        ctypes.c_void_p,
        ctypes.c_int32,
        ctypes.c_int32,
        ctypes.c_void_p,
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
    data: bytes, top: int, left: int, height: int, width: int, channels: int, reduction: int = 1
) -> np.ndarray | None:
    """Part of a file that `size` accepted, (height, width, channels) uint8, as Pillow decodes it.

    None if libjpeg finds fault with the data, or the window leaves the image.

    Args:
        data: The file.
        top: First row of the window.
        left: First column of the window.
        height: Rows.
        width: Columns.
        channels: 1 or 3.
        reduction: 1, 2, 4 or 8: all of this is said of the image at 1/reduction of its scale.
            Its pixel (y, x) stands for (reduction * y, reduction * x) and what follows, exactly.
    """
    decoder = library()
    assert decoder is not None, "`size` gave None"
    if height < 1 or width < 1:
        return None
    pixels = np.empty(height * (width + SLACK) * channels, dtype=np.uint8)
    place, columns = (ctypes.c_int32 * 4)(top, left, height, width), (ctypes.c_int32 * 2)()
    if decoder.squint_jpeg_window(
        data, len(data), place, channels, reduction, pixels.ctypes.data, columns
    ):
        return None
    first, decoded = columns
    rows = pixels[: height * decoded * channels].reshape(height, decoded, channels)
    return rows[:, first : first + width]
