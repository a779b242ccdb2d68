"""What the log tells a person beside the numbers."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from squint.data import open_source
from squint.errors import RunError
from squint.runs import Run
from squint.train.feed import Feed, prepare
from squint.train.log import Log, Silent
from squint.train.runtime import start
from train import small


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def said(folder: Path, waits: list[float | None], advice: bool = True) -> list[str]:
    """What a log says of records with these shares of waiting; None is a record without one."""
    screen = Heard()
    with Log(
        Run(folder), screen, first_step=0, advice=(lambda: "do this") if advice else None
    ) as log:
        for step, wait in enumerate(waits, 1):
            more: Mapping[str, Any] = {"knn_top1": 0.5} if wait is None else {"data_wait": wait}
            log.write({"step": step, "epoch": 0.1 * step} | more)
    return screen.lines


def test_long_waits_for_images_are_answered_once(tmp_path: Path) -> None:
    lines = said(tmp_path, [0.9, 0.3, 0.1, None, 0.25, 0.45, None, 0.5, 0.6, 0.6])
    assert lines == ["  40% of the time went into waiting for images: do this."]


@pytest.mark.parametrize(
    "waits",
    [
        [0.9, 0.9, 0.2, 0.0],  # workers took long to start, that was all
        [0.1, 0.9, 0.9, 0.2, 0.9, 0.9],  # never for long
        [None, None, None, None],
    ],
)
def test_short_waits_are_not_spoken_of(tmp_path: Path, waits: list[float | None]) -> None:
    assert said(tmp_path, waits) == []


def test_runs_without_workers_get_no_advice(tmp_path: Path) -> None:
    assert said(tmp_path, [0.9] * 6, advice=False) == []


def test_advice_is_for_files_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for k in range(small.BATCH):
        pixels = np.full((40 + k, 50, 3), 10 * k, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{k}.png")
    recipe = small.recipe(train__workers=3)
    with start(dataclasses.replace(recipe.train, device="cpu")) as runtime:
        advice = [
            Feed(prepare(open_source(source), recipe), recipe, runtime).advice
            for source in (tmp_path / "photos", small.source(tmp_path))
        ]
    assert advice[0] is not None and advice[1] is None
    assert "--workers" in advice[0]()


def test_tensorboard_reads_every_step_once(tmp_path: Path) -> None:
    for first_step, value in ((0, 1.0), (2, 5.0)):  # the second session resumes after step 2
        with Log(Run(tmp_path), Silent(), first_step=first_step) as log:
            for step in range(first_step + 1, 5):
                log.write({"step": step, "epoch": 0.1 * step, "loss": value})
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Tags()["scalars"] == ["loss"]
    found = [(event.step, event.value) for event in events.Scalars("loss")]
    assert found == [(1, 1.0), (2, 1.0), (3, 5.0), (4, 5.0)]


def test_a_folder_that_was_moved_away_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with Log(Run(folder), Silent(), first_step=0) as log:
        folder.rename(tmp_path / "elsewhere")
        with pytest.raises(RunError, match=r"run is gone: .*moved or deleted.*squint resume"):
            log.write({"step": 1, "epoch": 0.1, "loss": 1.0})
