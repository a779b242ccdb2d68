"""Images named in a text file, one a line: `path` or `path<TAB>label`.

Paths are relative to the folder of the list. Empty lines and lines that start with `#` are
ignored; the order is that of the list. Either every line has a label or none has; labels that are
whole numbers are ordered as numbers.
"""

import os
from pathlib import Path

import numpy as np

from squint.data.directory import Files
from squint.data.images import Images
from squint.data.layout import numbered, printable
from squint.errors import DataError


def open_list(path: Path, name: str, channels: int) -> Images:
    """The images a list names; those that are missing show up as unreadable when they are read.

    Raises:
        DataError: If the list is empty, labels only some images, or none of its paths exists.
    """
    # Decoded as file names are: a path in another encoding than UTF-8 still opens.
    lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
    entries = [line.split("\t") for line in lines if line.strip() and not line.startswith("#")]
    names = tuple(entry[0].strip() for entry in entries)
    if not names:
        raise DataError(
            f"{path} names no images. A list has one path a line, relative to the folder of the "
            "list. Write the paths into it, or give the folder itself."
        )
    root = path.parent.absolute()
    # Path.exists raises at a name too long or a folder that may not be entered.
    if not any(os.path.exists(root / each) for each in names):  # noqa: PTH110
        raise DataError(
            f"None of the {len(names):,} paths in {path} exists; the first one is "
            f"{root / printable(names[0])}. Paths must be absolute, or relative to the folder of "
            "the list. Correct them, or move the list."
        )
    classes, targets = _labels(entries, path)
    return Images(
        name=name,
        paths=tuple(printable(each) for each in names),
        store=Files(root, names),
        rows=np.arange(len(names)),
        channels=channels,
        classes=classes,
        targets=targets,
    )


def _labels(entries: list[list[str]], path: Path) -> tuple[tuple[str, ...], np.ndarray | None]:
    labels = [entry[1].strip() if len(entry) > 1 else "" for entry in entries]
    if not any(labels):
        return (), None
    if not all(labels):
        without = entries[labels.index("")][0]
        raise DataError(
            f"{labels.count('')} of {len(labels)} lines in {path} have no label, the first of them "
            f"{printable(without)}. Labels must stand on every line, after a tab, or on none. "
            "Add them, or leave all out."
        )
    return numbered([printable(label) for label in labels])
