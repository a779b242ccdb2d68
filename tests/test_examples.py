"""The examples run as written."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUINT_CACHE", str(tmp_path / "cache"))


def test_a_loop_of_ones_own_learns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own_loop = example("own_loop")
    few = torch.arange(160).split(32)
    monkeypatch.setattr(own_loop, "batches", lambda images: few)
    first, _, last = own_loop.main(epochs=3)
    assert last < first < math.log(2 * 32) + 1  # a blind guess among the candidates of a batch
    assert "rate_nats" in capsys.readouterr().out


def test_the_picture_of_the_readme_is_drawn(tmp_path: Path) -> None:
    example("views_picture").main(str(tmp_path / "views.png"))
    with Image.open(tmp_path / "views.png") as picture:
        assert picture.width > picture.height > 100
