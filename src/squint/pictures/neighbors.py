"""Nearest neighbours: the images whose features have the largest cosine with those of a query.

The same features and the same search as of the kNN protocol.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from squint.data import Images, permutation
from squint.errors import DataError
from squint.evaluate import knn
from squint.evaluate.bench import Bench
from squint.evaluate.features import extract
from squint.evaluate.inputs import Seen
from squint.evaluate.options import Options, SubjectOptions
from squint.evaluate.protocols import device_of, images_of
from squint.evaluate.subject import Subject, open_subject
from squint.pictures import canvas, choose, neighbors_file
from squint.pictures.canvas import beside, flowing, framed, line, stacked
from squint.pictures.choose import Query, queries_of
from squint.pictures.neighbors_file import Found, Neighbor
from squint.pictures.options import NeighborsOptions
from squint.runs import Run
from squint.views.two_views import EvaluationView


def neighbors(
    target: str | Path | Run,
    *,
    data: str | Path | Images | None = None,
    out: str | Path | None = None,
    options: NeighborsOptions | None = None,
    device: str = "auto",
    subject: SubjectOptions | None = None,
    overwrite: bool = False,
) -> tuple[Found, ...]:
    """The nearest neighbours of some images in a source, drawn or written if a file is named.

    Args:
        target: a run folder, or whatever else `squint.evaluate` takes.
        data: images, with or without labels; by default those of the run.
        out: FILE.png, .jpg or .pdf for a picture, .csv or .json for a table.
        options: whose neighbours, and how many.
        device: auto (CUDA or the CPU), cpu, cuda, cuda:1, mps.
        subject: architecture, weights and size of a target that is no run.
        overwrite: replace the file that is at `out`.

    Raises:
        SquintError: no such run or images, a query that can't be read, or a file that can't be
            written or is there already.
    """
    options = options or NeighborsOptions()
    if out is not None:
        neighbors_file.check(Path(out), overwrite=overwrite)
    under_test = open_subject(target, subject)
    bench = Bench(under_test, images_of(under_test, data), device_of(device), Options())
    queries_of(options.query, bench.images)  # says what is wrong before the work begins
    seen = bench.features_of_all()
    queries = queries_of(options.query, seen.images) or _chosen(seen.images, options)
    features = _features(bench, queries, seen)
    found = nearest(queries, features, seen, k=options.k, device=bench.device)
    if not all(each.neighbors for each in found):
        raise DataError(
            f"{bench.images.name} has one readable image, which is not its own neighbour. Give a "
            "source of several."
        )
    if out is not None and Path(out).suffix.lower() in canvas.PICTURES:
        drawn = sheet(found, queries, seen.images, under_test, side=options.side)
        canvas.save(drawn, Path(out))
    elif out is not None:
        neighbors_file.write(Path(out), found)
    return found


def nearest(
    queries: Sequence[Query],
    features: Float[Tensor, "n f"],
    seen: Seen,
    *,
    k: int,
    device: torch.device | str = "cpu",
) -> tuple[Found, ...]:
    """The k nearest of the images seen, or all there are; a query is not its own neighbour.

    Args:
        queries: n of them.
        features: of the queries.
        seen: the images that are searched, and their features.
        k: neighbours of each.
        device: where similarities are computed, in blocks.
    """
    images, bank = seen.images, seen.features
    cosines, rows = knn.neighbors(features, bank, k=min(k + 1, len(bank)), device=device)
    found: list[Found] = []
    for query, values, numbers in zip(queries, cosines.tolist(), rows.tolist(), strict=True):
        near = [
            Neighbor(row, images.paths[row], choose.label_of(images, row), min(cosine, 1.0))
            for row, cosine in zip(numbers, values, strict=True)
            if not (query.inside and row == query.row)
        ]
        found.append(Found(query.path, query.label, tuple(near[:k])))
    return tuple(found)


def sheet(
    found: Sequence[Found], queries: Sequence[Query], images: Images, subject: Subject, *, side: int
) -> Image.Image:
    """The picture of `nearest`: a row per query, the nearest first, another class in colour."""
    rows = [_row(each, query, images, side) for each, query in zip(found, queries, strict=True)]
    width = max(canvas.LEAST_WIDTH, *(row.width for row in rows))
    facts = [
        f"encoder of {subject.name}",
        f"{len(images):,} images of {images.name}",
        "below each: cosine of its features and the query's",
        *canvas.left_out(images.channels),
    ]
    head = [
        line(f"Nearest neighbours: {subject.title}", width, size=22, bold=True),
        flowing(facts, width, size=14),
    ]
    if any(_differ(each, near) for each in found for near in each.neighbors):
        head.append(line("framed in colour: another class", width, size=14, colour=canvas.ACCENT))
    return stacked([stacked([*head, canvas.rule(width)], 8), *rows], 16)


def _row(found: Found, query: Query, images: Images, side: int) -> Image.Image:
    def cell(picture: Image.Image, frame: str, text: str, label: str) -> Image.Image:
        picture = framed(picture, frame)
        words = [
            line(text, picture.width, bold=True, align="centre"),
            line(label, picture.width, align="centre"),
        ]
        return stacked([picture, stacked(words[: 2 if label else 1], 0)], 3)

    asked = canvas.square(query.images.read(query.row), side)
    cells = [
        cell(
            canvas.square(images.read(near.row), side),
            canvas.ACCENT if _differ(found, near) else canvas.PAPER,
            f"{near.cosine:.3f}",
            near.label,
        )
        for near in found.neighbors
    ]
    first = cell(asked, canvas.INK, "query", found.label)
    pictures = beside([first, beside(cells, 4)], 20)
    name = line(found.path, pictures.width, size=12, colour=canvas.FAINT)
    return stacked([name, pictures], 3)


def _differ(found: Found, near: Neighbor) -> bool:
    return bool(found.label and near.label and found.label != near.label)


def _chosen(images: Images, options: NeighborsOptions) -> list[Query]:
    rows = permutation(options.seed, 0, len(images))[: options.images]
    return [Query(images, row, True) for row in rows.tolist()]


def _features(bench: Bench, queries: Sequence[Query], seen: Seen) -> Tensor:
    """Features of the queries, (n, f): those at hand, and of other files."""
    view = EvaluationView(bench.views)

    def of_one(query: Query) -> Tensor:
        if query.inside:
            return seen.features[query.row, None]
        shown = view.normalised(view.square_of(query.images.picture(query.row)))
        module, precision = bench.module("trained"), bench.precision
        return extract(module, [shown[None]], count=1, device=bench.device, precision=precision)

    return torch.cat([of_one(query) for query in queries])
