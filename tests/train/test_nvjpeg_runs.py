"""Runs whose files nvJPEG decodes, with libjpeg in its place; where they are refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import squint
from squint.data import nvjpeg, open_source
from squint.errors import RecipeError
from squint.native import jpeg
from squint.train import loop, setup
from squint.train.feed import Feed, prepare
from squint.train.runtime import start
from train import small

pytestmark = pytest.mark.filterwarnings("ignore:.*TorchCodec:DeprecationWarning")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(2 * small.BATCH):
        noise = np.random.default_rng(k).integers(0, 256, (70 + k % 7, 80, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{k:02d}.{'png' if k % 5 == 2 else 'jpeg'}")
    (folder / "03.jpeg").write_bytes((folder / "03.jpeg").read_bytes()[:3000])
    return folder


def test_nvjpeg_is_refused_without_cuda_before_anything_is_written(tmp_path: Path) -> None:
    recipe = small.recipe(train__decode="nvjpeg")
    with pytest.raises(RecipeError, match=r"decode=nvjpeg.*is on cpu.*--train.decode workers"):
        squint.pretrain(small.source(tmp_path), recipe=recipe, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def allowed_on_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "check_decode", lambda *_: None)
    nvjpeg.missing.cache_clear()


@pytest.mark.skipif(jpeg.library() is None, reason="the decoder of windows was not built")
@pytest.mark.usefixtures("allowed_on_cpus")
def test_a_run_says_who_decodes_and_resumes_to_the_same_bits(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changes = {"data__max_unreadable_percent": 5.0, "views__size": 16, "train__epochs": 3.0}
    recipe = small.recipe("simclr", train__decode="nvjpeg", **changes)
    whole = squint.pretrain(photos, recipe=recipe, out=tmp_path / "whole")
    assert "32 decoded by nvJPEG" in capsys.readouterr().out.replace("  ", " ")
    assert (whole.path / "quarantine.txt").read_text().startswith("03.jpeg\t")

    step = loop.forward_backward
    steps = iter(range(2))

    def interrupted(*arguments: object, **more: object) -> object:
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return step(*arguments, **more)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(loop, "forward_backward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        squint.pretrain(photos, recipe=recipe, out=tmp_path / "cut", quiet=True)
    monkeypatch.setattr(loop, "forward_backward", step)
    resumed = squint.resume(tmp_path / "cut", quiet=True)
    small.assert_same_bits(resumed, whole)


@pytest.mark.usefixtures("allowed_on_cpus")
def test_where_nvjpeg_does_not_run_workers_decode(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(files: list[torch.Tensor], *_: object) -> list[torch.Tensor]:
        raise RuntimeError("not built with nvJPEG")

    monkeypatch.setattr(nvjpeg, "decode", decode)
    recipe = small.recipe(train__decode="nvjpeg", train__workers=3)
    with start(recipe.train) as runtime:
        readable = prepare(open_source(photos), recipe)
        with pytest.warns(UserWarning, match="not built with nvJPEG"):
            feed = Feed(readable, recipe, runtime)
    nvjpeg.missing.cache_clear()
    assert feed.where == "decoded by workers" and feed.advice
    assert "--workers" in feed.advice()


@pytest.mark.usefixtures("allowed_on_cpus")
def test_images_in_memory_are_said_to_need_no_decoder(tmp_path: Path) -> None:
    recipe = small.recipe(train__decode="nvjpeg")
    with start(recipe.train) as runtime:
        feed = Feed(prepare(open_source(small.source(tmp_path)), recipe), recipe, runtime)
    assert feed.where == "in memory, not decoded by nvJPEG" and feed.advice is None
