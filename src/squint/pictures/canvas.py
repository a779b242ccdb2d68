"""Sheets of small pictures with words: parts set beside and below each other, and their file.

Every part is a Pillow image on the same paper.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont, ImageOps

from squint import runs
from squint.data.decode import PICTURE_CHANNELS

LEAST_WIDTH = 560
"""Pixels of a head, however narrow the pictures below it are."""
PAPER, INK, FAINT, ACCENT = "#ffffff", "#1d1d26", "#6f7080", "#d55e00"
_SHADE = "#f0f0f4"
"""Behind an image that does not fill its square."""
_KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".pdf": "PDF"}
PICTURES = tuple(_KINDS)
"""Endings that a sheet may have."""


def save(sheet: Image.Image, out: Path) -> None:
    """Write a sheet with a margin, whole or not at all; `files.check_file` has been asked before.

    Raises:
        RunError: it can't be written.
    """
    with runs.replacing(out) as temporary:
        options = {"quality": 92} if _KINDS[out.suffix.lower()] != "PNG" else {}
        page = ImageOps.expand(sheet, 24, PAPER)
        page.save(temporary, format=_KINDS[out.suffix.lower()], **options)


def square(pixels: UInt8[np.ndarray, "h w c"], side: int) -> Image.Image:
    """A whole image in the middle of a square, (side, side); see `left_out` for its channels.

    Small ones grow by a whole factor with every pixel a block, large ones are reduced.
    """
    seen = pixels[:, :, :3] if pixels.shape[2] >= 3 else pixels[:, :, 0]
    image = Image.fromarray(np.ascontiguousarray(seen)).convert("RGB")
    longest = max(image.size)
    if longest <= side:
        image = image.resize(
            [edge * (side // longest) for edge in image.size], Image.Resampling.NEAREST
        )
    else:
        edges = [max(1, round(edge * side / longest)) for edge in image.size]
        image = image.resize(edges, Image.Resampling.LANCZOS)
    ground = Image.new("RGB", (side, side), _SHADE)
    ground.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return ground


def left_out(channels: int) -> tuple[str, ...]:
    """What a sheet has to say of images that are neither grey nor RGB, or nothing."""
    if channels in PICTURE_CHANNELS:
        return ()
    if channels == 2:
        return ("shown: channel 1 of 2, in grey",)
    return (f"shown: channels 1, 2, 3 of {channels}, as red, green, blue",)


def framed(image: Image.Image, colour: str, width: int = 4) -> Image.Image:
    """The image within a frame; one of `PAPER` only keeps its place."""
    return ImageOps.expand(image, width, colour)


def beside(parts: Sequence[Image.Image], gap: int) -> Image.Image:
    """Parts from left to right, at one top."""
    sheet = _blank(
        sum(p.width for p in parts) + gap * (len(parts) - 1), max(p.height for p in parts)
    )
    left = 0
    for part in parts:
        sheet.paste(part, (left, 0))
        left += part.width + gap
    return sheet


def stacked(parts: Sequence[Image.Image], gap: int) -> Image.Image:
    """Parts from top to bottom, at one left edge."""
    sheet = _blank(
        max(p.width for p in parts), sum(p.height for p in parts) + gap * (len(parts) - 1)
    )
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height + gap
    return sheet


def rule(width: int) -> Image.Image:
    """A thin line."""
    return Image.new("RGB", (width, 1), "#d0d0d8")


def line(
    text: str,
    width: int,
    *,
    size: int = 13,
    colour: str = INK,
    bold: bool = False,
    align: Literal["left", "centre"] = "left",
) -> Image.Image:
    """One line of text, so many pixels wide; what does not fit is left out in its middle."""
    font = _font(size, bold)
    text = _shortened(text, width, font)
    strip = _blank(width, round(1.4 * size))
    left = (width - font.getlength(text)) / 2 if align == "centre" else 0
    ImageDraw.Draw(strip).text((left, strip.height / 2), text, fill=colour, font=font, anchor="lm")
    return strip


def flowing(items: Sequence[str], width: int, *, size: int = 13, colour: str = INK) -> Image.Image:
    """Items one after the other, on as many lines as it takes."""
    font = _font(size, False)
    lines: list[str] = []
    for item in items:
        longer = f"{lines[-1]}    {item}" if lines else ""
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(item)
    return stacked([line(text, width, size=size, colour=colour) for text in lines], 2)


def _shortened(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    if font.getlength(text) <= width:
        return text
    kept = len(text) - 1
    while kept > 1 and font.getlength(_cut(text, kept)) > width:
        kept -= 1
    return _cut(text, kept)


def _cut(text: str, kept: int) -> str:
    """The first third and the last two thirds of what is kept: names differ at their end."""
    head = kept // 3
    return f"{text[:head]}…{text[len(text) - (kept - head) :]}"


def _blank(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), PAPER)


@functools.cache
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    import matplotlib  # has the font: the same on every machine

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)
