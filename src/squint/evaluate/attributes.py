"""What is known of each image: factors a source records, or a table the user gives.

A table is a .csv. Its first column names images as the source does, each other column holds one
attribute, empty where unknown. A heading says the kind after a colon, `hue:turns`; without one a
column of numbers is a number and any other a category.
"""

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from squint.data import Images, demo
from squint.errors import DataError

Kind = Literal["number", "turns", "category"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Attribute:
    """One attribute of some images."""

    name: str
    kind: Kind
    values: np.ndarray
    """(n,) float64; numbers, turns (0 and 1 are the same), or numbers of categories; nan where
    unknown."""

    @property
    def known(self) -> np.ndarray:
        """(n,) bool."""
        return ~np.isnan(self.values)

    def target(self) -> np.ndarray:
        """(n, t) what a regression predicts: the number, or cosine and sine of the turns."""
        if self.kind == "turns":
            angle = 2 * np.pi * self.values
            return np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return self.values[:, None]


def attributes_of(images: Images, table: str = "") -> list[Attribute]:
    """Attributes of the images, from the table if one is given, else from the source.

    Raises:
        DataError: there are none, or the table can't be read or does not fit the images.
    """
    found = _from_table(Path(table), images) if table else _recorded(images)
    if not found:
        raise DataError(
            f"{images.name} records nothing of its images beside labels. Give a table of "
            "attributes with --nuisance.attributes F.csv: first column the image's path, one "
            "column for each attribute."
        )
    return found


def label_of(images: Images) -> Attribute | None:
    """The label as an attribute; None where it is not known of every image."""
    if images.labels is None:
        return None
    return Attribute(name="label", kind="category", values=images.labels.astype(np.float64))


def _recorded(images: Images) -> list[Attribute]:
    def kind(name: str, values: np.ndarray) -> Kind:
        if values.dtype.kind == "i":
            return "category"
        return "turns" if images.name.startswith("demo") and name in demo.CIRCULAR else "number"

    return [
        Attribute(name=name, kind=kind(name, values), values=values.astype(np.float64))
        for name, values in images.attributes.items()
    ]


def _from_table(path: Path, images: Images) -> list[Attribute]:
    heading, rows = _read(path)
    place = {row[0]: number for number, row in enumerate(rows)}
    listed = np.array([place.get(name, -1) for name in images.paths])
    if (listed < 0).all():
        example = next(iter(place))
        raise DataError(
            f"{path} names none of the {len(images)} images of {images.name}: it has {example!r}, "
            f"the source {images.paths[0]!r}. Write the names in the first column as the source "
            "has them."
        )
    whole = [  # categories are numbered over the whole table, alike for any part of the images
        _column(path, title, [row[number].strip() for row in rows])
        for number, title in enumerate(heading[1:], start=1)
    ]
    return [
        replace(column, values=np.where(listed < 0, np.nan, column.values[listed]))
        for column in whole
    ]


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"The attributes {path} can't be read as a .csv ({error}).") from None
    if len(rows) < 2 or len(rows[0]) < 2:
        raise DataError(
            f"The attributes {path} have {len(rows)} rows; there must be a heading with at least "
            "two columns, path and one attribute, and a row for each image."
        )
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise DataError(
                f"Row {number} of {path} has {len(row)} columns, the heading {len(rows[0])}. "
                "Leave a cell empty where nothing is known."
            )
    return rows[0], rows[1:]


def _column(path: Path, title: str, cells: list[str]) -> Attribute:
    name, colon, said = title.strip().rpartition(":")
    if not colon:
        name, said = said, ""
    if said and said not in get_args(Kind):
        raise DataError(
            f"The heading {title!r} of {path} ends in {said!r}, which is no kind: it must be one "
            f"of {', '.join(get_args(Kind))}. Without a colon the kind is found from the values."
        )
    numbers = None if said == "category" else _numbers(cells)
    if numbers is None and said in ("number", "turns"):
        wrong = next(cell for cell in cells if cell and _numbers([cell]) is None)
        raise DataError(f"{wrong!r} in the column {title!r} of {path} is not a number. Mend it.")
    if numbers is not None:
        return Attribute(name=name, kind="turns" if said == "turns" else "number", values=numbers)
    categories = {cell: float(code) for code, cell in enumerate(sorted(set(cells) - {""}))}
    values = [categories.get(cell, np.nan) for cell in cells]
    return Attribute(name=name, kind="category", values=np.array(values))


def _numbers(cells: list[str]) -> np.ndarray | None:
    """The cells as finite numbers, nan where empty; None if one is something else."""
    try:
        values = np.array([float(cell) if cell else np.nan for cell in cells])
    except ValueError:
        return None
    filled = np.array([bool(cell) for cell in cells])
    return values if filled.any() and np.isfinite(values[filled]).all() else None
