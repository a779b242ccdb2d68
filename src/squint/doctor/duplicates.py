"""Which images are there twice: the same pixels, or nearly the same.

Of each image a digest of its pixels is kept, and a grey thumbnail of 16 x 16.
Images with one digest are **copies**. Two others are **near** each other if their hashes, the signs
of the thumbnail's 64 lowest cosine frequencies, differ in at most 8 bits, and their thumbnails
correlate by 0.96 or more: resized, compressed again, brighter, of less contrast, without colour.
Mirrored, turned and cropped images count as different.

Pairs are looked for without comparing all with all: hashes are sorted eight times, each time from
another byte on, and each is compared with the 32 that follow.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8, UInt64
from PIL import Image

SIDE = 16
"""Pixels of a thumbnail."""
MOST_BITS = 8
"""In which the hashes of a near pair may differ."""
LEAST_CORRELATION = 0.96
"""Of the thumbnails of a near pair."""

_BITS = 64
_FOLLOWING = 32
_MOST_PAIRS = 1_000_000
_CHUNK = 8_192


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Pairs among some images, by their place among them."""

    copies: tuple[tuple[int, int], ...]
    """The first image of certain pixels, and each further one."""
    near: tuple[tuple[int, int], ...]
    """Nearly the same; of copies, only the first is looked at."""
    more: bool
    """Whether there are more near pairs than are kept."""

    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Both kinds."""
        return self.copies + self.near


def digest(pixels: np.ndarray) -> bytes:
    """16 bytes, the same for the same pixels in the same shape."""
    shape = f"{pixels.shape}".encode()
    return hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16, key=shape).digest()


def thumbnail(pixels: np.ndarray) -> UInt8[np.ndarray, "s s"]:
    """Grey, of 16 x 16 pixels whatever the shape: the mean of what each covers.

    Grey is luma of three channels, the mean of other numbers of them.
    """
    if pixels.shape[2] != 3:
        pixels = pixels.mean(axis=2, dtype=np.float32).round().astype(np.uint8)
    image = Image.fromarray(pixels)
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))


def find(digests: list[bytes], thumbnails: UInt8[np.ndarray, "n s s"]) -> Duplicates:
    """Copies and near pairs among images of these digests and thumbnails.

    Where images can be told apart by splits, those of the split to be kept should come first.
    """
    first: dict[bytes, int] = {}
    kept = [first.setdefault(each, place) for place, each in enumerate(digests)]
    copies = tuple((one, place) for place, one in enumerate(kept) if one != place)
    chosen = np.array(sorted(first.values()), dtype=np.int64)
    near, more = _near(thumbnails[chosen])
    pairs = [(int(chosen[a]), int(chosen[b])) for a, b in near]
    return Duplicates(copies=copies, near=tuple(pairs), more=more)


def hashes(thumbnails: UInt8[np.ndarray, "n s s"]) -> UInt64[np.ndarray, " n"]:
    """The signs of the 64 lowest frequencies but the mean, as one number."""
    place = np.arange(SIDE)
    waves = np.cos(np.pi * (2 * place + 1) * place[:, None] / (2 * SIDE)).astype(np.float32)
    lowest = sorted((u + v, max(u, v), u, v) for u in range(SIDE) for v in range(SIDE))
    rows, columns = np.array([each[2:] for each in lowest[1 : _BITS + 1]]).T
    basis = (waves[rows, :, None] * waves[columns, None, :]).reshape(_BITS, -1)
    found = np.empty(len(thumbnails), np.uint64)
    for start in range(0, len(thumbnails), _CHUNK):
        part = thumbnails[start : start + _CHUNK].reshape(-1, SIDE**2).astype(np.float32)
        bits = part @ basis.T > 0  # (n, 64)
        found[start : start + _CHUNK] = np.packbits(bits).view(np.uint64)
    return found


def _near(thumbnails: UInt8[np.ndarray, "n s s"]) -> tuple[np.ndarray, bool]:
    """Pairs (k, 2) of places, each once, and whether there are more."""
    codes = hashes(thumbnails)
    found = np.empty((0, 2), np.int64)
    for turn in range(0, _BITS, 8):
        order = np.argsort(_turned(codes, turn), kind="stable")
        in_order = codes[order]
        for ahead in range(1, min(_FOLLOWING, len(codes) - 1) + 1):
            differing = np.bitwise_count(in_order[:-ahead] ^ in_order[ahead:])
            close = np.flatnonzero(differing <= MOST_BITS)
            pairs = np.sort(np.stack([order[close], order[close + ahead]], axis=1), axis=1)
            found = np.concatenate([found, pairs[_alike(thumbnails, pairs)]])
            if len(found) > _MOST_PAIRS:
                return np.unique(found[:_MOST_PAIRS], axis=0), True
        found = np.unique(found, axis=0)
    return found, False


def _turned(codes: np.ndarray, bits: int) -> np.ndarray:
    """The bits that follow the first `bits` come first, those last."""
    return codes << np.uint64(bits) | codes >> np.uint64((_BITS - bits) % _BITS)


def _alike(thumbnails: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """(k,) bool: which of the pairs have thumbnails that correlate enough."""
    alike = np.zeros(len(pairs), bool)
    for start in range(0, len(pairs), _CHUNK):
        one, other = (_centred(thumbnails[each]) for each in pairs[start : start + _CHUNK].T)
        cosine = np.einsum("ni,ni->n", one, other)
        alike[start : start + _CHUNK] = cosine >= LEAST_CORRELATION
    return alike


def _centred(thumbnails: np.ndarray) -> Float[np.ndarray, "n d"]:
    """Of mean 0 and length 1; what is one colour correlates with nothing."""
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
