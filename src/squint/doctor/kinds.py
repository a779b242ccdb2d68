"""How an image is stored, and what the rule of `data.decode` makes of it."""

import io

import numpy as np
from PIL import Image

from squint.data.decode import Raw

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


def kind_of(raw: Raw) -> str:
    """Format and what is odd about it, of an image that can be read: "PNG, transparent"."""
    if isinstance(raw, np.ndarray):
        grey = raw.ndim == 2 or raw.shape[2] == 1
        words = ["arrays", "16 bit" if raw.dtype == np.uint16 else "", "grey" if grey else ""]
        return ", ".join(filter(None, [*words, "transparent" if raw.shape[2:] == (4,) else ""]))
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
