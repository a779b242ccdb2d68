"""What a source holds: what its names tell, and what a sample of decoded images shows."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from squint.data import Bad, Images, Unreadable, permutation
from squint.data.decode import decode
from squint.doctor import duplicates
from squint.doctor.kinds import kind_of

SAMPLE = 500
"""Images that are decoded unless more are asked for."""
NO_ENDING = "no ending"
"""In place of one."""
_CHUNK = 256
_MEASURED = 256
"""Pixels; of longer sides not every row and column counts for mean and deviation."""
_BLANK = 8
"""Grey levels; an image with less between its darkest and brightest is one colour."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What the names of the images tell."""

    name: str
    images: int
    training: int
    """Images that are trained on: those of train, if there is such a split."""
    splits: dict[str, int]
    classes: dict[str, int]
    unlabelled: int
    endings: dict[str, int]
    passed_over: dict[str, int]


class Side(NamedTuple):
    """Of an image, upright."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What decoding some of the images showed; names are those of the source."""

    looked_at: int
    readable: int
    unreadable: tuple[Bad, ...]
    smallest: Side
    median: Side
    largest: Side
    """By the shorter side."""
    short_sides: dict[int, int]
    """How many images have a shorter side of so many pixels."""
    one_size: bool
    kinds: dict[str, int]
    """As stored: JPEG RGB, PNG RGBA, uint16 array, …"""
    mean: tuple[float, ...]
    """Of each channel, 0 to 1."""
    std: tuple[float, ...]
    """Of each channel's pixels in all images."""
    colourless: int
    """Images that are grey, whatever they are stored as."""
    blank: tuple[str, ...]
    bytes_each: float
    """As stored, mean."""
    core_seconds_each: float
    """To decode one."""
    seconds: float
    """What looking took."""
    copies: tuple[tuple[str, str], ...]
    near: tuple[tuple[str, str], ...]
    more_near: bool
    copied_leaks: tuple[tuple[str, str], ...]
    """An image of train, and one of another split that is a copy of it."""
    near_leaks: tuple[tuple[str, str], ...]
    """An image of train, and one of another split that is near it."""


def contents(images: Images) -> Contents:
    """What names alone tell; decodes nothing."""
    targets, groups = images.targets, images.groups
    labels = np.empty(0, np.int64) if targets is None else targets[targets >= 0]
    per_class = np.bincount(labels, minlength=len(images.classes)).tolist()
    splits: dict[str, int] = {}
    if groups is not None:
        splits = {name: int((groups == k).sum()) for k, name in enumerate(images.splits)}
    endings = Counter(PurePosixPath(path).suffix.lower() or NO_ENDING for path in images.paths)
    return Contents(
        name=images.name,
        images=len(images),
        training=splits.get("train", len(images)),
        splits=splits,
        classes=dict(zip(images.classes, per_class, strict=True)),
        unlabelled=len(images) - len(labels),
        endings=dict(endings.most_common()),
        passed_over=dict(images.passed_over),
    )


def look(images: Images, *, sample: int | Literal["all"] = SAMPLE, threads: int = 4) -> Sample:
    """Decode a sample, the same one every time, and compare its images with each other.

    Args:
        images: any source.
        sample: how many images.
        threads: that decode.
    """
    count = len(images) if sample == "all" else min(sample, len(images))
    chosen = permutation(0, 0, len(images))[:count]
    if images.groups is not None and "train" in images.splits:  # its images are the originals
        train = images.groups[chosen] == images.splits.index("train")
        chosen = chosen[np.argsort(~train, kind="stable")]
    Image.init()  # once, so that no image is charged for it
    began = time.perf_counter()
    seen: list[_Look | Bad] = []
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, count, _CHUNK):  # Ctrl-C waits for one chunk at most
            seen += pool.map(_looker(images), chosen[start : start + _CHUNK].tolist())
    found = [each for each in seen if isinstance(each, _Look)]
    bad = tuple(each for each in seen if isinstance(each, Bad))
    paired = _pairs(images, found)
    return Sample(
        looked_at=count,
        readable=len(found),
        unreadable=bad,
        seconds=time.perf_counter() - began,
        **_measures(images, found),
        **paired,
    )


@dataclass(frozen=True, slots=True)
class _Look:
    """What is kept of one image."""

    row: int
    size: Side
    kind: str
    moments: np.ndarray
    """(2, c): mean of each channel and of its square, 0 to 1."""
    colourless: bool
    blank: bool
    stored_bytes: int
    core_seconds: float
    digest: bytes
    thumbnail: bytes
    """Of `duplicates.thumbnail`."""


def _looker(images: Images) -> Callable[[int], _Look | Bad]:
    def look(row: int) -> _Look | Bad:
        try:
            raw = images.fetch(row)
            raw = raw.read_bytes() if isinstance(raw, Path) else raw
            began = time.thread_time()
            pixels = decode(raw, images.channels)
            took = time.thread_time() - began
        except Unreadable as reason:
            return Bad(images.paths[row], str(reason))
        except OSError as error:
            return Bad(images.paths[row], (error.strerror or str(error)).lower())
        return _Look(
            row=row,
            size=Side(*pixels.shape[:2]),
            kind=sys.intern(kind_of(raw, images.channels)),
            moments=_moments(pixels),
            colourless=bool((pixels == pixels[:, :, :1]).all()),
            blank=int(np.ptp(pixels)) < _BLANK,
            stored_bytes=len(raw) if isinstance(raw, bytes) else pixels.nbytes,
            core_seconds=took,
            digest=duplicates.digest(pixels),
            thumbnail=duplicates.thumbnail(pixels).tobytes(),
        )

    return look


def _moments(pixels: np.ndarray) -> np.ndarray:
    step = -(-min(pixels.shape[:2]) // _MEASURED)
    levels = pixels[::step, ::step].reshape(-1, pixels.shape[2]) / np.float32(255)
    return np.stack([levels.mean(axis=0), np.square(levels).mean(axis=0)]).astype(np.float64)


def _measures(images: Images, found: list[_Look]) -> dict[str, Any]:
    """Sizes, kinds and costs of the images that could be read."""
    sizes = sorted((min(each.size), max(each.size), each.size) for each in found)
    smallest, median, largest = (
        (sizes[0][2], sizes[len(sizes) // 2][2], sizes[-1][2]) if sizes else (Side(0, 0),) * 3
    )
    moments = [each.moments for each in found] or [np.zeros((2, images.channels))]
    mean, square = np.mean(moments, axis=0)  # every image counts the same
    std = np.sqrt(np.maximum(square - mean**2, 0))
    return {
        "mean": tuple(mean.tolist()),
        "std": tuple(std.tolist()),
        "smallest": smallest,
        "median": median,
        "largest": largest,
        "short_sides": dict(Counter(each[0] for each in sizes)),
        "one_size": len({each.size for each in found}) == 1,
        "kinds": dict(Counter(each.kind for each in found).most_common()),
        "colourless": sum(each.colourless for each in found),
        "blank": tuple(images.paths[each.row] for each in found if each.blank),
        "bytes_each": _mean([each.stored_bytes for each in found]),
        "core_seconds_each": _mean([each.core_seconds for each in found]),
    }


def _pairs(images: Images, found: list[_Look]) -> dict[str, Any]:
    """Copies, near pairs and leaks, by name; images of one colour are not compared."""
    shown = [each for each in found if not each.blank]
    thumbnails = np.frombuffer(b"".join(each.thumbnail for each in shown), np.uint8)
    thumbnails = thumbnails.reshape(-1, duplicates.SIDE, duplicates.SIDE)
    twins = duplicates.find([each.digest for each in shown], thumbnails)
    rows = [each.row for each in shown]
    splits = _splits(images)

    def named(pairs: Iterable[tuple[int, int]]) -> tuple[tuple[str, str], ...]:
        return tuple((images.paths[rows[one]], images.paths[rows[other]]) for one, other in pairs)

    def leaks(pairs: Iterable[tuple[int, int]]) -> tuple[tuple[str, str], ...]:
        leaked: dict[int, int] = {}  # each image of another split once
        for one, other in pairs:
            if splits[rows[one]] == "train" and splits[rows[other]] not in ("train", ""):
                leaked.setdefault(other, one)
        return named((one, other) for other, one in leaked.items())

    return {
        "copies": named(twins.copies),
        "near": named(twins.near),
        "more_near": twins.more,
        "copied_leaks": leaks(twins.copies),
        "near_leaks": leaks(twins.near),
    }


def _splits(images: Images) -> list[str]:
    """The split of each image; "" for none."""
    if images.groups is None:
        return [""] * len(images)
    return [images.splits[group] if group >= 0 else "" for group in images.groups.tolist()]


def _mean(values: list[float] | list[int]) -> float:
    return float(np.mean(values)) if values else 0.0
