"""Batches of images that nvJPEG decodes on the GPU, for machines with few cores per GPU.

A thread of the training process takes the place of worker processes: it reads files and hands them
to nvJPEG through torchvision. What is no ordinary JPEG file (see `Picture`), and whatever nvJPEG
refuses, is decoded and cropped by the processor, as workers do it.
"""

import contextlib
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
from torch import Tensor

from squint.data.ahead import Ahead
from squint.data.images import Images
from squint.data.loader import FileBatch
from squint.data.nvjpeg import decode, first_line
from squint.data.order import Order
from squint.data.pace import Lately, Pace
from squint.data.picture import Picture
from squint.data.quarantine import Bad, Quarantine, allowed
from squint.data.reader import Draw, Item, Reader, Transform
from squint.shapes import Rows

AHEAD = 2
"""Batches that are ready or in the making while one is used."""

READERS = 8
"""Threads that read files; they wait for the disk, or decode what nvJPEG does not take."""

MOST_PIXELS = 1 << 28
"""Of images that lie decoded on the device at once: 0.8 GB in colour."""

Crop = Callable[[Sequence[Tensor], Sequence[Any]], Tensor]
"""From images on the device, (c, h, w) uint8 each, and what `Draw` gave for them, to what the
transform makes of each: (n, ...)."""


class _Made(NamedTuple):
    rows: Rows
    data: Tensor | None
    """None if an image lacks, because too many are unreadable."""
    bads: list[Bad]
    ready: torch.cuda.Event | None
    """Recorded behind all that `data` waits for."""


class NvjpegLoader:
    """Batches of the same images as `FileLoader`'s, of nearly the same pixels.

    Attributes:
        order: Which images each step shows.
        quarantine: The unreadable images this rank has met.
        wait_seconds: How long the training step waited for the last batch.
    """

    def __init__(
        self,
        images: Images,
        transform: Transform,
        *,
        draw: Draw,
        crop: Crop,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str,
        max_unreadable_percent: float = 1.0,
    ) -> None:
        """Batches of `images`; arguments are those of `FileLoader`, and `crop`.

        Args:
            images: The source.
            transform: Makes on the processor what `draw` and `crop` make on the device.
            draw: Draws for the pictures that nvJPEG decodes.
            crop: Takes decoded images and what was drawn for them.
            batch_size: Images per step over all ranks.
            seed: Of the order.
            rank: Of this process.
            world_size: Number of ranks.
            device: Where images are decoded: CUDA, or for tests the CPU.
            max_unreadable_percent: Stop if more of the images can't be read.

        Raises:
            DataError, RecipeError: As `Order` does.
        """
        self.order = Order(
            images=len(images), batch_size=batch_size, seed=seed, rank=rank, world_size=world_size
        )
        self.quarantine = Quarantine(images.name, len(images), max_unreadable_percent)
        self.wait_seconds = 0.0
        patience = allowed(len(images), max_unreadable_percent)
        self._reader = Reader(images, transform, None, patience)
        self._draw, self._crop = draw, crop
        self._channels = images.channels
        self._device = torch.device(device)
        self._stream = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None
        self._pace = Pace()
        self._refused = False

    def lately(self) -> Lately | None:
        """How fast batches came, and how busy this process was; None if too little is known."""
        return self._pace.lately()

    def batches(self, first_step: int = 0) -> Iterator[FileBatch]:
        """The batches of `first_step` and every step after it, without end.

        The thread lives as long as the iterator, across epochs.

        Raises:
            DataError: If too many images can't be read.
        """
        start = time.perf_counter()
        ahead = Ahead(lambda: self._made(first_step), AHEAD)
        with contextlib.closing(ahead):
            for made in ahead:
                self.quarantine.add(made.bads)
                assert made.data is not None, "or the quarantine would be over its limit"
                self._pace.mark()
                self._take_over(made.data, made.ready)
                batch = FileBatch(made.rows, made.data)
                self.wait_seconds = time.perf_counter() - start
                yield batch
                del made, batch  # the memory goes back before the next batch needs some
                start = time.perf_counter()

    def _take_over(self, data: Tensor, ready: torch.cuda.Event | None) -> None:
        """Let the user's stream wait for the batch, and its memory for the user's stream."""
        if ready is not None:
            user = torch.cuda.current_stream(self._device)
            user.wait_event(ready)
            data.record_stream(user)

    def _made(self, first_step: int) -> Generator[_Made, None, None]:
        """What the thread does."""
        steps = self.order.steps(first_step)
        pool = ThreadPoolExecutor(READERS, "squint-read")

        def ask() -> tuple[int, list[int], list[Future[Item | Picture]]]:
            epoch, rows = next(steps)
            wanted = rows.tolist()
            return epoch, wanted, [pool.submit(self._opened, epoch, row) for row in wanted]

        try:
            with (
                contextlib.nullcontext()
                if self._stream is None
                else torch.cuda.stream(self._stream)
            ):
                following = ask()
                while True:
                    epoch, rows, asked = following
                    following = ask()  # files are read while others are decoded
                    start = time.perf_counter()
                    made = self._batch(pool, epoch, rows, [future.result() for future in asked])
                    self._pace.add(len(rows), time.perf_counter() - start, 0.0)
                    yield made
        finally:
            pool.shutdown(cancel_futures=True)

    def _opened(self, epoch: int, row: int) -> Item | Picture:
        found = self._reader.opened(epoch, row)
        if isinstance(found, Picture) and not found.file.rstrip(b"\0").endswith(b"\xff\xd9"):
            return self._reader.read(epoch, row)
        return found

    def _batch(
        self, pool: ThreadPoolExecutor, epoch: int, rows: list[int], found: list[Item | Picture]
    ) -> _Made:
        pictures = {k: picture for k, picture in enumerate(found) if isinstance(picture, Picture)}
        parts = self._cropped(list(pictures.values()), [rows[k] for k in pictures], epoch)
        if parts is None:
            again = pool.map(lambda k: self._reader.read(epoch, rows[k]), pictures)
            found = [next(again) if k in pictures else item for k, item in enumerate(found)]
            pictures, parts = {}, []
        items = {k: item for k, item in enumerate(found) if isinstance(item, Item)}
        stored = [items[k].row if k in items else row for k, row in enumerate(rows)]
        bads = [bad for item in items.values() for bad in item.bads]
        tensors = [item.data for item in items.values() if item.data is not None]
        if len(tensors) < len(items):
            return _Made(torch.tensor(stored), None, bads, None)
        if tensors:
            parts.append(torch.stack(tensors).to(self._device))
        data = parts[0] if len(parts) == 1 else torch.cat(parts)  # (n, ...)
        if pictures and items:
            places = torch.tensor([*pictures, *items]).argsort()
            data = data[places.to(self._device)]
        ready = None if self._stream is None else torch.cuda.Event()
        if ready is not None:
            ready.record(self._stream)
        return _Made(torch.tensor(stored), data, bads, ready)

    def _cropped(self, pictures: list[Picture], rows: list[int], epoch: int) -> list[Tensor] | None:
        """Crops by nvJPEG, in parts of the batch; None if it refuses an image."""
        drawn = self._draw(pictures, rows, epoch) if pictures else ()
        parts: list[Tensor] = []
        for part in _parts(pictures):
            if self._stream is not None:
                # nvJPEG writes on a stream of its own, which does not wait for this one: memory
                # that it gets must not be in use any more
                self._stream.synchronize()
            try:
                images = self._decoded(pictures[part])
            except Exception as error:  # damage within a file, or whatever the library dislikes
                self._say_once(error)
                return None
            parts.append(self._crop(images, drawn[part]))
            del images
        return parts

    def _decoded(self, pictures: list[Picture]) -> list[Tensor]:
        files = [torch.frombuffer(bytearray(p.file), dtype=torch.uint8) for p in pictures]
        images = decode(files, self._channels, self._device)
        for image, picture in zip(images, pictures, strict=True):
            wanted = (self._channels, picture.height, picture.width)
            if image.shape != wanted:
                raise ValueError(f"{tuple(image.shape)} pixels where the header says {wanted}")
        return images

    def _say_once(self, error: Exception) -> None:
        if not self._refused:
            self._refused = True
            warnings.warn(
                f"nvJPEG refused a batch ({first_line(error)}): its images were decoded by the "
                "processor, as any later ones will be. If there are many, which would be slow, "
                "give --train.decode workers.",
                stacklevel=2,
            )


def _parts(pictures: Sequence[Picture]) -> Iterator[slice]:
    """Runs of pictures of up to `MOST_PIXELS` together, or of one."""
    first, pixels = 0, 0
    for k, picture in enumerate(pictures):
        own = picture.height * picture.width
        if k > first and pixels + own > MOST_PIXELS:
            yield slice(first, k)
            first, pixels = k, 0
        pixels += own
    if pictures:
        yield slice(first, len(pictures))
