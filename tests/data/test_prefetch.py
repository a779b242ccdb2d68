"""Workers, the memory they share with the training process, and how far ahead they read."""

import contextlib
import errno
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_files import write_tree
from torch import Tensor

from squint.data import Images, Order, open_source
from squint.data.crew import Crew
from squint.data.loader import FileLoader
from squint.data.pace import Pace
from squint.data.picture import Picture
from squint.data.prefetch import CALM, Depth, Prefetch
from squint.data.reader import Reader
from squint.data.ring import Layout, Ring
from squint.errors import RunError
from squint.views import TwoViews
from squint.views.recipes import ViewsConfig

pytestmark = [
    # Python 3.12 warns of every fork of a process with threads; the workers use none of them.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="tests send signals and look into /proc"),
]

COUNT = 12


def transform(picture: Picture, index: int, epoch: int) -> Tensor:
    return torch.tensor([index, epoch, os.getpid(), picture.height])


def uneven(picture: Picture, index: int, epoch: int) -> Tensor:
    """Takes so long that parts of batches are done in any order."""
    time.sleep(0.03 if index % 3 == 0 else 0.0)
    return torch.tensor([index, epoch])


def broken(picture: Picture, index: int, epoch: int) -> Tensor:
    if index == 7:
        raise LookupError("image 7 has no place")
    return torch.tensor([index])


def uneven_shapes(picture: Picture, index: int, epoch: int) -> Tensor:
    return torch.zeros(1 if index == 7 else 2)


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return open_source(write_tree(tmp_path / "photos", [f"{k:02d}.png" for k in range(COUNT)]))


def loader(images: Images, made_by: Callable[..., Tensor] = transform, **more: Any) -> FileLoader:
    return FileLoader(images, made_by, **{"batch_size": 4, "seed": 1, "workers": 2} | more)


def taken(batches: Iterator, count: int) -> list[tuple[list, list]]:
    return [(b.rows.tolist(), b.data.tolist()) for b in itertools.islice(batches, count)]


def process_of(batch: Any) -> int:
    return int(batch.data[0, 2])


def workers_alive() -> int:
    """Loader workers alone: other tests may keep processes."""
    return sum(process.name.startswith("loader") for process in multiprocessing.active_children())


def names_in(folder: str) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def descriptors() -> int:
    return len(names_in("/proc/self/fd"))


def test_batches_come_in_order_whoever_is_done_first(images: Images) -> None:
    alone = taken(loader(images, uneven, workers=0).batches(), 9)
    for workers in (1, 3):
        assert taken(loader(images, uneven, workers=workers).batches(), 9) == alone
    assert taken(loader(images, uneven, workers=3).batches(5), 4) == alone[5:]


def test_nothing_is_left_of_a_loader(images: Images) -> None:
    before, shared = descriptors(), names_in("/dev/shm")
    batches = loader(images).batches()
    next(batches)
    assert workers_alive() == 2
    del batches
    assert not workers_alive()
    assert descriptors() == before and names_in("/dev/shm") == shared


class Marks:
    """Work that leaves a file when it begins; the last task waits to be let go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, task: int) -> int:
        (self.folder / str(task)).touch()
        while task == 5 and not (self.folder / "go").exists():
            time.sleep(0.01)
        return task**2


def test_all_answers_are_taken_at_once(tmp_path: Path) -> None:
    crew = Crew(Marks(tmp_path), 1)
    for task in range(6):
        crew.give(task)
    while not (tmp_path / "5").exists():
        time.sleep(0.01)
    assert [a.value for a in crew.answers(patient=False)] == [0, 1, 4, 9, 16]
    assert crew.answers(patient=False) == []
    (tmp_path / "go").touch()
    assert [(a.task, a.value) for a in crew.answers(patient=True)] == [(5, 25)]
    crew.close()


def squared(task: int) -> int:
    return task**2


def killed(task: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_tasks_do_not_wait_for_answers_to_be_taken() -> None:
    crew = Crew(squared, 1)
    giving = threading.Thread(target=lambda: [crew.give(k) for k in range(20_000)], daemon=True)
    giving.start()
    giving.join(60)
    assert not giving.is_alive(), "20,000 tasks and nobody takes an answer"
    found: list[int] = []
    while len(found) < 20_000:
        found += [answer.value for answer in crew.answers(patient=True)]
    assert found == [k**2 for k in range(20_000)]
    crew.close()


def test_a_task_for_dead_workers_ends_with_the_plain_error_too() -> None:
    crew = Crew(killed, 1)
    crew.give(0)
    _wait_until(lambda: not workers_alive())
    crew.give(1)
    with pytest.raises(RunError, match=r"worker was killed by SIGKILL"):
        crew.answers(patient=True)
    crew.close()


def test_a_killed_worker_ends_the_run_with_a_plain_error(images: Images) -> None:
    batches = loader(images).batches()
    os.kill(process_of(next(batches)), signal.SIGKILL)
    with pytest.raises(RunError, match=r"worker was killed by SIGKILL.* squint resume, with fewer"):
        taken(batches, 100)
    assert not workers_alive()


def test_signals_to_a_whole_job_do_not_reach_workers(images: Images) -> None:
    batches = loader(images, workers=1).batches()
    worker = process_of(next(batches))
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(worker, number)
    taken(batches, 10)
    assert process_of(next(batches)) == worker


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_a_transform_keeps_its_type_and_place(images: Images, workers: int) -> None:
    with pytest.raises(LookupError, match="image 7 has no place") as caught:
        taken(loader(images, broken, workers=workers).batches(), 3)
    if workers:
        assert "in broken" in "".join(caught.value.__notes__)
    assert not workers_alive()


@pytest.mark.parametrize("workers", [0, 2])
def test_tensors_of_other_shapes_are_refused(images: Images, workers: int) -> None:
    with pytest.raises(ValueError, match=r"all of a batch must be alike"):
        taken(loader(images, uneven_shapes, workers=workers).batches(), 3)


def _check_that_workers_end_with(code: str) -> None:
    """Kill a process that prints the numbers of its two workers."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as main:
        assert main.stdout is not None
        workers = [int(pid) for pid in main.stdout.readline().split()]
        main.kill()
    assert len(workers) == 2
    _wait_until(lambda: not any(map(_lives, workers)))


def test_workers_end_when_their_main_process_is_killed(tmp_path: Path) -> None:
    write_tree(tmp_path / "photos", [f"{k:02d}.png" for k in range(COUNT)])
    code = f"""
        import time, sys, multiprocessing
        from squint.data import open_source
        from squint.data.loader import FileLoader
        from squint.views import TwoViews
        from squint.views.recipes import ViewsConfig
        views = TwoViews(ViewsConfig(size=8), seed=0)
        images = open_source({str(tmp_path / "photos")!r})
        crops = views.crops_of_picture
        batches = FileLoader(images, crops, batch_size=4, seed=0, workers=2).batches()
        next(batches)
        print(*(p.pid for p in multiprocessing.active_children()), flush=True)
        time.sleep(60)
    """
    _check_that_workers_end_with(code)


def test_workers_end_whose_answers_nobody_takes() -> None:
    code = """
        import multiprocessing, time
        from squint.data.crew import Crew
        crew = Crew(bytes, 2)
        for _ in range(2):
            crew.give(1 << 20)  # more than a line holds
        time.sleep(1)
        print(*(p.pid for p in multiprocessing.active_children()), flush=True)
        time.sleep(60)
    """
    _check_that_workers_end_with(code)


def _wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _lives(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def test_workers_need_not_be_forked(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    views = TwoViews(ViewsConfig(size=8), seed=0)
    forked = taken(
        loader(images, views.crops_of_picture, draw=views.boxes_of_pictures).batches(), 4
    )
    spawning = multiprocessing.get_context("spawn")
    monkeypatch.setattr(multiprocessing, "get_context", lambda: spawning)
    spawned = loader(images, views.crops_of_picture, draw=views.boxes_of_pictures, workers=1)
    assert taken(spawned.batches(), 4) == forked


def test_memory_need_not_come_from_linux(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = [data for _, data in taken(loader(images, uneven, workers=0).batches(), 5)]
    shared = names_in("/dev/shm")
    monkeypatch.delattr(os, "memfd_create")
    batches = loader(images, uneven).batches()
    assert [data for _, data in taken(batches, 5)] == alone
    assert names_in("/dev/shm") == shared  # already: it has lost its name


def no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_without_room_images_are_read_between_steps(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = taken(loader(images, uneven, workers=0).batches(), 5)
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.warns(UserWarning, match=r"No loader workers \(No space left on device\)"):
        assert taken(loader(images, uneven).batches(), 5) == alone
    assert not workers_alive()


def prefetched(images: Images) -> Prefetch:
    reader = Reader(images, uneven, None, 0)
    order = Order(images=len(images), batch_size=4, seed=1)
    return Prefetch(reader, order, 0, Layout(4, (2,), torch.int64), workers=1)


@pytest.mark.parametrize("room", [True, False])
def test_depth_changes_no_batch_and_gives_way_to_memory(
    images: Images, room: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = taken(loader(images, uneven, workers=0).batches(), 12)
    with contextlib.closing(prefetched(images)) as ahead:
        batches, found = iter(ahead), []
        if not room:
            monkeypatch.setattr(os, "posix_fallocate", no_room)
        for depth in (2, 5, 5, 5, 5, 5, 5, 2, 2, 2, 2, 2):
            ahead.depth.ahead = min(depth, ahead.depth.most)
            batch, _ = next(batches)
            found.append((batch.rows.tolist(), batch.data.tolist()))
        assert ahead.depth.most == (16 if room else 2)
    assert found == expected


def asked(depth: Depth, *readies: int) -> list[int]:
    """Depths after steps that found so many batches ready, out of all that were read ahead."""
    found = []
    for ready in readies:
        depth.step(ready, depth.ahead)
        found.append(depth.ahead)
    return found


def test_depth_grows_where_steps_wait_although_workers_had_stopped() -> None:
    assert asked(Depth(16), 0, 0, 1, 0, 1, 0) == [2] * 6  # too slow on average
    assert asked(Depth(16), 2, 1, 0, 0, 1, 0) == [2, 2, 3, 3, 3, 3]
    assert asked(Depth(4), 2, 0, 3, 0, 4, 0, 4, 0) == [2, 3, 3, 4, 4, 4, 4, 4]


def test_depth_shrinks_to_two_when_there_is_always_one_to_spare() -> None:
    depth = Depth(16)
    depth.ahead = 4
    found = asked(depth, *[2] * (3 * CALM))
    assert found[CALM - 2 : CALM] == [4, 3] and found[2 * CALM - 1] == found[-1] == 2


LAYOUT = Layout(3, (2, 5), torch.uint8)


def test_slots_keep_apart_and_memory_comes_and_goes() -> None:
    ring = Ring(LAYOUT, 3)
    for slot in (0, 1, 2):
        ring.open(slot)
        ring[slot].data.fill_(10 + slot)
        ring[slot].rows.copy_(torch.arange(3) + 2**40 * slot)
    assert ring[1].data.shape == (3, 2, 5) and ring[1].data.dtype == torch.uint8
    assert ring[1].rows.tolist() == [2**40, 2**40 + 1, 2**40 + 2]
    ring.close(1)
    ring.open(1)
    assert not ring[1].data.any() and ring[0].data.eq(10).all() and ring[2].data.eq(12).all()


@pytest.mark.parametrize("count", [1, 300])
def test_a_slot_has_room_for_what_lies_in_it(count: int) -> None:
    layout = Layout(count, (3, 7, 7), torch.uint8)
    ring = Ring(layout, 2)
    for slot in (0, 1):
        ring.open(slot)
        ring[slot].data.fill_(slot + 1)
        ring[slot].rows.fill_(slot + 1)
    assert ring[0].data.eq(1).all() and ring[0].rows.eq(1).all()
    assert 0 <= layout.slot_bytes - count * (147 + 8) < 2 * 4096


class Cudart:
    """Stands in for the CUDA runtime."""

    def __init__(self, code: int = 0) -> None:
        self.code, self.pinned = code, {}

    def cudaHostRegister(self, address: int, size: int, flags: int) -> int:
        if not self.code:
            self.pinned[address] = size
        return self.code

    def cudaHostUnregister(self, address: int) -> int:
        del self.pinned[address]
        return 0


def test_open_slots_are_pinned_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Cudart()
    monkeypatch.setattr(torch.cuda, "cudart", lambda: runtime)
    ring = Ring(LAYOUT, 3, pinned=True)
    ring.open(0)
    ring.open(2)
    ring.open(2)
    assert set(runtime.pinned) == {ring[0].data.data_ptr(), ring[2].data.data_ptr()}
    assert set(runtime.pinned.values()) == {LAYOUT.slot_bytes}
    ring.close(2)
    assert set(runtime.pinned) == {ring[0].data.data_ptr()}
    ring.end()
    assert not runtime.pinned


def test_a_gpu_that_pins_nothing_is_mentioned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "cudart", lambda: Cudart(code=2))
    ring = Ring(LAYOUT, 1, pinned=True)
    with pytest.warns(UserWarning, match=r"CUDA pins no memory of the loader \(error 2\)"):
        ring.open(0)
    ring.end()


def test_pace_is_that_of_the_last_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = types.SimpleNamespace(now=100.0, cpu=7.0)
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(time, "process_time", lambda: clock.cpu)
    pace = Pace()
    assert pace.lately() is None
    for _ in range(200):  # 2 s: 100 images, 3 s of two workers, half of it at work, 0.5 s of ours
        pace.add(60, 2.0, 1.0)
        pace.add(40, 1.0, 0.5)
        pace.mark()
        clock.now += 2.0
        clock.cpu += 0.5
    lately = pace.lately()
    assert lately is not None
    np.testing.assert_allclose(lately, (50.0, 1.0, 0.5))
