"""Which path is taken, and what is said when one is not there."""

import subprocess
import sys
from typing import Any

import pytest
import torch

from squint import native, presets
from squint.errors import RecipeError, RunError
from squint.views import paths
from squint.views.paths import Compiled, PathName, pick
from squint.views.recipes import ViewsConfig, simclr_32
from squint.views.two_views import TwoViews
from views.pictures import noise

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "library", lambda: None)


@pytest.mark.skipif(native.library() is None, reason="the kernels are not built")
def test_the_kernels_are_taken_where_they_are() -> None:
    assert pick("auto", CPU).name == pick("native", CPU).name == "native"
    assert pick("reference", CPU).name == "reference"


def test_without_kernels_the_reference_makes_the_views(monkeypatch: pytest.MonkeyPatch) -> None:
    without_kernels(monkeypatch)
    path = pick("auto", CPU)
    assert path.name == "reference" and "not built" in path.why
    first, _ = TwoViews(simclr_32(), seed=0)(noise(2, 3, 32, 32), torch.arange(2), 0)
    assert first.shape == (2, 3, 32, 32)


# torch 2.11 calls one of its own functions deprecated when its compiler is loaded
@pytest.mark.filterwarnings("ignore:.*script_method.* is deprecated:DeprecationWarning")
def test_a_gpu_never_gets_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick("auto", CUDA).name in ("compiled", "reference")
    assert pick("auto", torch.device("mps")).name == "reference"
    with pytest.raises(RunError, match="images are on cuda"):
        pick("native", CUDA)
    monkeypatch.setattr(paths, "find_spec", lambda name: None)
    assert pick("auto", CUDA).name == "reference"
    with pytest.raises(RunError, match="needs Triton"):
        pick("compiled", CUDA)


def test_a_path_that_is_not_there_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    without_kernels(monkeypatch)
    with pytest.raises(RunError, match="install a C compiler"):
        pick("native", CPU)
    monkeypatch.setattr(paths.shutil, "which", lambda name: None)
    with pytest.raises(RunError, match=r"needs a C\+\+ compiler"):
        pick("compiled", CPU)


def test_a_failing_compiler_costs_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("no space left\nmore")

    monkeypatch.setattr(torch, "compile", lambda function, **_: fails)
    double = Compiled(lambda x: 2 * x)
    with pytest.warns(UserWarning, match="RuntimeError: no space left"):
        assert double(3) == 6
    assert double(4) == 8  # and no second warning, which would be an error here


def test_mistakes_of_the_recipe_are_not_the_compilers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(paths, "_compile", Compiled)
    views = TwoViews(ViewsConfig(size=8, mean=(0.1, 0.2), std=(1.0, 1.0)), seed=0, path="compiled")
    with pytest.raises(RecipeError, match="the images 3 channels"):
        views(noise(1, 3, 8, 8), torch.arange(1), 0)


COMPILED_AND_REFERENCE = """
import torch
from squint.views.recipes import Blur, Jitter, View, ViewsConfig
from squint.views.two_views import TwoViews

for form in ("torchvision", "simclr"):
    view = View(jitter=Jitter(form=form), solarize=0.5)
    config = ViewsConfig(size=32, first=view, second=view)
    pixels, index = torch.randint(0, 256, (64, 3, 36, 32), dtype=torch.uint8), torch.arange(64)
    ours = TwoViews(config, seed=0, path="compiled")(pixels, index, 0)
    reference = TwoViews(config, seed=0, path="reference")(pixels, index, 0)
    for a, b in zip(ours, reference):
        assert (a - b).abs().max() < 1e-5, (a - b).abs().max()
    crops = pixels[:, None, :, :32].expand(-1, 2, -1, -1, -1)
    ours = TwoViews(config, seed=0, path="compiled").finish(crops, index, 0)
    reference = TwoViews(config, seed=0, path="reference").finish(crops, index, 0)
    for a, b in zip(ours, reference):
        assert (a - b).abs().max() < 1e-5, (a - b).abs().max()
"""


@pytest.mark.slow
def test_compiled_views_are_the_references() -> None:
    # in a process of its own: what checks types in these tests can't be compiled
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:squint", "-c", COMPILED_AND_REFERENCE],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.gpu
@pytest.mark.parametrize("path", ["reference", "compiled"])
@pytest.mark.parametrize("method", ["simclr", "moco-v1", "moco-v3", "c-byol"])
def test_views_on_the_device_are_those_of_the_cpu(method: str, path: PathName) -> None:
    pixels, rows = noise(37, 3, 48, 40), torch.arange(100, 137)
    config = presets.recipe(f"{method}@cifar").views
    views = TwoViews(config, seed=3, path=path, memory_format=torch.channels_last)
    expected = TwoViews(config, seed=3, path="reference")(pixels, rows, 2)
    for ours, exact in zip(views(pixels.cuda(), rows, 2), expected, strict=True):
        assert ours.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(ours.cpu(), exact, rtol=0, atol=2e-4)
    crops = noise(74, 3, 32, 32).view(37, 2, 3, 32, 32)
    expected = TwoViews(config, seed=3, path="reference").finish(crops, rows, 2)
    for ours, exact in zip(views.finish(crops.cuda(), rows, 2), expected, strict=True):
        torch.testing.assert_close(ours.cpu(), exact, rtol=0, atol=2e-4)
