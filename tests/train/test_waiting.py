"""What is said when steps wait for their images, and runs whose workers are slow or die."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import squint
from squint.data import Images, open_source
from squint.data.decode import Raw
from squint.data.images import Store
from squint.data.pace import Lately
from squint.errors import RunError
from squint.runs import Run
from squint.train import runtime
from squint.train.waiting import advice, advice_on_nvjpeg
from train import small

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.mark.parametrize(
    ("lately", "workers", "cores", "said"),
    [
        (None, 0, 4, "give --workers 3"),
        (Lately(310.4, 2.1, 0.98), 2, 8, "2 workers made 310 per second while 5.9 of 8 cores"),
        (Lately(310.4, 2.1, 0.98), 2, 8, "give --workers 7"),
        (Lately(1310.0, 3.6, 0.8), 4, 4, "4 workers made 1,310 per second and all 4 cores"),
        (Lately(1310.0, 3.6, 0.8), 4, 4, "squint pack"),
        (Lately(20.0, 0.3, 0.1), 1, 4, "1 worker made 20 per second and stood still for 90%"),
        (Lately(20.0, 0.3, 0.1), 1, 4, "to a disk nearby"),
        (Lately(200.0, 2.0, 0.4), 2, 2, "squint pack"),
    ],
)
def test_advice_names_numbers_and_one_thing_to_do(
    lately: Lately | None, workers: int, cores: int, said: str
) -> None:
    text = advice(lately, workers, cores)
    assert said in text and text.count(", so ") == 1


@pytest.mark.parametrize(
    ("lately", "said"),
    [
        (None, "squint pack"),
        (
            Lately(3100.4, 1.2, 0.0),
            "made 3,100 per second while 6.8 of 8 cores were idle, so try --t",
        ),
        (
            Lately(3100.4, 7.2, 0.0),
            "nvJPEG made 3,100 per second, so train on a small copy: squint",
        ),
    ],
)
def test_advice_on_nvjpeg_speaks_of_no_workers_that_are_not_there(
    lately: Lately | None, said: str
) -> None:
    text = advice_on_nvjpeg(lately, 8)
    assert said in text and text.count(", so ") == 1 and "--workers" not in text


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("max 100000", 4), ("150000 100000", 2), ("10000 100000", 1), ("9900000 100000", 4)],
)
def test_cores_are_those_of_the_container(
    limit: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text(f"{limit}\n")
    monkeypatch.setattr(runtime, "_CPU_SHARE", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    assert runtime.cores() == expected


class Slow(Store):
    """A disk far away."""

    def fetch(self, row: int) -> Raw:
        time.sleep(0.03)
        return np.random.default_rng(row).integers(0, 256, (72, 80, 3), dtype=np.uint8)

    def stamp(self) -> str:
        return "slow"


def test_a_slow_source_is_spoken_of_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tuple(f"{k}.png" for k in range(2 * small.BATCH))
    slow = Images(name="far away", paths=names, store=Slow(), rows=np.arange(len(names)))
    recipe = small.recipe("simclr", train__epochs=3.0, train__workers=1, views__size=16)
    run = squint.pretrain(slow, recipe=recipe, out=tmp_path / "run")
    said = [line for line in capsys.readouterr().out.splitlines() if "waiting for images" in line]
    assert len(said) == 1 and "1 worker made " in said[0] and "to a disk nearby" in said[0]
    waits = [record["data_wait"] for record in run.records() if "data_wait" in record]
    assert len(waits) == 6 and min(waits[3:]) > 0.2


@pytest.fixture
def photos(tmp_path: Path) -> Images:
    """Files of many kinds and sizes, one of them damaged."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(small.IMAGES):
        noise = np.random.default_rng(k).integers(0, 256, (40 + k % 7, 50, 3), dtype=np.uint8)
        image = Image.fromarray(noise)
        kind = ("jpeg", "png", "webp", "jpeg")[k % 4]
        (image.convert("CMYK") if k % 8 == 3 else image).save(folder / f"{k:02d}.{kind}")
    (folder / "05.png").write_bytes((folder / "05.png").read_bytes()[:3000])
    return open_source(folder)


class Deadly(Store):
    """Kills the worker that reads the 150th image, as a machine does that is out of memory.

    That is in the second epoch, and after its beginning was saved: no more than three batches of 16
    are read before the training process has done with an earlier one.
    """

    def __init__(self, inner: Store, killed: Path) -> None:
        self.inner, self.killed, self.reads = inner, killed, 0

    def fetch(self, row: int) -> Raw:
        self.reads += multiprocessing.parent_process() is not None
        if self.reads == 150 and not self.killed.exists():
            self.killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner.fetch(row)

    def stamp(self) -> str:
        return self.inner.stamp()


def test_a_run_goes_on_after_a_worker_was_killed(photos: Images, tmp_path: Path) -> None:
    changes = {"views__size": 16, "data__max_unreadable_percent": 5.0}
    recipe = small.recipe("simclr", train__epochs=2.0, **changes)
    alone = squint.pretrain(photos, recipe=recipe, out=tmp_path / "alone", workers=0, quiet=True)
    deadly = replace(photos, store=Deadly(photos.store, tmp_path / "killed"))
    with pytest.raises(RunError, match="killed by SIGKILL"):
        squint.pretrain(deadly, recipe=recipe, out=tmp_path / "run", workers=1, quiet=True)
    names = [process.name for process in multiprocessing.active_children()]
    assert not any(name.startswith("loader") for name in names)
    assert 6 <= len(small.curve(Run(tmp_path / "run"))) < 12
    resumed = squint.resume(tmp_path / "run", data=deadly, quiet=True)
    small.assert_same_bits(resumed, alone)
    assert small.curve(resumed) == small.curve(alone)
    for run in (alone, resumed):
        assert (run.path / "quarantine.txt").read_text() == "05.png\tthe file is truncated\n"
