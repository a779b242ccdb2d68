"""From a source to batches of two views on the training device.

Small images of one size lie decoded in memory and take no workers; files are decoded and
cropped by workers, or by nvJPEG on request, and finished on the device. All give the same views for
the same (seed, epoch, image), nvJPEG's but for the rounding of its decoder.
"""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from squint import runs
from squint.data import Bad, Images, Packed, check, nvjpeg, pack
from squint.data.loader import FileLoader, PackedBatch, PackedLoader
from squint.data.nvjpeg_loader import NvjpegLoader
from squint.data.quarantine import lines
from squint.errors import DataError, RecipeError
from squint.recipe import Recipe
from squint.shapes import Image
from squint.train import waiting
from squint.train.runtime import Runtime, cores
from squint.views import TwoViews, ragged


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
        fewer = _smaller_batch(recipe, count)
        smaller = f", or --batch-size {fewer}" if fewer else ""
        raise DataError(
            f"{train.name} has {count:,} readable image{'s' * (count != 1)}, fewer than one batch "
            f"of {recipe.train.batch_size}: no step could be taken. Give more images{smaller}."
        )
    return readable


def _smaller_batch(recipe: Recipe, images: int) -> int:
    """A batch size of about a quarter of the images that the recipe may have; 0: there is none."""
    groups, micro = getattr(recipe.method, "norm_groups", 1), recipe.train.micro_batch_size
    unit = micro if isinstance(micro, int) else groups
    least = max(unit, 2 * groups)
    size = max(least, images // 4 // unit * unit)
    return size if size <= images else 0


def check_decode(recipe: Recipe, runtime: Runtime) -> None:
    """Refuse nvJPEG where there is no CUDA, before anything is written.

    Raises:
        RecipeError: the recipe asks for it on another device.
    """
    if recipe.train.decode == "nvjpeg" and runtime.device.type != "cuda":
        raise RecipeError(
            f"train.decode=nvjpeg decodes images on CUDA, and this run is on {runtime.device}. "
            "Give --train.decode workers, or train on a CUDA device."
        )


class Feed:
    """Batches of two views, from any step on; a function of (seed, step) alone.

    Attributes:
        where: Where the images come from, in a few words.
        advice: Says why steps wait for their images and what helps; None where they lie in memory.
    """

    where: str
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
        asked = recipe.train.decode
        if readable.packed is not None:
            self.where = "in memory" + ", not decoded by nvJPEG" * (asked == "nvjpeg")
            self._loader = PackedLoader(readable.packed.pixels, **place)
            return
        place["max_unreadable_percent"] = recipe.data.max_unreadable_percent
        ranks = int(os.environ.get("LOCAL_WORLD_SIZE", runtime.world_size))
        usable = max(1, cores() // ranks)
        images, views = readable.images, self._views
        if asked == "nvjpeg" and not nvjpeg.missing(runtime.device):
            self.where = "decoded by nvJPEG"
            crop = partial(ragged.crops, config=recipe.views)
            decoder = self._loader = NvjpegLoader(
                images, views.crops_of_picture, draw=views.boxes_of_pictures, crop=crop, **place
            )
            self.advice = lambda: waiting.advice_on_nvjpeg(decoder.lately(), usable)
        else:
            self.where = "decoded by workers"
            workers = _workers(recipe.train.workers, usable)
            loader = self._loader = FileLoader(
                images,
                views.crops_of_picture,
                draw=views.boxes_of_pictures,
                workers=workers,
                **place,
            )
            self.advice = lambda: waiting.advice(loader.lately(), workers, usable)

    def batches(self, first_step: int) -> Iterator[Batch]:
        """The batch of `first_step` and of every step after it, without end."""
        loader = self._loader
        for step, batch in enumerate(loader.batches(first_step), first_step):
            epoch = loader.order.epoch(step)
            if isinstance(batch, PackedBatch):
                views = self._views(batch.pixels, batch.rows, epoch)
            else:
                views = self._views.finish(batch.data, batch.rows, epoch)
            first, second = map(self._laid_out, views)
            yield Batch((first, second), loader.wait_seconds)

    def write_quarantine(self, path: Path) -> None:
        """Write the images that could not be read, if there are any, after those of the file."""
        met = () if isinstance(self._loader, PackedLoader) else self._loader.quarantine
        if bads := (*self._bad, *met):
            before = path.read_text(encoding="utf-8") if path.exists() else ""
            every = dict.fromkeys((before + lines(bads)).splitlines(keepends=True))
            with runs.replacing(path) as temporary:
                temporary.write_text("".join(every), encoding="utf-8")

    def _laid_out(self, images: Image) -> Image:
        return images.contiguous(memory_format=self._runtime.memory_format)


def _workers(asked: int | Literal["auto"], usable: int) -> int:
    """Processes that decode, per rank; auto is one for each core it may use, at most 16."""
    return min(16, usable) if asked == "auto" else asked
