"""One image, of which only what is asked for is decoded."""

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from squint.data.decode import LEAST_SIDE, Raw, Unreadable, decode
from squint.native import jpeg

Reduction = Literal[1, 2, 4, 8]
"""How many pixels of an image become one, along each axis."""


class Part(NamedTuple):
    """Some rows and columns of an image, maybe at a reduced scale."""

    pixels: np.ndarray
    """(height, width, c) uint8."""
    top: int
    """Rows of the reduced image above it; row y of these pixels stands for the image's rows from
    reduction * (top + y) on."""
    left: int
    """Columns to the left of it, likewise."""
    reduction: Reduction


class Picture:
    """An image of known size; ordinary JPEG files are decoded window by window, others at once.

    Windows have the same pixels either way, and the same files can't be read.

    Attributes:
        height: Pixels, upright.
        width: Pixels, upright.
    """

    def __init__(self, raw: Raw, channels: int) -> None:
        """Read the size.

        Raises:
            Unreadable: If the image can't be read, as far as this already shows.
        """
        self._raw = _in_memory(raw)
        self._channels = channels
        self._pixels: np.ndarray | None = None
        size = jpeg.size(self._raw) if isinstance(self._raw, bytes) else None
        if size is None or not _fits(size, channels):
            self._pixels = decode(self._raw, channels)
            self.height, self.width = self._pixels.shape[:2]
        else:
            self.height, self.width = size.height, size.width

    @property
    def whole(self) -> bool:
        """Whether all of it lies decoded in memory, and not only the file."""
        return self._pixels is not None

    @property
    def file(self) -> bytes:
        """The ordinary JPEG file that is decoded later: of a picture that is not `whole`."""
        assert isinstance(self._raw, bytes) and not self.whole
        return self._raw

    def window(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Part of the image, (height, width, channels) uint8.

        Raises:
            Unreadable: With the reason.
        """
        return self.part(top, left, height, width, 1).pixels

    def part(self, top: int, left: int, height: int, width: int, reduction: Reduction) -> Part:
        """What of the image covers a window, at 1/reduction of its scale or at its own.

        At its own if the image is decoded at once: only JPEG files can be reduced on the way.
        What a JPEG's blocks of 8 x 8 pixels hold is cut off at the lower resolution, per block.

        Raises:
            Unreadable: With the reason.
        """
        if self._pixels is None:
            assert isinstance(self._raw, bytes), "only files are decoded later"
            y, x = top // reduction, left // reduction
            h, w = -(-(top + height) // reduction) - y, -(-(left + width) // reduction) - x
            pixels = jpeg.window(self._raw, y, x, h, w, self._channels, reduction)
            if pixels is not None:
                return Part(pixels, y, x, reduction)
            self._pixels = decode(self._raw, self._channels)
        return Part(self._pixels[top : top + height, left : left + width], top, left, 1)


def _in_memory(raw: Raw) -> Raw:
    if not isinstance(raw, Path):
        return raw
    try:
        return raw.read_bytes()
    except OSError as error:
        raise Unreadable((error.strerror or str(error)).lower()) from error


def _fits(size: jpeg.Size, channels: int) -> bool:
    """Whether the limits of `decode` are kept, and no colour has to become grey."""
    limit = Image.MAX_IMAGE_PIXELS
    small = limit is None or size.height * size.width <= limit
    whole = min(size.height, size.width) >= LEAST_SIDE
    return small and whole and size.channels <= channels
