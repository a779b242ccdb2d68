"""Batches decoded by nvJPEG: the thread and its fallbacks, with libjpeg in the decoder's place."""

import copy
import itertools
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from squint.data import Images, nvjpeg, nvjpeg_loader, open_source
from squint.data.ahead import Ahead
from squint.data.decode import Raw
from squint.data.images import Store
from squint.data.loader import FileBatch, FileLoader
from squint.data.nvjpeg_loader import NvjpegLoader
from squint.errors import DataError
from squint.native import jpeg
from squint.views import TwoViews, crop_triton, ragged
from squint.views.recipes import ViewsConfig

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*TorchCodec:DeprecationWarning"),
    pytest.mark.skipif(jpeg.library() is None, reason="the decoder of windows was not built"),
]

VIEWS = ViewsConfig(size=16)
TURNED = 6
"""An EXIF orientation."""


def smooth(seed: int, height: int, width: int) -> Image.Image:
    """A picture without edges, of which decoders make nearly the same."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def images(tmp_path: Path) -> Images:
    """Ordinary files, and each kind that nvJPEG must not see; two can't be read."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(20):
        image = smooth(k, 30 + 3 * k, 90 - 2 * k)
        path = folder / f"{k:02d}.{'png' if k in (3, 5) else 'jpeg'}"
        exif = Image.Exif()
        if k == 7:
            exif[0x0112] = TURNED
        (image.convert("L") if k == 9 else image).save(path, exif=exif)
    for name in ("05.png", "08.jpeg"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
    with (folder / "11.jpeg").open("ab") as file:
        file.write(b"after the end")
    with (folder / "12.jpeg").open("ab") as file:
        file.write(bytes(7))
    return open_source(folder)


def loader(images: Images, **more: object) -> NvjpegLoader:
    views = TwoViews(VIEWS, seed=2)
    return NvjpegLoader(
        images, views.crops_of_picture, draw=views.boxes_of_pictures,
        crop=partial(ragged.crops, config=VIEWS),
        **{"batch_size": 8, "seed": 1, "device": "cpu", "max_unreadable_percent": 15.0} | more,
    )  # fmt: skip


def by_workers(images: Images, **more: object) -> FileLoader:
    views = TwoViews(VIEWS, seed=2)
    return FileLoader(
        images, views.crops_of_picture, draw=views.boxes_of_pictures, workers=0,
        **{"batch_size": 8, "seed": 1, "max_unreadable_percent": 15.0} | more,
    )  # fmt: skip


def take(batches: Iterator[FileBatch], count: int) -> list[FileBatch]:
    found = [copy.deepcopy(batch) for batch in itertools.islice(batches, count)]
    batches.close()  # pyright: ignore[reportAttributeAccessIssue]
    return found


def threads_alive() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("squint-")]


def assert_alike(ours: list[FileBatch], theirs: list[FileBatch]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one.rows, other.rows)
        assert one.data.shape == other.data.shape and one.data.dtype == torch.uint8
        far = (one.data.int() - other.data.int()).abs()
        assert far.max() <= 1 and far.float().mean() < 0.02


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the images that the decoder made."""
    shapes: list[tuple[int, ...]] = []

    def decode(files: list[Tensor], channels: int, device: torch.device) -> list[Tensor]:
        images = nvjpeg.decode(files, channels, device)
        shapes.extend(tuple(image.shape) for image in images)
        return images

    monkeypatch.setattr(nvjpeg_loader, "decode", decode)
    return shapes


def test_rows_crops_and_quarantine_are_those_of_workers(
    images: Images, decoded: list[tuple[int, ...]]
) -> None:
    ours, theirs = loader(images), by_workers(images)
    assert ours.order.steps_per_epoch == theirs.order.steps_per_epoch == 2
    assert_alike(take(ours.batches(), 6), take(theirs.batches(), 6))
    assert {bad.path for bad in ours.quarantine} == {"05.png", "08.jpeg"}
    assert set(ours.quarantine) == set(theirs.quarantine)
    lately = ours.lately()
    assert lately is not None and lately.images_per_second > 0 and ours.wait_seconds > 0
    heights = {height for _, height, _ in decoded}
    ordinary = {k for k in range(20) if k not in (3, 5, 7, 8, 11)}
    assert heights == {30 + 3 * k for k in ordinary}
    assert not threads_alive()


def test_batches_start_at_any_step_and_split_by_rank(images: Images) -> None:
    whole = take(loader(images).batches(), 7)
    later = take(loader(images).batches(3), 4)
    for one, other in zip(later, whole[3:], strict=True):
        assert torch.equal(one.rows, other.rows) and torch.equal(one.data, other.data)
    for rank in range(2):
        part = take(loader(images, rank=rank, world_size=2).batches(1), 2)
        for one, other in zip(part, whole[1:], strict=False):
            assert torch.equal(one.rows, other.rows[4 * rank : 4 * rank + 4])
            assert torch.equal(one.data, other.data[4 * rank : 4 * rank + 4])


def test_grey_recipes_give_one_channel(images: Images) -> None:
    grey = replace(images, channels=1)
    (batch,) = take(loader(grey, batch_size=20).batches(), 1)
    assert batch.data.shape == (20, 2, 1, 16, 16)
    assert_alike([batch], take(by_workers(grey, batch_size=20).batches(), 1))


def test_large_images_are_decoded_in_parts(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = take(loader(images).batches(), 2)
    monkeypatch.setattr(nvjpeg_loader, "MOST_PIXELS", 5000)
    for one, other in zip(take(loader(images).batches(), 2), whole, strict=True):
        assert torch.equal(one.rows, other.rows) and torch.equal(one.data, other.data)


@pytest.mark.parametrize("fault", ["raises", "shape"])
def test_what_the_decoder_refuses_the_processor_decodes(
    images: Images, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(files: list[Tensor], channels: int, device: torch.device) -> list[Tensor]:
        if fault == "raises":
            raise RuntimeError("no such thing\nand more")
        return [image[:, 1:] for image in nvjpeg.decode(files, channels, device)]

    monkeypatch.setattr(nvjpeg_loader, "decode", decode)
    ours = loader(images)
    with pytest.warns(UserWarning, match=r"nvJPEG refused a batch .*--train.decode work") as said:
        found = take(ours.batches(), 4)
    assert sum("nvJPEG refused" in str(warning.message) for warning in said) == 1
    for one, other in zip(found, take(by_workers(images).batches(), 4), strict=True):
        assert torch.equal(one.rows, other.rows) and torch.equal(one.data, other.data)
    assert len(ours.quarantine) == 2


def test_too_many_unreadable_images_stop_with_the_plain_error(images: Images) -> None:
    for path in images.paths:
        Path(images.name, path).write_bytes(b"")
    with pytest.raises(DataError, match=r"of 20 images in .* can't be read"):
        next(loader(images).batches())
    assert not threads_alive()


@dataclass(frozen=True)
class Faulty(Store):
    """Breaks down at one image."""

    inner: Store

    def fetch(self, row: int) -> Raw:
        if row == 4:
            raise ZeroDivisionError("the store broke down")
        return self.inner.fetch(row)

    def stamp(self) -> str:
        return "faulty"


def test_an_error_of_the_source_keeps_its_type(images: Images) -> None:
    faulty = replace(images, store=Faulty(images.store))
    with pytest.raises(ZeroDivisionError, match="broke down"):
        take(loader(faulty).batches(), 3)
    assert not threads_alive()


def test_closing_early_ends_the_thread_at_once(images: Images) -> None:
    batches = loader(images).batches()
    next(batches)
    assert threads_alive()
    start = time.monotonic()
    batches.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert not threads_alive() and time.monotonic() - start < 2


def test_no_more_is_made_than_was_said() -> None:
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for k in range(20):
            made.append(k)
            yield k

    ahead = Ahead(numbers, 2)
    for k in ahead:
        time.sleep(0.02)
        assert len(made) <= k + 1 + 2
        if k == 4:
            break
    ahead.close()
    assert len(made) < 9
    assert list(Ahead(numbers, 2)) == list(range(20))


def test_a_process_ends_although_nobody_closed_its_loader() -> None:
    """Also if what the thread does takes for ever, and Ctrl-C comes while it is waited for."""
    code = (
        "import signal, threading, time\n"
        "from squint.data import ahead\n"
        "ahead._PATIENCE_S = 0.2\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # shells switch it off
        "def numbers():\n"
        "    yield 0\n"
        "    time.sleep(3600)\n"
        "it = iter(ahead.Ahead(numbers, 2))\n"
        "print(next(it), flush=True)\n"
        "threading.Timer(0.3, signal.raise_signal, (signal.SIGINT,)).start()\n"
        "next(it)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "0\n" and "KeyboardInterrupt" in done.stderr


@pytest.mark.parametrize("fault", ["raises", "pixels", "none"])
def test_a_decoder_is_tried_once_before_it_is_used(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = nvjpeg.decode

    def decode(files: list[Tensor], channels: int, device: torch.device) -> list[Tensor]:
        if fault == "raises":
            raise RuntimeError("not compiled with CUDA")
        images = right(files, channels, device)
        return [image.flip(1) for image in images] if fault == "pixels" else images

    monkeypatch.setattr(nvjpeg, "decode", decode)
    nvjpeg.missing.cache_clear()
    device = torch.device("cpu")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        reason = nvjpeg.missing(device)
        assert nvjpeg.missing(device) == reason
    nvjpeg.missing.cache_clear()
    assert bool(reason) == (fault != "none") == (len(said) == 1)
    if said:
        assert "nvJPEG does not run here" in str(said[0].message) and reason in str(said[0].message)


@pytest.mark.gpu
def test_nvjpeg_gives_the_workers_rows_and_nearly_their_crops(images: Images) -> None:
    device = torch.device("cuda", 0)
    assert not nvjpeg.missing(device) and not crop_triton.missing(device)
    ours, theirs = loader(images, device=device), by_workers(images)
    for one, other in zip(take(ours.batches(), 6), take(theirs.batches(), 6), strict=True):
        assert torch.equal(one.rows, other.rows) and one.data.is_cuda
        far = (one.data.cpu().int() - other.data.int()).abs().float()
        assert far.mean() < 1
    assert set(ours.quarantine) == set(theirs.quarantine) and not threads_alive()
