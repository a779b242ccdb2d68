"""How an image is stored, and what the rule of `data.decode` makes of it."""

import io

import numpy as np
from PIL import Image

from squint.data.decode import PICTURE_CHANNELS, Raw

_RULES = {
    "grey": "grey is repeated to three channels",
    "16 bit": "16 bits are scaled to 8",
    "transparent": "transparency is laid on white",
    "CMYK": "CMYK becomes RGB as Pillow converts it",
    "palette": "palettes become RGB",
    "several frames": "of several frames the first counts",
    "turned by EXIF": "EXIF turns it upright",
}
_MODES = {"1": "grey", "L": "grey", "LA": "grey", "La": "grey", "CMYK": "CMYK", "P": "palette"}
_ORIENTATION = 0x0112


def kind_of(raw: Raw, channels: int = 3) -> str:
    """Format and what is odd about it, of an image that can be read: "PNG, transparent".

    Args:
        raw: the image as it is stored.
        channels: in which it is read.
    """
    if isinstance(raw, np.ndarray):
        wide = "16 bit" if raw.dtype == np.uint16 else ""
        held = raw.shape[2] if raw.ndim == 3 else 1
        odd = {1: "grey", 4: "transparent"}.get(held, "")
        if channels not in PICTURE_CHANNELS:
            odd = f"{held} channels"
        return ", ".join(filter(None, ["arrays", wide, odd]))
    if isinstance(raw, Image.Image):
        return _of_picture(raw)
    with Image.open(io.BytesIO(raw) if isinstance(raw, bytes) else raw) as image:
        return _of_picture(image)


def rules(kinds: dict[str, int]) -> list[str]:
    """What the rule makes of the odd ones among these kinds, a few words each."""
    words = {word for kind in kinds for word in kind.split(", ")}
    return [told for word, told in _RULES.items() if word in words]


def _of_picture(image: Image.Image) -> str:
    wide = "16 bit, grey" if image.mode.startswith("I") else ""
    several = "several frames" if getattr(image, "n_frames", 1) > 1 else ""
    clear = "transparent" if image.has_transparency_data else ""
    words = [image.format or "picture", wide, _MODES.get(image.mode, ""), clear, several]
    return ", ".join([*filter(None, words), *(["turned by EXIF"] if _turned(image) else [])])


def _turned(image: Image.Image) -> bool:
    try:
        return image.getexif().get(_ORIENTATION, 1) not in (0, 1)
    except Exception:  # damaged EXIF counts as upright
        return False
