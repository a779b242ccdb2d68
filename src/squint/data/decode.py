"""One rule from any encoded image to uint8 pixels, (h, w, c): c = 1 or 3, of arrays any number.

The rule, version `RULE` (part of every cache key, so that a changed rule rebuilds caches):

| found                                 | becomes                                                  |
|---------------------------------------|----------------------------------------------------------|
| EXIF orientation                      | applied; damaged EXIF counts as upright                  |
| transparency (alpha, palette, tRNS)   | composited on white                                      |
| palette, CMYK, YCbCr, HSV, 1 bit      | Pillow's conversion to RGB                               |
| grey, with 3 channels wanted          | repeated                                                 |
| colour, with 1 channel wanted         | luma, ITU-R 601 (0.299 R + 0.587 G + 0.114 B)            |
| 16-bit grey, uint16 arrays            | round(x / 257): 0..65535 to 0..255, scaled, not clipped  |
| 16-bit colour files                   | the high byte, as Pillow reads them                      |
| animation, several pages              | the first frame                                          |
| an array, other than 1 or 3 wanted    | its channels as they are, if it has so many              |

Anything else has a reason instead of pixels: truncated or damaged data, text in disguise, a side
below 8 px, more pixels than Pillow's bomb limit, 32-bit integers beyond 16 bits, floating point
(no agreed range). A truncated file is never filled up with grey.
"""

import contextlib
import functools
import io
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from squint.errors import DataError

RULE = 1
"""Version of the rule above."""
PICTURE_CHANNELS = (1, 3)
"""Grey and RGB: what any image can be read as. Other numbers of channels only arrays have."""
LEAST_SIDE = 8
"""Pixels. Below it no view has anything to show."""

Raw = Path | bytes | np.ndarray | Image.Image
"""What a store can fetch: a file, a file's bytes, or pixels of any kind."""

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
_WIDE_GREY = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Unreadable(DataError):
    """One image can't be read; the message is the reason, a short sentence."""


def decode(raw: Raw, channels: int) -> np.ndarray:
    """Pixels of one image, uint8 (h, w, channels), by the rule in this module's docstring.

    Raises:
        Unreadable: With the reason.
    """
    if isinstance(raw, np.ndarray) and channels not in PICTURE_CHANNELS:
        return _as_it_is(raw, channels)
    try:
        with _opened(raw) as image:
            return from_pil(image, channels)
    except Unreadable:
        raise
    # Pillow's plugins raise a dozen unrelated types on damaged files (struct.error, KeyError,
    # SyntaxError, ...): every one of them means that this image has no pixels.
    except Exception as error:
        raise Unreadable(reason_of(error, raw)) from error


def from_pil(image: Image.Image, channels: int) -> np.ndarray:
    """Pixels of a picture that is already open, uint8 (h, w, channels), by the same rule.

    Raises:
        Unreadable: If its size is out of range, or no picture has so many channels.
    """
    if channels not in PICTURE_CHANNELS:
        raise Unreadable(f"pictures are grey or RGB: none has {channels} channels")
    _check_header(image)
    image.load()
    return _pixels(_upright(image), channels)


def inspect(raw: Raw) -> None:
    """Check what an image's header can tell, without decoding it.

    Raises:
        Unreadable: With the reason.
    """
    if isinstance(raw, np.ndarray):  # which needs no decoding, and may be no picture
        _check_size(raw.shape[1], raw.shape[0])
        return
    try:
        with _opened(raw) as image:
            _check_header(image)
    except Unreadable:
        raise
    except Exception as error:
        raise Unreadable(reason_of(error, raw)) from error


def _opened(raw: Raw) -> contextlib.AbstractContextManager[Image.Image]:
    if isinstance(raw, Image.Image):
        return contextlib.nullcontext(raw)  # not ours to close
    if isinstance(raw, bytes):
        return Image.open(io.BytesIO(raw), formats=_formats())
    if isinstance(raw, Path):
        return Image.open(raw, formats=_formats())
    return Image.fromarray(_eight_bit(raw[:, :, 0] if raw.shape[2:] == (1,) else raw))


@functools.cache
def _formats() -> tuple[str, ...]:
    """What this Pillow can open of our formats, whatever the file is called.

    A list, because Pillow knows formats that run other programs (EPS) or are no pictures.
    """
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _as_it_is(array: np.ndarray, channels: int) -> np.ndarray:
    """An array (h, w, channels) of more channels than a picture has, or two."""
    _check_size(array.shape[1], array.shape[0])
    if array.shape[2:] != (channels,):
        raise Unreadable(f"an array of shape {array.shape} has no {channels} channels")
    return _eight_bit(array)


def _eight_bit(array: np.ndarray) -> np.ndarray:
    """A uint8 or uint16 array as uint8."""
    if array.dtype == np.uint16:
        array = ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.ascontiguousarray(array)


def _check_header(image: Image.Image) -> None:
    _check_size(*image.size)
    if image.mode == "F":
        raise Unreadable("floating-point pixels have no agreed range")


def _check_size(width: int, height: int) -> None:
    if min(width, height) < LEAST_SIDE:
        raise Unreadable(f"{width}x{height} is smaller than {LEAST_SIDE}x{LEAST_SIDE}")
    # Between once and twice its limit Pillow only warns; one limit for all is easier to state.
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise Unreadable(f"{width}x{height} has more than {limit:,} pixels (decompression bomb?)")


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    # The pixels are whole: unreadable metadata must not cost the image.
    except Exception:
        turn = None
    return image if turn is None else image.transpose(turn)


def _pixels(image: Image.Image, channels: int) -> np.ndarray:
    if image.mode in _WIDE_GREY:
        image = _scaled_grey(image)
    elif image.has_transparency_data:
        image = _on_white(image)
    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def _scaled_grey(image: Image.Image) -> Image.Image:
    grey = np.asarray(image)
    least, most = int(grey.min()), int(grey.max())
    if least < 0 or most > 65535:
        raise Unreadable(f"32-bit integers from {least} to {most} are outside 0..65535")
    return Image.fromarray(_eight_bit(grey.astype(np.uint16)))


def _on_white(image: Image.Image) -> Image.Image:
    colour = image.convert("RGBA")
    white = Image.new("RGBA", colour.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, colour).convert("RGB")


def reason_of(error: Exception, raw: Raw | None = None) -> str:
    """What Pillow found wrong, in a few words; `raw` is what it was given, if that is known."""
    if isinstance(error, UnidentifiedImageError):
        empty = raw == b"" or (isinstance(raw, Path) and raw.stat().st_size == 0)
        return "the file is empty" if empty else "not an image in a known format"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "more pixels than Pillow's limit (decompression bomb?)"
    if isinstance(error, OSError) and error.strerror is not None:
        return error.strerror.lower()
    if "truncated" in str(error).lower():
        return "the file is truncated"
    return " ".join(f"damaged: {error or type(error).__name__}".split())[:120]
