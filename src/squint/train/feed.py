"""From a source to batches of two views on the training device.

Small images of one size lie decoded in memory and take no workers; files are decoded and
cropped by workers and finished on the device. Both give the same views for the same
(seed, epoch, image).
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from squint import runs
from squint.data import Bad, Images, Packed, check, pack
from squint.data.loader import FileLoader, PackedBatch, PackedLoader
from squint.errors import DataError
from squint.recipe import Recipe
from squint.shapes import Image
from squint.train import waiting
from squint.train.runtime import Runtime, cores
from squint.views import TwoViews


class Batch(NamedTuple):
    """One step's images, twice."""

    views: tuple[Image, Image]
    wait_seconds: float


class Readable(NamedTuple):
    """A source with its unreadable images set aside."""

    images: Images
    """Only those that can be read, as far as is known before training."""
    packed: Packed | None
    """The same, decoded, if they are small."""
    bad: tuple[Bad, ...]


def prepare(images: Images, recipe: Recipe) -> Readable:
    """Look at a source before anything is written: what can be read, and is it enough?

    Raises:
        DataError: too many images are unreadable; fewer images than one batch.
    """
    limit = recipe.data.max_unreadable_percent
    train = images.split("train") if "train" in images.splits else images
    if packed := pack(train, max_unreadable_percent=limit):
        readable = Readable(packed.images, packed, tuple(packed.bad))
    else:
        readable = Readable(train, None, check(train, limit))
    count = len(readable.images)
    if count < recipe.train.batch_size:
        smaller = f", or --batch-size {max(2, count // 4)}" if count > 2 else ""
        raise DataError(
            f"{train.name} has {count:,} readable image{'s' * (count != 1)}, fewer than one batch "
            f"of {recipe.train.batch_size}: no step could be taken. Give more images{smaller}."
        )
    return readable


class Feed:
    """Batches of two views, from any step on; a function of (seed, step) alone.

    Attributes:
        advice: Says why steps wait for their images and what helps; None where they lie in memory.
    """

    advice: Callable[[], str] | None = None

    def __init__(self, readable: Readable, recipe: Recipe, runtime: Runtime) -> None:
        self._views = TwoViews(
            recipe.views,
            seed=recipe.train.seed,
            path=recipe.train.views_path,
            memory_format=runtime.memory_format,
        )
        self._runtime = runtime
        self._bad = readable.bad
        place: dict[str, Any] = {
            "batch_size": recipe.train.batch_size,
            "seed": recipe.train.seed,
            "rank": runtime.rank,
            "world_size": runtime.world_size,
            "device": runtime.device,
        }
        if readable.packed is not None:
            self._loader = PackedLoader(readable.packed.pixels, **place)
        else:
            ranks = int(os.environ.get("LOCAL_WORLD_SIZE", runtime.world_size))
            usable = max(1, cores() // ranks)
            workers = _workers(recipe.train.workers, usable)
            loader = self._loader = FileLoader(
                readable.images,
                self._views.crops_of,
                draw=self._views.boxes,
                workers=workers,
                max_unreadable_percent=recipe.data.max_unreadable_percent,
                **place,
            )
            self.advice = lambda: waiting.advice(loader.lately(), workers, usable)

    def batches(self, first_step: int) -> Iterator[Batch]:
        """The batch of `first_step` and of every step after it, without end."""
        loader = self._loader
        for step, batch in enumerate(loader.batches(first_step), first_step):
            epoch = loader.plan.epoch(step)
            if isinstance(batch, PackedBatch):
                views = self._views(batch.pixels, batch.rows, epoch)
            else:
                views = self._views.finish(batch.data, batch.rows, epoch)
            first, second = map(self._laid_out, views)
            yield Batch((first, second), loader.wait_seconds)

    def write_quarantine(self, path: Path) -> None:
        """Write the images that could not be read so far, if there are any."""
        met = self._loader.quarantine if isinstance(self._loader, FileLoader) else ()
        lines = {f"{bad.path}\t{bad.reason}\n": None for bad in (*self._bad, *met)}
        if lines:
            with runs.replacing(path) as temporary:
                temporary.write_text("".join(lines))

    def _laid_out(self, images: Image) -> Image:
        return images.contiguous(memory_format=self._runtime.memory_format)


def _workers(asked: int | Literal["auto"], usable: int) -> int:
    """Processes that decode, per rank; auto is one for each core it may use, at most 16."""
    return min(16, usable) if asked == "auto" else asked
