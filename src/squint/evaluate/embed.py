"""`squint.embed`: features of every image, with its path, label and residual information."""

import csv
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from squint import runs
from squint.data import Images
from squint.errors import RunError
from squint.evaluate import compression
from squint.evaluate.bench import Bench
from squint.evaluate.features import evaluation_mode
from squint.evaluate.inputs import view_pairs
from squint.evaluate.options import Options
from squint.evaluate.protocols import device_of, images_of
from squint.evaluate.subject import open_subject
from squint.methods import Method
from squint.runs import Run
from squint.views.recipes import ViewsConfig


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


def embed(
    target: str | Path | Run,
    *,
    data: str | Path | Images | None = None,
    out: str | Path | None = None,
    device: str = "auto",
) -> Embedding:
    """Features of every readable image of a source, written to a file if one is named.

    Args:
        target: a run folder, or whatever else `squint.evaluate` takes.
        data: images, with or without labels; by default those of the run.
        out: FILE.npz, .csv or .parquet; written whole or not at all.
        device: auto (CUDA or the CPU), cpu, cuda, cuda:1, mps.

    Raises:
        SquintError: no such run or images, a file that can't be written, or .parquet without
            pyarrow.
    """
    writer = _writer(Path(out)) if out is not None else None
    subject = open_subject(target)
    bench = Bench(subject, images_of(subject, data), device_of(device), Options())
    seen = bench.features_of_all()
    rate = None
    if subject.run is not None:
        method = compression.method_of(bench, "embed")
        views = subject.run.recipe.views
        rate = rates(method, seen.images, views, device=bench.device).cpu().numpy()
    embedding = Embedding(
        paths=seen.images.paths,
        features=seen.features.numpy(),
        labels=seen.images.labels,
        classes=seen.images.classes,
        rate_nats=rate,
    )
    if out is not None and writer is not None:
        with runs.replacing(Path(out)) as temporary:
            writer(temporary, embedding)
    return embedding


def rates(method: Method, images: Images, views: ViewsConfig, *, device: torch.device) -> Tensor:
    """Mean closed-form rate of every image in nats, (n,) float32; see `Embedding`."""
    coder = compression.coder_of(method)
    passes: list[Tensor] = []
    with evaluation_mode(method), torch.no_grad():
        for epoch in range(compression.PAIRS):
            pairs = view_pairs(images, views, device=device, limit=None, epoch=epoch)
            passes.append(torch.cat([compression.rates_of(coder, batch) for batch in pairs]))
    return torch.stack(passes).mean(dim=0)


Writer = Callable[[Path, Embedding], None]


def _writer(out: Path) -> Writer:
    """What writes such a file, before anything is computed.

    Raises:
        RunError: unknown kind, no such folder, or a library that is not installed.
    """
    writers: Mapping[str, Writer] = {".npz": _npz, ".csv": _csv, ".parquet": _parquet}
    if out.suffix not in writers:
        raise RunError(
            f"--out {out} has no ending that says its kind: it must be one of {', '.join(writers)}."
        )
    if not out.parent.is_dir():
        raise RunError(f"--out {out}: the folder {out.parent} does not exist. Make it first.")
    if out.is_dir():
        raise RunError(f"--out {out} is a folder; give the name of a file.")
    if out.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise RunError(
            "A .parquet file needs pyarrow, which is not installed: pip install 'squint[parquet]'. "
            "Or give --out a name that ends in .npz or .csv."
        )
    return writers[out.suffix]


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
