"""The file of `squint.embed`: what it holds, and writing it as .npz, .csv or .parquet.

Nothing here imports torch: a file that can't be written is refused at once.
"""

import csv
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from squint import files, runs
from squint.errors import RunError


class Embedding(NamedTuple):
    """One row for each readable image, in the source's order."""

    paths: tuple[str, ...]
    features: np.ndarray
    """(n, f) float32, of the evaluation view."""
    labels: np.ndarray | None
    """(n,) int64; None unless every image has one."""
    classes: tuple[str, ...]
    rate_nats: np.ndarray | None
    """(n,) float32: closed-form rate of the code in the method's own channel, mean over directions
    and pairs of training views: how surprising the image is to the code, up to a constant. None
    for a bare encoder, which has no code."""


def check(out: Path, *, overwrite: bool) -> None:
    """Make sure that such a file may be written, before anything is computed.

    Raises:
        RunError: as `files.check_file`, or a library is not installed.
    """
    files.check_file(out, kinds=tuple(_WRITERS), overwrite=overwrite)
    if out.suffix.lower() == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise RunError(
            "A .parquet file needs pyarrow, which is not installed: pip install 'squint[parquet]'. "
            "Or give --out a name that ends in .npz or .csv."
        )


def write(out: Path, embedding: Embedding) -> None:
    """Write the file, whole or not at all; `check` has been asked before.

    Raises:
        RunError: it can't be written.
    """
    with runs.replacing(out) as temporary:
        _WRITERS[out.suffix.lower()](temporary, embedding)


def _columns(embedding: Embedding) -> dict[str, Any]:
    """All but the features, by name."""
    columns: dict[str, Any] = {"path": np.array(embedding.paths)}
    if embedding.labels is not None:
        columns["label"] = embedding.labels
    if embedding.rate_nats is not None:
        columns["rate_nats"] = embedding.rate_nats
    return columns


def _npz(path: Path, embedding: Embedding) -> None:
    with path.open("wb") as file:
        classes = {"classes": np.array(embedding.classes)} if embedding.classes else {}
        arrays = {"features": embedding.features} | _columns(embedding) | classes
        np.savez(file, allow_pickle=False, **arrays)


def _csv(path: Path, embedding: Embedding) -> None:
    columns = _columns(embedding)
    width = embedding.features.shape[1]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, *(f"f{number}" for number in range(width))])
        for number, row in enumerate(embedding.features):
            known = [column[number] for column in columns.values()]
            writer.writerow([*known, *(f"{value:.9g}" for value in row)])


def _parquet(path: Path, embedding: Embedding) -> None:
    import pyarrow  # pyright: ignore[reportMissingImports]
    import pyarrow.parquet  # pyright: ignore[reportMissingImports]

    width = embedding.features.shape[1]
    flat = pyarrow.array(embedding.features.ravel())
    features = pyarrow.FixedSizeListArray.from_arrays(flat, width)
    table = pyarrow.table({**_columns(embedding), "features": features})
    pyarrow.parquet.write_table(table, path)


_WRITERS: Mapping[str, Callable[[Path, Embedding], None]] = {
    ".npz": _npz,
    ".csv": _csv,
    ".parquet": _parquet,
}
