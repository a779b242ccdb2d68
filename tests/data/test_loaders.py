import copy
import itertools
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import pixels, write_tree
from PIL import Image
from torch import Tensor

from squint.data import Bad, Images, Order, Unreadable, open_source, permutation
from squint.data.loader import FileLoader, PackedLoader
from squint.data.picture import Picture
from squint.data.reader import Draw, Reader, stand_ins
from squint.errors import DataError, RecipeError
from squint.native import jpeg
from squint.views import TwoViews
from squint.views.recipes import ViewsConfig
from squint.views.two_views import Boxes

# Python 3.12 warns of every fork of a process with threads; the workers use none of them.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def transform(picture: Picture, index: int, epoch: int) -> Tensor:
    """The pixels in a row; then the image's number, the epoch and the process."""
    pixels = torch.from_numpy(picture.window(0, 0, picture.height, picture.width).copy())
    return torch.cat([pixels.flatten().long(), torch.tensor([index, epoch, os.getpid()])])


def images_of(data: Tensor) -> Tensor:
    return data[:, :-3].view(-1, 12, 12, 3)


def seen_of(data: Tensor) -> Tensor:
    return data[:, -3:]


def take(batches: Iterator, count: int) -> list:
    """So many batches, copied: the loader writes the next ones over them."""
    return [copy.deepcopy(batch) for batch in itertools.islice(batches, count)]


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return open_source(write_tree(tmp_path / "photos", [f"{k:02d}.png" for k in range(10)]))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**40), st.integers(0, 10_000), st.integers(1, 300))
def test_order_is_a_permutation_and_pure(seed: int, epoch: int, count: int) -> None:
    found = permutation(seed, epoch, count)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(np.sort(found), np.arange(count))
    np.testing.assert_array_equal(found, permutation(seed, epoch, count))


def test_the_order_never_changes() -> None:
    """Recorded once; another order is another run under the same seed."""
    assert permutation(0, 0, 10).tolist() == [3, 2, 1, 8, 6, 0, 7, 4, 5, 9]
    assert (
        permutation(1, 0, 10).tolist()
        != permutation(0, 1, 10).tolist()
        != permutation(0, 0, 10).tolist()
    )


def test_the_order_is_uniform_over_first_places() -> None:
    firsts = np.bincount([permutation(0, epoch, 4)[0] for epoch in range(2_000)], minlength=4)
    assert np.abs(firsts - 500).max() < 100


@settings(deadline=None, max_examples=50)
@given(
    st.integers(1, 60), st.integers(1, 4), st.integers(1, 4), st.integers(0, 20), st.integers(0, 9)
)
def test_ranks_share_the_batches_of_one_process(
    images: int, share: int, ranks: int, first_step: int, seed: int
) -> None:
    batch_size = share * ranks
    images += batch_size
    alone = Order(images=images, batch_size=batch_size, seed=seed)
    together = [
        Order(images=images, batch_size=batch_size, seed=seed, rank=rank, world_size=ranks)
        for rank in range(ranks)
    ]
    expected = take(alone.steps(first_step), 5)
    parts = zip(*(take(order.steps(first_step), 5) for order in together), strict=True)
    for step, ((epoch, rows), each) in enumerate(zip(expected, parts, strict=True), first_step):
        assert epoch == alone.epoch(step) == step // (images // batch_size)
        np.testing.assert_array_equal(rows, np.concatenate([part for _, part in each]))


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 40), st.integers(1, 10), st.integers(0, 25))
def test_starting_later_gives_what_would_have_come(
    images: int, batch_size: int, first_step: int
) -> None:
    order = Order(images=images + batch_size, batch_size=batch_size, seed=3)
    whole = take(order.steps(), first_step + 4)[first_step:]
    for (epoch, rows), (later_epoch, later) in zip(whole, order.steps(first_step), strict=False):
        assert epoch == later_epoch
        np.testing.assert_array_equal(rows, later)


def test_an_epoch_shows_no_image_twice() -> None:
    order = Order(images=10, batch_size=3, seed=0)
    rows = np.concatenate([rows for _, rows in take(order.steps(), order.steps_per_epoch)])
    assert len(rows) == len(set(rows.tolist())) == 9


def test_batches_that_cannot_be_are_refused() -> None:
    with pytest.raises(
        DataError, match=r"batch_size=11 .* 10 readable .* Lower --batch-size to 10"
    ):
        Order(images=10, batch_size=11, seed=0)
    with pytest.raises(RecipeError, match=r"batch_size=7 can't be split over 2 .* Choose 8"):
        Order(images=10, batch_size=7, seed=0, world_size=2)
    with pytest.raises(RecipeError, match="batch_size=0"):
        Order(images=10, batch_size=0, seed=0)


def test_packed_batches_are_the_rows_they_name() -> None:
    stored = np.stack([pixels(k) for k in range(10)])
    loader = PackedLoader(stored, batch_size=4, seed=1)
    assert loader.order.steps_per_epoch == 2
    for rows, batch in take(loader.batches(), 5):
        assert batch.shape == (4, 3, 12, 12) and batch.dtype == torch.uint8
        assert rows.dtype == torch.int64
        np.testing.assert_array_equal(batch.permute(0, 2, 3, 1), stored[rows.numpy()])
        assert loader.wait_seconds > 0


def test_packed_batches_resume_and_split_by_rank() -> None:
    stored = np.stack([pixels(k) for k in range(11)])
    whole = take(PackedLoader(stored, batch_size=4, seed=1).batches(), 7)
    for rank in range(2):
        loader = PackedLoader(stored, batch_size=4, seed=1, rank=rank, world_size=2)
        for batch, expected in zip(take(loader.batches(3), 4), whole[3:], strict=True):
            part = slice(2 * rank, 2 * rank + 2)
            assert torch.equal(batch.rows, expected.rows[part])
            assert torch.equal(batch.pixels, expected.pixels[part])


def file_batches(images: Images, workers: int, first_step: int = 0, count: int = 7) -> list:
    loader = FileLoader(images, transform, batch_size=4, seed=1, workers=workers)
    batches = loader.batches(first_step)
    found = take(batches, count)
    assert loader.wait_seconds > 0
    return found


def test_files_are_read_transformed_and_collated(images: Images) -> None:
    (rows, data), *_ = file_batches(images, workers=0)
    assert images_of(data).shape == (4, 12, 12, 3)
    for k, row in enumerate(rows.tolist()):
        np.testing.assert_array_equal(images_of(data)[k], pixels(row))
        assert seen_of(data)[k, :2].tolist() == [row, 0]


def test_batches_do_not_depend_on_workers_and_workers_outlive_epochs(images: Images) -> None:
    alone, two = file_batches(images, workers=0), file_batches(images, workers=2)
    for one, other in zip(alone, two, strict=True):
        assert torch.equal(one.rows, other.rows)
        assert torch.equal(one.data[:, :-1], other.data[:, :-1])
    processes = {pid for batch in two for pid in seen_of(batch.data)[:, 2].tolist()}
    assert 1 <= len(processes) <= 2 and os.getpid() not in processes
    epochs = [int(seen_of(batch.data)[0, 1]) for batch in two]
    assert epochs == [0, 0, 1, 1, 2, 2, 3]


@pytest.mark.parametrize("workers", [0, 1])
def test_file_batches_resume_in_the_middle_of_an_epoch(images: Images, workers: int) -> None:
    whole = file_batches(images, workers=0)
    resumed = file_batches(images, workers=workers, first_step=3, count=4)
    for one, other in zip(whole[3:], resumed, strict=True):
        assert torch.equal(one.rows, other.rows)
        assert torch.equal(images_of(one.data), images_of(other.data))


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_are_replaced_and_recorded(
    images: Images, tmp_path: Path, workers: int
) -> None:
    for name in ("03", "04", "09"):
        (tmp_path / "photos" / f"{name}.png").write_bytes(b"")
    loader = FileLoader(
        images, transform, batch_size=5, seed=0, workers=workers, max_unreadable_percent=30.0
    )
    bad = {3, 4, 9}
    for step, (rows, data) in enumerate(take(loader.batches(), 4)):
        epoch, first = step // 2, 5 * (step % 2)
        for wanted, row in zip(
            permutation(0, epoch, 10)[first : first + 5].tolist(), rows, strict=True
        ):
            others = chain((wanted,), stand_ins(epoch, wanted, 10))
            assert int(row) == next(each for each in others if each not in bad)
        np.testing.assert_array_equal(images_of(data)[0], pixels(int(rows[0])))
    assert set(loader.quarantine) == {
        Bad(f"{name}.png", "the file is empty") for name in ("03", "04", "09")
    }


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 300), st.data())
def test_stand_ins_are_all_others_once(epoch: int, count: int, data: st.DataObject) -> None:
    wanted = data.draw(st.integers(0, count - 1))
    found = list(stand_ins(epoch, wanted, count))
    assert sorted([*found, wanted]) == list(range(count))
    assert found == list(stand_ins(epoch, wanted, count))


def test_the_stand_ins_never_change() -> None:
    assert list(stand_ins(3, 7, 10)) == [3, 0, 4, 1, 8, 5, 2, 9, 6]


def test_a_lost_folder_is_replaced_by_many_images(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, opened = range(300, 340), []

    def fetch(store: object, row: int) -> np.ndarray:
        opened.append(row)
        if row in lost:
            raise Unreadable("file not found")
        return pixels(row)

    monkeypatch.setattr(type(images.store), "fetch", fetch)
    many = replace(images, paths=tuple(map(str, range(1000))), rows=np.arange(1000))
    reader = Reader(many, transform, None, patience=40)
    found = [reader.read(0, row).row for row in lost]
    assert max(Counter(found).values()) <= 3
    assert sum(row in lost for row in opened) < 2 * len(lost)
    assert found != [reader.read(1, row).row for row in lost]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("percent", [10.0, 100.0])
def test_too_many_unreadable_images_stop_with_the_plain_error(
    images: Images, tmp_path: Path, workers: int, percent: float
) -> None:
    for path in (tmp_path / "photos").iterdir():
        path.write_bytes(b"")
    loader = FileLoader(
        images, transform, batch_size=4, seed=0, workers=workers, max_unreadable_percent=percent
    )
    with pytest.raises(DataError, match=r"of 10 images in .* can't be read") as caught:
        next(loader.batches())
    assert "Traceback" not in str(caught.value)


@pytest.fixture
def mixed(tmp_path: Path) -> Images:
    """Files decoded in parts and whole, of many sizes; some damaged, in the header or behind it."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for k in range(24):
        image = Image.fromarray(pixels(k, 30 + 3 * k, 90 - 2 * k))
        image.save(folder / f"{k:02d}.{'png' if k % 4 == 1 else 'jpeg'}")
    for name in ("05.png", "08.jpeg"):
        (folder / name).write_bytes(b"")
    for name in ("10.jpeg", "11.jpeg", "23.jpeg"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
    return open_source(folder)


@pytest.mark.parametrize("workers", [0, 2])
def test_drawing_for_many_images_at_once_changes_nothing(
    mixed: Images, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squint.data.reader.CHUNK", 5)
    views = TwoViews(ViewsConfig(size=16), seed=2)
    drawn_for: list[int] = []

    def draw(pictures: Sequence[Picture], rows: Sequence[int], epoch: int) -> Sequence[Boxes]:
        assert not any(picture.whole for picture in pictures)
        drawn_for.append(len(pictures))
        return views.boxes_of_pictures(pictures, rows, epoch)

    def batches(draw: Draw | None) -> tuple[list, set[Bad]]:
        loader = FileLoader(
            mixed, views.crops_of_picture, draw=draw, batch_size=12, seed=1, workers=workers,
            max_unreadable_percent=30.0,
        )  # fmt: skip
        return take(loader.batches(), 4), set(loader.quarantine)

    (alone, bads), (together, same_bads) = batches(None), batches(draw)
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one.rows, other.rows) and torch.equal(one.data, other.data)
    assert bads == same_bads and len(bads) == 5
    if workers == 0:  # in workers it is counted elsewhere
        assert len(drawn_for) == 4 * 3 and max(drawn_for) <= 5
        assert sum(drawn_for) > 0 or jpeg.library() is None


def _train_until_interrupted(images: Images, folder: Path, patient: bool) -> None:
    os.setsid()
    os.dup2(os.open(folder / "complained", os.O_WRONLY | os.O_CREAT), 2)
    interrupts: list[int] = []
    signal.signal(signal.SIGINT, signal.default_int_handler)
    batches = FileLoader(images, transform, batch_size=2, seed=0, workers=2).batches()
    try:
        for _ in batches:
            if patient:  # from here on, that is: workers do not inherit it
                signal.signal(signal.SIGINT, lambda *_: interrupts.append(1))
            (folder / "began").touch()
            if interrupts:
                take(batches, 20)  # more than was prepared ahead
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        (folder / "stopped").touch()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a process group of its own")
@pytest.mark.parametrize("patient", [False, True])
def test_ctrl_c_is_for_the_main_process_alone(
    images: Images, tmp_path: Path, patient: bool
) -> None:
    """No worker prints a traceback, or dies under a main process that first ends its step."""
    process = multiprocessing.get_context("fork").Process(
        target=_train_until_interrupted, args=(images, tmp_path, patient)
    )
    process.start()
    while not (tmp_path / "began").exists():
        assert process.is_alive()
        time.sleep(0.05)
    time.sleep(0.2)
    assert process.pid is not None
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to everyone
    process.join(timeout=60)
    assert (tmp_path / "complained").read_text() == ""
    assert (tmp_path / "stopped").exists() and process.exitcode == 0
