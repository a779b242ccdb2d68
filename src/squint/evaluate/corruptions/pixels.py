"""What several corruptions share: bytes to numbers and back, Gaussian blur, enlarging."""

import math

import numpy as np
from jaxtyping import Float, Float64, Int, UInt8
from scipy import fft

Bytes = UInt8[np.ndarray, "n h w 3"]
"""Images, channels last."""


def unit(images: UInt8[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    """Bytes to 0 to 1."""
    return images / 255.0


def to_bytes(x: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """0 to 1 to bytes. The fraction is cut off, as in the released code, not rounded."""
    return (np.clip(x, 0, 1) * 255).astype(np.uint8)


def gaussian_taps(sigma: float, radius: int) -> Float64[np.ndarray, " taps"]:
    """A normalised Gaussian at the integers from -radius to radius."""
    if radius == 0:
        return np.ones(1)
    at = np.arange(-radius, radius + 1)
    taps = np.exp(-0.5 / (sigma * sigma) * at**2)
    return taps / taps.sum()


def gaussian_blur(
    x: Float[np.ndarray, "n h w *c"],
    sigma: float,
    *,
    truncate: float = 4.0,
    border: str = "edge",
) -> Float[np.ndarray, "n h w *c"]:
    """Blurs height and width.

    Args:
        x: What to blur.
        sigma: Standard deviation in pixels.
        truncate: Radius of the kernel in standard deviations.
        border: How `numpy.pad` goes on beyond the image.
    """
    for axis in (1, 2):
        x = blur_axis(x, sigma, axis, truncate=truncate, border=border)
    return x


def blur_axis(
    x: Float[np.ndarray, "*shape"], sigma: float, axis: int, *, truncate: float, border: str
) -> Float[np.ndarray, "*shape"]:
    """Blurs one axis. Arguments as for `gaussian_blur`."""
    radius = int(truncate * sigma + 0.5)
    taps = gaussian_taps(sigma, radius)
    size = x.shape[axis]
    width = [(0, 0)] * x.ndim
    width[axis] = (radius, radius)
    padded = np.moveaxis(np.pad(x, width, mode=border), axis, 0)  # type: ignore[call-overload]
    out = padded[radius : radius + size] * taps[radius]
    for away in range(radius, 0, -1):
        left = padded[radius - away : radius - away + size]
        right = padded[radius + away : radius + away + size]
        out = out + (left + right) * taps[radius + away]
    return np.moveaxis(out, 0, axis)


def correlate(
    x: Float64[np.ndarray, "n h w *c"], kernel: Float[np.ndarray, "a b"]
) -> Float64[np.ndarray, "n h w *c"]:
    """Correlation with an odd kernel; the image goes on mirrored about its outermost pixels."""
    height, width = x.shape[1:3]
    up, left = kernel.shape[0] // 2, kernel.shape[1] // 2
    rest = [(0, 0)] * (x.ndim - 3)
    padded = np.pad(x, [(0, 0), (up, up), (left, left), *rest], mode="reflect")
    out = np.zeros_like(x)
    for row, col in zip(*np.nonzero(kernel), strict=True):
        out += float(kernel[row, col]) * padded[:, row : row + height, col : col + width]
    return out


def correlate_by_fft(
    x: Float64[np.ndarray, "n h w c"], kernel: Float[np.ndarray, "a b"]
) -> Float64[np.ndarray, "n h w c"]:
    """`correlate` for large kernels, to about 1e-15."""
    height, width = x.shape[1:3]
    up, left = kernel.shape[0] // 2, kernel.shape[1] // 2
    planes = np.moveaxis(x, -1, 1)  # (n, c, h, w)
    padded = np.pad(planes, [(0, 0), (0, 0), (up, up), (left, left)], mode="reflect")
    size = [fft.next_fast_len(length, real=True) for length in padded.shape[2:]]
    weights = np.asarray(fft.rfft2(kernel.astype(np.float64), size))
    planes = np.asarray(fft.rfft2(padded, size))
    # the conjugate correlates where the plain product would convolve
    out = np.asarray(fft.irfft2(planes * weights.conj(), size))[:, :, :height, :width]
    # the 1e-15 must not cut a whole number to the one below
    return np.moveaxis(out, 1, -1) + 1e-12


def enlarge(x: Float[np.ndarray, "n s s *c"], factor: float) -> Float[np.ndarray, "n s s *c"]:
    """Enlarges the centre of square images, linearly, to the size they had.

    The crop's end points stay end points of the enlarged crop, which may be larger than the
    image by a pixel or more; of it the central window is kept, the odd pixel cut off below.
    """
    side = x.shape[1]
    crop = math.ceil(side / factor)
    full = round(crop * factor)
    at = (np.arange(side) + (full - side) // 2) * ((crop - 1) / (full - 1))  # (side,)
    low = np.minimum(np.floor(at).astype(np.int64), crop - 1)
    high = np.minimum(low + 1, crop - 1)
    share = at - low
    low, high = low + (side - crop) // 2, high + (side - crop) // 2
    for axis in (1, 2):
        weight = share.reshape([-1 if each == axis else 1 for each in range(x.ndim)])
        x = np.take(x, low, axis) * (1 - weight) + np.take(x, high, axis) * weight
    return x


def mirror_index(at: Int[np.ndarray, "*shape"], size: int) -> Int[np.ndarray, "*shape"]:
    """Index of the pixel at `at` when the image goes on mirrored, its edge pixels repeated."""
    at = np.mod(at, 2 * size)
    return np.where(at < size, at, 2 * size - 1 - at)


def reflect_index(at: Int[np.ndarray, "*shape"], size: int) -> Int[np.ndarray, "*shape"]:
    """Index of the pixel at `at` when the image goes on mirrored about its edge pixels."""
    at = np.mod(at, 2 * size - 2)
    return np.where(at < size, at, 2 * size - 2 - at)
