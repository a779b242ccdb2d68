"""`squint demo` replaces no run that it was not told to replace."""

from pathlib import Path

import pytest

from squint import demo, runs
from squint.errors import RunError

ASKED = {"epochs": 1.0, "seed": 0, "device": "cpu"}


class Trained(Exception):
    """Training was about to start."""


@pytest.fixture(autouse=True)
def _nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **settings: object) -> None:
        raise Trained(settings.get("overwrite"))

    monkeypatch.setattr(demo, "pretrain", refuse)


def _run(folder: Path, *, epochs: float) -> Path:
    other = demo.recipe("c-simclr", epochs=epochs, seed=0, device="cpu")
    return runs.create(folder / "c-simclr", other, source="photos", derived={}).path


def test_a_run_of_another_recipe_is_left_alone_and_nothing_is_trained(tmp_path: Path) -> None:
    there = _run(tmp_path, epochs=9.0)
    before = (there / "recipe.json").read_bytes()
    with pytest.raises(RunError, match=r"c-simclr holds a run of another recipe.*--overwrite"):
        demo.main(tmp_path, **ASKED)
    assert (there / "recipe.json").read_bytes() == before
    assert not (tmp_path / "simclr").exists()


def test_it_is_replaced_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _run(tmp_path, epochs=9.0)
    monkeypatch.setattr(demo, "_METHODS", ("c-simclr",))
    with pytest.raises(Trained, match="True"):
        demo.main(tmp_path, **ASKED, overwrite=True)


def test_a_run_that_would_end_in_its_warmup_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"--epochs 0.5 is shorter than the warm-up.* at least 1"):
        demo.main(tmp_path, **ASKED | {"epochs": 0.5})
    assert not list(tmp_path.iterdir())
