"""Nearest neighbours as a table: in lines to print, and in a .csv or .json file.

Nothing here imports torch: a file that can't be written is refused at once.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from squint import files, runs
from squint.pictures import canvas

COPY = 0.999
"""Cosine above which two images are the same to the encoder."""
_COLUMNS = ("query", "query_class", "rank", "path", "class", "cosine")


class Neighbor(NamedTuple):
    """One image near a query."""

    row: int
    """Its number among the source's readable images."""
    path: str
    label: str
    """Name of its class, or nothing where it is not known."""
    cosine: float
    """Of its features and the query's."""


class Found(NamedTuple):
    """A query and its neighbours, the nearest first."""

    path: str
    label: str
    neighbors: tuple[Neighbor, ...]


def check(out: Path, *, overwrite: bool) -> None:
    """Make sure that such a file may be written, before anything is computed.

    Raises:
        RunError: as `files.check_file`.
    """
    files.check_file(out, kinds=(*canvas.PICTURES, ".csv", ".json"), overwrite=overwrite)


def write(out: Path, found: Sequence[Found]) -> None:
    """Write a table, whole or not at all; `check` has been asked before.

    Raises:
        RunError: it can't be written.
    """
    if out.suffix.lower() == ".json":
        rows = [dict(zip(_COLUMNS, row, strict=True)) for row in _rows(found)]
        runs.write_json(out, rows)
        return
    with (
        runs.replacing(out) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        csv.writer(file).writerows([_COLUMNS, *_rows(found)])


def lines(found: Sequence[Found]) -> Iterator[str]:
    """The table for a terminal, and what it says in a sentence or two."""
    for each in found:
        yield f"{each.path}{_in_class(each.label)}"
        for rank, near in enumerate(each.neighbors, 1):
            yield f"  {rank:3}  {near.cosine:7.4f}  {near.path}{_in_class(near.label)}"
    pairs = [(each, near) for each in found for near in each.neighbors]
    copies = sum(near.cosine > COPY for _, near in pairs)
    yield f"{copies} of {len(pairs)} neighbours have a cosine above {COPY}" + (
        ": copies, or images that are the same to this encoder." * (copies > 0) or "."
    )
    labelled = [(each, near) for each, near in pairs if each.label and near.label]
    if labelled:
        same = sum(each.label == near.label for each, near in labelled)
        yield f"{same} of {len(labelled)} neighbours are of their query's class."


def _rows(found: Sequence[Found]) -> Iterator[tuple[str, str, int, str, str, float]]:
    for each in found:
        for rank, near in enumerate(each.neighbors, 1):
            cosine = round(near.cosine, 6)
            yield each.path, each.label, rank, near.path, near.label, cosine


def _in_class(label: str) -> str:
    return f"  ({label})" if label else ""
