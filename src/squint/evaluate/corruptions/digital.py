"""Brightness, contrast, saturation, pixels, JPEG, and elastic warping."""

import io
from functools import cache

import numpy as np
from jaxtyping import Float, Float32, Float64, Int
from PIL import Image

from squint.evaluate.corruptions.pixels import (
    Bytes,
    blur_axis,
    mirror_index,
    reflect_index,
    to_bytes,
    unit,
)

Colours = Float64[np.ndarray, "n h w 3"]


def brightness(images: Bytes, added: float) -> Bytes:
    """Adds to V of the hexcone model."""
    hsv = _to_hsv(unit(images))
    hsv[..., 2] = np.clip(hsv[..., 2] + added, 0, 1)
    return to_bytes(_from_hsv(hsv))


def saturate(images: Bytes, factor: float, offset: float) -> Bytes:
    """Scales S of the hexcone model and adds to it; with an offset, grey turns reddish."""
    hsv = _to_hsv(unit(images))
    hsv[..., 1] = np.clip(hsv[..., 1] * factor + offset, 0, 1)
    return to_bytes(_from_hsv(hsv))


def contrast(images: Bytes, factor: float) -> Bytes:
    """Draws every value towards the mean of its channel over the image."""
    x = unit(images)
    mean = np.stack([image.mean(axis=(0, 1), keepdims=True) for image in x])  # (n, 1, 1, 3)
    return to_bytes((x - mean) * factor + mean)


def pixelate(images: Bytes, share: float) -> Bytes:
    """Shrinks to a share of the side and back, by the mean over boxes; 8 bits in between."""
    out = np.empty_like(images)
    for number, image in enumerate(images):
        height, width = image.shape[:2]
        small = (int(width * share), int(height * share))
        picture = Image.fromarray(image).resize(small, Image.Resampling.BOX)
        out[number] = np.asarray(picture.resize((width, height), Image.Resampling.BOX))
    return out


def jpeg_compression(images: Bytes, quality: int) -> Bytes:
    """Through Pillow's JPEG codec and back.

    # differs from the released code in the codec: it had IJG's libjpeg, today's Pillow has
    libjpeg-turbo, which interpolates chroma otherwise (up to 6 % of the squared error at 224 px).
    """
    out = np.empty_like(images)
    for number, image in enumerate(images):
        packed = io.BytesIO()
        Image.fromarray(image).save(packed, "JPEG", quality=quality)
        out[number] = np.asarray(Image.open(packed))
    return out


def elastic_transform(
    images: Bytes,
    jitter: Float64[np.ndarray, "n 3 2"],
    along_x: Float64[np.ndarray, "n s s"],
    along_y: Float64[np.ndarray, "n s s"],
    amplitude: float,
    sigma: float,
) -> Bytes:
    """An affine warp by three jittered points, then a smooth random displacement.

    Samples beyond the edge are mirrored, the edge pixels repeated (as SciPy does from 1.6 on).

    Args:
        images: What to corrupt.
        jitter: Moves of the three points (x, y), in pixels.
        along_x: Noise in -1 to 1, to be smoothed to the displacement in x.
        along_y: The same for y.
        amplitude: Of the displacement, in pixels times the loss of amplitude by smoothing.
        sigma: Of the smoothing, in pixels.
    """
    side = images.shape[1]
    smooth = _smoothing(side, sigma)
    rows, cols = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    out = np.empty_like(images)
    for number, image in enumerate(unit(images).astype(np.float32)):
        warped = _affine(image, jitter[number].astype(np.float32))
        dx, dy = (
            (amplitude * (smooth @ field[number] @ smooth.T)).astype(np.float32)
            for field in (along_x, along_y)
        )
        out[number] = to_bytes(_sample(warped, rows + dy, cols + dx))
    return out


@cache
def _smoothing(side: int, sigma: float) -> Float64[np.ndarray, "s s"]:
    """The Gaussian blur of one axis as a matrix: cheaper where it is wider than the image."""
    return blur_axis(np.eye(side), sigma, 0, truncate=3.0, border="symmetric")


def _sample(
    image: Float[np.ndarray, "h w 3"],
    rows: Float[np.ndarray, "h w"],
    cols: Float[np.ndarray, "h w"],
) -> Float[np.ndarray, "h w 3"]:
    """Bilinear samples."""
    top, left = np.floor(rows).astype(np.int64), np.floor(cols).astype(np.int64)
    down, right = (rows - top)[..., None], (cols - left)[..., None]
    y0, y1 = (mirror_index(top + each, image.shape[0]) for each in (0, 1))
    x0, x1 = (mirror_index(left + each, image.shape[1]) for each in (0, 1))
    above = image[y0, x0] * (1 - right) + image[y0, x1] * right
    below = image[y1, x0] * (1 - right) + image[y1, x1] * right
    return above * (1 - down) + below * down


def _affine(
    image: Float32[np.ndarray, "s s 3"], jitter: Float32[np.ndarray, "3 2"]
) -> Float32[np.ndarray, "s s 3"]:
    """Warps by the affine map that moves three points; source places in 1/32 px, as OpenCV has.

    Places are summed in 1/1024 px, one rounded term for the row and one for the column.
    """
    side = image.shape[0]
    c, q = side // 2, side // 3
    points = np.array([[c + q, c + q], [c + q, c - q], [c - q, c - q]], dtype=np.float32)
    moved = np.column_stack([points + jitter, np.ones(3)]).astype(np.float64)
    back = np.linalg.solve(moved, points.astype(np.float64))  # (3, 2): from new to old points

    at = np.arange(side)
    places: list[Int[np.ndarray, "s s"]] = []
    for per_col, per_row, shift in back.T:
        of_col = np.rint(per_col * at * 1024).astype(np.int64)
        of_row = np.rint((per_row * at + shift) * 1024).astype(np.int64) + 16
        places.append((of_row[:, None] + of_col) >> 5)  # in 1/32 px
    x, y = places
    left, top = x >> 5, y >> 5
    right, down = (((each & 31) / 32)[..., None].astype(np.float32) for each in (x, y))
    y0, y1 = (reflect_index(top + each, side) for each in (0, 1))
    x0, x1 = (reflect_index(left + each, side) for each in (0, 1))
    above = image[y0, x0] * (1 - right) + image[y0, x1] * right
    below = image[y1, x0] * (1 - right) + image[y1, x1] * right
    return above * (1 - down) + below * down


def _to_hsv(rgb: Colours) -> Colours:
    """Hue in turns, S and V in 0 to 1; grey has hue 0."""
    red, green, blue = np.moveaxis(rgb, -1, 0)
    value = rgb.max(axis=-1)
    spread = value - rgb.min(axis=-1)
    some = np.where(spread > 0, spread, 1.0)
    hue = np.where(red == value, (green - blue) / some, 0.0)
    hue = np.where(green == value, 2.0 + (blue - red) / some, hue)
    hue = np.where(blue == value, 4.0 + (red - green) / some, hue)
    hue = np.where(spread > 0, (hue / 6.0) % 1.0, 0.0)
    saturation = np.where(spread > 0, spread / np.where(value > 0, value, 1.0), 0.0)
    return np.stack([hue, saturation, value], axis=-1)


def _from_hsv(hsv: Colours) -> Colours:
    hue, saturation, value = np.moveaxis(hsv, -1, 0)
    sector = np.floor(hue * 6)
    along = hue * 6 - sector
    low = value * (1 - saturation)
    falling = value * (1 - along * saturation)
    rising = value * (1 - (1 - along) * saturation)
    sector = sector.astype(np.int64) % 6
    red = np.choose(sector, [value, falling, low, low, rising, value])
    green = np.choose(sector, [rising, value, value, falling, low, low])
    blue = np.choose(sector, [low, low, rising, value, value, falling])
    return np.stack([red, green, blue], axis=-1)
