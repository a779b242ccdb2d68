"""Small images, decoded once: a memory-mapped array that later starts open in milliseconds.

The file is a plain .npy, (N, h, w, c) uint8, followed by one JSON object: the images that could
not be read and a checksum per block of rows. It is named by everything the pixels depend on, and
appears whole or not at all; of several processes that need it at once, one makes it.
"""

import contextlib
import json
import logging
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from squint.data.cachedir import cache_directory, written_whole
from squint.data.decode import Unreadable
from squint.data.images import Images
from squint.data.quarantine import Bad, enforce
from squint.files import lock

LARGEST_SIDE = 64
"""Pixels. Larger images are decoded when they are needed."""

_BLOCK = 2048
_CHUNK = 64
_THREADS = 4
_PROBES = 16
_VERIFIED_BYTES = 1 << 28

_log = logging.getLogger(__name__)

_Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False, kw_only=True)
class Packed:
    """All readable images of a source, decoded."""

    pixels: np.ndarray
    """(len(images), h, w, c) uint8; a read-only memory map, or memory if no cache was writable."""
    images: Images
    """The readable images: row i of `pixels` is image i."""
    bad: tuple[Bad, ...]
    """The others."""


@dataclass(frozen=True)
class _Block:
    pixels: np.ndarray
    bad: list[tuple[int, str]]
    """Index in the source and reason."""


class _OddSize(Exception):
    """An image differs in size from those before it."""


def pack(
    images: Images, *, cache_dir: Path | None = None, max_unreadable_percent: float = 1.0
) -> Packed | None:
    """Decode a source of equal, small images into a cache, or open that cache.

    Args:
        images: Any source.
        cache_dir: Where caches are kept; by default SQUINT_CACHE or ~/.cache/squint.
        max_unreadable_percent: Stop if more of the images can't be read.

    Returns:
        None if an image has a side above 64 px or differs in size from the others.

    Raises:
        DataError: If more than `max_unreadable_percent` of the images, or all, are unreadable, or
            there are none.
    """
    enforce((), len(images), max_unreadable_percent, images.name)
    shape = _common_shape(images)
    if shape is None:
        return None
    path = (cache_dir or cache_directory()) / f"{images.cache_key()[:32]}.npy"
    try:
        found = _kept(path, images, shape) or _packed_anew(path, images, shape)
    except _OddSize:
        return None
    bad = tuple(Bad(images.paths[index], reason) for index, reason in found.bad)
    enforce(bad, len(images), max_unreadable_percent, images.name)
    if bad:
        unread = [index for index, _ in found.bad]
        images = images.select(np.setdiff1d(np.arange(len(images)), unread))
    return Packed(pixels=found.pixels, images=images, bad=bad)


def _common_shape(images: Images) -> _Shape | None:
    """The one small shape of images spread over the source, or None.

    Raises:
        DataError: If no image of the source can be read.
    """
    shape: _Shape | None = None
    for index in np.unique(np.linspace(0, len(images) - 1, _PROBES).astype(np.int64)).tolist():
        with contextlib.suppress(Unreadable):
            height, width, channels = images.read(index).shape
            if max(height, width) > LARGEST_SIDE or shape not in (None, (height, width, channels)):
                return None
            shape = (height, width, channels)
    return shape or _first_shape(images)


def _first_shape(images: Images) -> _Shape | None:
    bad: list[Bad] = []
    for index, path in enumerate(images.paths):
        try:
            height, width, channels = images.read(index).shape
        except Unreadable as reason:
            bad.append(Bad(path, str(reason)))
        else:
            return (height, width, channels) if max(height, width) <= LARGEST_SIDE else None
    enforce(bad, len(images), 100.0, images.name)
    return None


def _kept(path: Path, images: Images, shape: _Shape) -> _Block | None:
    """The cache, unless it lacks an image that can be read by now: a disk may have been away.

    Raises:
        _OddSize: If it is known that there is an image of another size.
    """
    odd = path.with_suffix(".odd")
    if odd.exists():
        raise _OddSize(odd)
    found = _opened(path, shape, len(images))
    if found and any(_readable(images, index) for index, _ in found.bad):
        return None
    return found


def _readable(images: Images, index: int) -> bool:
    try:
        images.read(index)
    except Unreadable:
        return False
    return True


def _packed_anew(path: Path, images: Images, shape: _Shape) -> _Block:
    try:
        with lock(path):
            if found := _kept(path, images, shape):  # another rank was faster
                return found
            _write(path, images, shape)
        if found := _opened(path, shape, len(images)):
            return found
        why = "it could not be read back"
    except OSError as error:
        why = error.strerror or str(error)
    _log.warning(
        "Images are kept in memory (%.1f GB), because the cache %s can't be written: %s. "
        "Set SQUINT_CACHE to a folder with space to decode them only once.",
        len(images) * np.prod(shape) / 1e9,
        path.parent,
        why,
    )
    pixels = np.empty((len(images), *shape), dtype=np.uint8)
    bad: list[tuple[int, str]] = []
    count = 0
    for block in _blocks(images, shape):
        pixels[count : count + len(block.pixels)] = block.pixels
        count += len(block.pixels)
        bad += block.bad
    return _Block(pixels[:count], bad)


def _write(path: Path, images: Images, shape: _Shape) -> None:
    """Write the cache file, or, beside it, that there can be none.

    Raises:
        OSError: If it can't be written; nothing is left behind.
        _OddSize: If an image is of another size.
    """
    try:
        _write_pixels(path, images, shape)
    except _OddSize as name:
        # Remembered, or every start would decode up to the odd image again.
        odd = path.with_suffix(".odd")
        with contextlib.suppress(OSError), written_whole(odd) as file:
            file.write(f"{name}\n".encode())
        raise


def _write_pixels(path: Path, images: Images, shape: _Shape) -> None:
    bad: list[tuple[int, str]] = []
    checks: list[tuple[int, int]] = []
    with written_whole(path) as file:
        _write_header(file, len(images), shape)
        for block in _blocks(images, shape):
            file.write(block.pixels.data)
            checks.append((len(block.pixels), zlib.crc32(block.pixels.data)))
            bad += block.bad
        file.write(json.dumps({"bad": bad, "checks": checks}).encode())
        file.seek(0)
        _write_header(file, len(images) - len(bad), shape)


def _write_header(file: BinaryIO, count: int, shape: _Shape) -> None:
    """The .npy header; numpy pads it so that another count takes the same space."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
    np.lib.format.write_array_header_1_0(file, header)


def _opened(path: Path, shape: _Shape, total: int) -> _Block | None:
    """The cache, if it is there, whole, and undamaged as far as a quick look can tell."""
    try:
        pixels = np.load(path, mmap_mode="r", allow_pickle=False)
        with path.open("rb") as file:
            file.seek(pixels.offset + pixels.nbytes)
            trailer = json.loads(file.read())
        bad = [(int(index), str(reason)) for index, reason in trailer["bad"]]
        checks = [(int(count), int(check)) for count, check in trailer["checks"]]
        if pixels.shape != (total - len(bad), *shape) or not _intact(pixels, checks):
            return None
    # Whatever is wrong with it, a cache that can't be read is written anew.
    except (OSError, ValueError, TypeError, LookupError, EOFError):
        return None
    return _Block(pixels, bad)


def _intact(pixels: np.ndarray, checks: Sequence[tuple[int, int]]) -> bool:
    """Compare checksums, of blocks spread over the file if there are more than 256 MiB."""
    ends = np.cumsum([count for count, _ in checks])
    most = max(2, _VERIFIED_BYTES // (_BLOCK * pixels[:1].nbytes))
    for k in np.unique(np.linspace(0, len(checks) - 1, most).astype(np.int64)):
        count, check = checks[k]
        if zlib.crc32(np.ascontiguousarray(pixels[ends[k] - count : ends[k]]).data) != check:
            return False
    return int(ends[-1]) == len(pixels)


def _blocks(images: Images, shape: _Shape) -> Iterator[_Block]:
    """All images, decoded in order by several threads, a few megabytes at a time.

    Raises:
        _OddSize: At the first image of another size.
    """

    def decoded(first: int, stop: int) -> _Block:
        pixels, bad = [], []
        for index in range(first, stop):
            try:
                image = images.read(index)
            except Unreadable as reason:
                bad.append((index, str(reason)))
                continue
            if image.shape != shape:
                raise _OddSize(images.paths[index])
            pixels.append(image)
        return _Block(np.stack(pixels) if pixels else np.empty((0, *shape), np.uint8), bad)

    with ThreadPoolExecutor(_THREADS) as threads:
        for start in range(0, len(images), _BLOCK):
            stop = min(start + _BLOCK, len(images))
            firsts = range(start, stop, _CHUNK)
            stops = [min(first + _CHUNK, stop) for first in firsts]
            chunks = list(threads.map(decoded, firsts, stops))
            yield _Block(
                np.concatenate([chunk.pixels for chunk in chunks]),
                [each for chunk in chunks for each in chunk.bad],
            )
