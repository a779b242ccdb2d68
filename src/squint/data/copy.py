"""`squint pack`: a copy of a source that loads several times faster.

A folder of JPEG files whose shorter side has at most so many pixels. Names of folders say splits
and classes, so the copy is a source like any other. It appears whole or not at all.
"""

import os
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from squint.data.decode import PICTURE_CHANNELS, Unreadable
from squint.data.images import Images
from squint.data.layout import arrange, is_image, parts
from squint.data.quarantine import Bad, enforce
from squint.errors import DataError

UNREADABLE = "unreadable.txt"
"""Beside the images: those that could not be read, one line `path<TAB>reason` each."""


def copy(
    images: Images, out: Path, *, side: int = 256, quality: int = 90, workers: int = 4
) -> tuple[Bad, ...]:
    """Write a small copy of every readable image; returns the others.

    Args:
        images: Any source; its splits and labels are kept.
        out: Folder to make.
        side: Longest that the shorter side may be, in pixels; smaller images keep their size.
        quality: Of the JPEG files, 1 to 95.
        workers: Threads.

    Raises:
        DataError: `out` exists or can't be written, folders can't express the labels, or too few
            images can be read for that. Nothing is left behind.
    """
    if not (8 <= side and 1 <= quality <= 95 and workers >= 1):
        raise DataError(
            f"side={side}, quality={quality}, workers={workers} won't do: the side must be at "
            "least 8 pixels, the quality 1 to 95, the workers 1 or more. Change what is not."
        )
    if images.channels not in PICTURE_CHANNELS:
        raise DataError(
            f"{images.name} has images of {images.channels} channels, which no JPEG file holds: "
            "the copy is for grey and RGB. Train on the array itself."
        )
    if os.path.lexists(out):
        raise DataError(f"{out} exists already, and nothing is overwritten. Give a new name.")
    names = _names(images)
    temporary = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
        bads = _write(images, names, temporary, side, quality, workers)
        temporary.chmod(0o755)
        temporary.rename(out)
    except OSError as error:
        raise DataError(
            f"{out} could not be written ({error.strerror or error}); nothing was kept of it. "
            "Make room or change permissions, or give a folder on another disk."
        ) from error
    finally:
        if temporary is not None and temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)
    return bads


def _write(
    images: Images, names: Sequence[str], folder: Path, side: int, quality: int, workers: int
) -> tuple[Bad, ...]:
    for parent in {(folder / name).parent for name in names}:
        parent.mkdir(parents=True, exist_ok=True)

    def one(index: int) -> Bad | None:
        try:
            image = Image.fromarray(images.read(index).squeeze())
        except Unreadable as reason:
            return Bad(images.paths[index], str(reason))
        _shrunk(image, side).save(folder / names[index], "JPEG", quality=quality)
        return None

    with ThreadPoolExecutor(workers) as threads:
        try:
            found = list(threads.map(one, range(len(images))))
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
    bads = tuple(bad for bad in found if bad)
    enforce(bads, len(images), 100.0, images.name)
    if bads:
        written = [index for index, bad in enumerate(found) if bad is None]
        if not _tell_the_same([names[index] for index in written], images.select(written)):
            raise DataError(
                f"Without the {len(bads):,} images of {images.name} that can't be read, the first "
                f"{bads[0].path} ({bads[0].reason}), folders would tell other splits or classes. "
                "Mend those images, or take them out of the source."
            )
        lines = "".join(f"{bad.path}\t{bad.reason}\n" for bad in bads)
        (folder / UNREADABLE).write_text(lines, encoding="utf-8")
    return bads


def _shrunk(image: Image.Image, side: int) -> Image.Image:
    factor = side / min(image.size)
    if factor >= 1:
        return image
    width, height = (max(side, round(length * factor)) for length in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def _names(images: Images) -> list[str]:
    """A file name per image, from which opening the folder will tell the same splits and labels."""
    plain = ["/".join(parts(path)) for path in images.paths]
    sorted_in = [
        f"{_folder(images, i)}{i:08d}_{PurePosixPath(plain[i]).name}" for i in range(len(plain))
    ]
    for names in (plain, sorted_in):
        files = [name if _is_jpeg(name) else f"{name}.jpg" for name in names]
        openable = len(set(files)) == len(files) and all(map(is_image, files))
        if openable and _tell_the_same(files, images):
            return files
    raise DataError(
        f"The labels or splits of {images.name} can't be told by folders: some images have them "
        "and others not, a name is no folder's, or classes do not follow each other in the order "
        "of their names. Sort the images into [split/]class/ folders."
    )


def _folder(images: Images, index: int) -> str:
    group = -1 if images.groups is None else int(images.groups[index])
    label = -1 if images.targets is None else int(images.targets[index])
    split = f"{images.splits[group]}/" if group >= 0 else ""
    return split + (f"{images.classes[label]}/" if label >= 0 else "")


def _is_jpeg(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in (".jpg", ".jpeg")


def _tell_the_same(names: Sequence[str], images: Images) -> bool:
    told = arrange(names)
    return (
        (told.splits, told.classes) == (images.splits, images.classes)
        and _same(told.groups, images.groups)
        and _same(told.targets, images.targets)
    )


def _same(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    return one is other if one is None or other is None else np.array_equal(one, other)
