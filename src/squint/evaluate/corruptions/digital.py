"""Brightness, contrast, saturation, pixels, JPEG, and elastic warping."""

import io
from collections.abc import Callable
from functools import cache

import numpy as np
from jaxtyping import Float32, Float64, Int, Int64
from PIL import Image

from squint.evaluate.corruptions.pixels import (
    Bytes,
    blur_axis,
    mirror_index,
    reflect_index,
    to_bytes,
    unit,
)


def brightness(images: Bytes, added: float) -> Bytes:
    """Adds to V of the hexcone model: every channel grows by the same factor, black turns grey."""
    x = unit(images)
    value = x.max(axis=-1, keepdims=True)  # (n, h, w, 1)
    brighter = np.minimum(value + added, 1.0)
    share = np.divide(x, value, out=np.ones_like(x), where=value > 0)
    return to_bytes(brighter * share)


def saturate(images: Bytes, factor: float, offset: float) -> Bytes:
    """Scales S of the hexcone model and adds to it; with an offset, grey turns reddish.

    A channel is V (1 - S k), where k from 0 to 1 is the hue's; that of grey, whose hue is 0, is 0
    for red and 1 for green and blue.
    """
    x = unit(images)
    value = x.max(axis=-1, keepdims=True)  # (n, h, w, 1)
    spread = value - x.min(axis=-1, keepdims=True)
    saturation = np.divide(spread, value, out=np.zeros_like(value), where=value > 0)
    k = np.broadcast_to(np.array([0.0, 1.0, 1.0]), x.shape).copy()
    np.divide(value - x, spread, out=k, where=spread > 0)
    return to_bytes(value * (1 - np.clip(saturation * factor + offset, 0, 1) * k))


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
    warped = _affine(unit(images).astype(np.float32), jitter.astype(np.float32))
    dx, dy = (
        (amplitude * (smooth @ field @ smooth.T)).astype(np.float32) for field in (along_x, along_y)
    )
    at = np.arange(side, dtype=np.float64)
    return to_bytes(_sample(warped, at[:, None] + dy, at + dx))


@cache
def _smoothing(side: int, sigma: float) -> Float64[np.ndarray, "s s"]:
    """The Gaussian blur of one axis as a matrix: cheaper where it is wider than the image."""
    return blur_axis(np.eye(side), sigma, 0, truncate=3.0, border="symmetric")


def _sample(
    images: Float32[np.ndarray, "n s s 3"],
    rows: Float64[np.ndarray, "n s s"],
    cols: Float64[np.ndarray, "n s s"],
) -> Float32[np.ndarray, "n s s 3"]:
    """Bilinear samples."""
    top, left = np.floor(rows), np.floor(cols)
    down, right = rows - top, cols - left
    y, x = top.astype(np.int64), left.astype(np.int64)
    return _bilinear(images, y, x, down, right, mirror_index)


def _affine(
    images: Float32[np.ndarray, "n s s 3"], jitter: Float32[np.ndarray, "n 3 2"]
) -> Float32[np.ndarray, "n s s 3"]:
    """Warps by the affine map that moves three points; source places in 1/32 px, as OpenCV has.

    Places are summed in 1/1024 px, one rounded term for the row and one for the column.
    """
    side = images.shape[1]
    c, q = side // 2, side // 3
    points = np.array([[c + q, c + q], [c + q, c - q], [c - q, c - q]], dtype=np.float32)
    ones = np.ones((len(jitter), 3, 1))
    moved = np.concatenate([points + jitter, ones], axis=2)  # (n, 3, 3)
    back = np.linalg.solve(moved, points.astype(np.float64)[None])  # (n, 3, 2): from new to old

    at = np.arange(side)
    places: list[Int[np.ndarray, "n s s"]] = []
    for per_col, per_row, shift in np.moveaxis(back, (0, 2), (2, 0))[..., None]:  # (n, 1) each
        of_col = np.rint(per_col * at * 1024).astype(np.int64)
        of_row = np.rint((per_row * at + shift) * 1024).astype(np.int64) + 16
        places.append((of_row[:, :, None] + of_col[:, None]) >> 5)  # in 1/32 px
    x, y = places
    return _bilinear(images, y >> 5, x >> 5, (y & 31) / 32, (x & 31) / 32, reflect_index)


def _bilinear(
    images: Float32[np.ndarray, "n s s 3"],
    top: Int64[np.ndarray, "n s s"],
    left: Int64[np.ndarray, "n s s"],
    down: Float64[np.ndarray, "n s s"],
    right: Float64[np.ndarray, "n s s"],
    beyond: Callable[[Int[np.ndarray, "*shape"], int], Int[np.ndarray, "*shape"]],
) -> Float32[np.ndarray, "n s s 3"]:
    """Values between the pixel at (top, left) and the one below it to the right.

    Args:
        images: Where they are read.
        top: Row of the upper pixel, also beyond the image.
        left: Column of the left pixel.
        down: Share of the lower pixel, 0 to 1.
        right: Share of the right pixel, 0 to 1.
        beyond: Index of the pixel that stands for one beyond the image.
    """
    count, side = images.shape[:2]
    flat = images.reshape(-1, 3)
    first = np.arange(count)[:, None, None] * side * side
    y0, y1 = (first + beyond(top + each, side) * side for each in (0, 1))
    x0, x1 = (beyond(left + each, side) for each in (0, 1))
    down, right = (each.astype(np.float32)[..., None] for each in (down, right))
    above = flat.take(y0 + x0, 0) * (1 - right) + flat.take(y0 + x1, 0) * right
    below = flat.take(y1 + x0, 0) * (1 - right) + flat.take(y1 + x1, 0) * right
    return above * (1 - down) + below * down
