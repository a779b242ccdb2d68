"""Which images are meant: by their path in a source, or by file.

Nothing here imports torch: a name that stands for nothing is answered at once.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from squint.data import Images, Unreadable
from squint.data.directory import Files
from squint.data.layout import printable
from squint.errors import DataError


class Query(NamedTuple):
    """One image whose neighbours are wanted."""

    images: Images
    """The source, or a source of this file alone."""
    row: int
    inside: bool
    """Whether it is one of the images that are searched."""

    @property
    def path(self) -> str:
        """As it is in its source."""
        return self.images.paths[self.row]

    @property
    def label(self) -> str:
        """Its class, or nothing where that is not known."""
        return label_of(self.images, self.row)


def queries_of(names: Sequence[str], images: Images) -> list[Query]:
    """The named images: of the source, by path or file, or other files.

    Raises:
        DataError: a name is neither, or the file can't be read.
    """
    queries: list[Query] = []
    for name in names:
        row = row_of(name, images)
        if row is not None:
            queries.append(Query(images, row, True))
        elif _is_file(name):
            queries.append(Query(_of_one_file(name, images.channels), 0, False))
        else:
            raise DataError(
                f"--query {name} is no file and no readable image of {images.name}. Give a file, "
                f"or a path in the source, such as {images.paths[0]}."
            )
    return queries


def training(images: Images) -> Images:
    """The images of a source that are trained on."""
    return images.split("train") if "train" in images.splits else images


def rows_of(names: Sequence[str], images: Images) -> list[int]:
    """The rows of the named images.

    Raises:
        DataError: a name stands for no image of the source.
    """
    rows: list[int] = []
    for name in names:
        row = row_of(name, images)
        if row is None:
            raise DataError(
                f"--only {name} is no readable image of {images.name}. Give its path in the "
                f"source, such as {images.paths[0]}, or its file."
            )
        rows.append(row)
    return rows


def row_of(name: str, images: Images) -> int | None:
    """The row of the image that has this path in the source, or that is this file."""
    if name in images.paths:
        return images.paths.index(name)
    if not isinstance(images.store, Files) or not _is_file(name):
        return None
    file = Path(name).expanduser()
    last = printable(file.name)
    for row, path in enumerate(images.paths):
        if path.rpartition("/")[2] == last and _is(images, row, file):
            return row
    return None


def label_of(images: Images, row: int) -> str:
    """The class of an image, or nothing where it is not known."""
    if images.targets is None or images.targets[row] < 0:
        return ""
    return images.classes[images.targets[row]]


def unreadable(path: str, reason: Unreadable) -> DataError:
    """The error of an image that was asked for by name."""
    return DataError(f"{path} can't be read: {reason}. Give another image.")


def _is_file(name: str) -> bool:
    return os.path.isfile(Path(name).expanduser())  # noqa: PTH113  (Path.is_file may raise)


def _is(images: Images, row: int, file: Path) -> bool:
    try:
        stored = images.fetch(row)
    except Unreadable:
        return False
    return isinstance(stored, Path) and stored.samefile(file)


def _of_one_file(name: str, channels: int) -> Images:
    path = Path(name).expanduser().absolute()
    one = Images(
        name=printable(name),
        paths=(printable(name),),
        store=Files(path.parent, (path.name,)),
        rows=np.arange(1),
        channels=channels,
    )
    try:
        one.read(0)
    except Unreadable as reason:
        raise unreadable(one.name, reason) from None
    return one
