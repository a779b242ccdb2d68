"""From a source to batches of two views on the training device.

Small images of one size lie decoded in memory and take no workers; files are decoded and
cropped by workers and finished on the device. Both give the same views for the same
(seed, epoch, image).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

from squint import runs
from squint.data import Bad, Images, Packed, check, pack
from squint.data.loader import PackedLoader
from squint.errors import DataError
from squint.recipe import Recipe
from squint.shapes import Image
from squint.train.runtime import Runtime
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
        raise DataError(
            f"{train.name} has {count:,} readable images, fewer than one batch of "
            f"{recipe.train.batch_size}: no step could be taken. Give more images, or "
            f"--batch-size {max(2, count // 4)}."
        )
    return readable


class Feed:
    """Batches of two views, from any step on; a function of (seed, step) alone."""

    def __init__(self, readable: Readable, recipe: Recipe, runtime: Runtime) -> None:
        train = recipe.train
        self._views = TwoViews(recipe.views, seed=train.seed)
        self._steps_per_epoch = recipe.steps_per_epoch(len(readable.images))
        self._bad = readable.bad
        self._runtime = runtime
        self._loader = PackedLoader(
            readable.packed.pixels,
            batch_size=train.batch_size,
            seed=train.seed,
            rank=runtime.rank,
            world_size=runtime.world_size,
            device=runtime.device,
        )

    def batches(self, first_step: int) -> Iterator[Batch]:
        """The batch of `first_step` and of every step after it, without end."""
        for step, (index, pixels) in enumerate(self._loader.batches(first_step), first_step):
            first, second = self._views(pixels, index, step // self._steps_per_epoch)
            yield Batch((self._laid_out(first), self._laid_out(second)), self._loader.wait_seconds)

    def write_quarantine(self, path: Path) -> None:
        """Write the images that could not be read, if there are any."""
        if self._bad:
            with runs.replacing(path) as temporary:
                temporary.write_text("".join(f"{bad.path}\t{bad.reason}\n" for bad in self._bad))

    def _laid_out(self, images: Image) -> Image:
        return images.contiguous(memory_format=self._runtime.memory_format)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the workers."""
