"""Which path is taken, and what is said when one is not there."""

import subprocess
import sys
from typing import Any

import pytest
import torch

from interpreter import needs_loops, needs_triton, run_interpreted
from squint import native, presets, trial
from squint.errors import RecipeError, RunError
from squint.views import look_triton, paths
from squint.views.cifar_recipes import solo_simclr_32
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
    assert path.name == "reference" and "not built" in path.description
    first, _ = TwoViews(simclr_32(), seed=0)(noise(2, 3, 32, 32), torch.arange(2), 0)
    assert first.shape == (2, 3, 32, 32)


def test_a_gpu_never_gets_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick("auto", CUDA).name in ("triton", "reference")
    assert pick("auto", torch.device("mps")).name == "reference"
    with pytest.raises(RunError, match="images are on cuda"):
        pick("native", CUDA)
    monkeypatch.setattr(paths, "find_spec", lambda name: None)
    monkeypatch.setattr(trial, "find_spec", lambda name: None)
    assert pick("auto", CUDA).name == "reference"
    with pytest.raises(RunError, match="triton can't be taken: the package triton is not"):
        pick("triton", CUDA)
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


TRITON = """
import torch
from dataclasses import replace
from squint import presets
from squint.views import TwoViews
torch.manual_seed(0)
pixels, crops = (
    torch.randint(0, 256, shape, dtype=torch.uint8) for shape in ((2, 3, 11, 7), (7, 2, 3, 36, 36))
)
for name in ("simclr", "c-byol", "moco-v1"):
    config = presets.recipe(f"{name}@cifar").views
    of_pixels, of_crops = (
        [
            TwoViews(replace(config, size=size), seed=4, path=path, memory_format=layout)
            for path in ("triton", "reference")
        ]
        for size, layout in ((9, torch.contiguous_format), (36, torch.channels_last))
    )
    made = [views(pixels, torch.arange(50, 52), 1) for views in of_pixels]
    made += [views.finish(crops, torch.arange(50, 57), 1) for views in of_crops]
    for kernels, reference in (made[:2], made[2:]):
        for ours, exact in zip(kernels, reference, strict=True):
            assert ours.stride() == exact.stride()
            torch.testing.assert_close(ours, exact, rtol=0, atol=2e-5)
print("equal")
"""


@needs_triton
@needs_loops
def test_the_triton_kernels_equal_the_reference_in_triton_s_interpreter() -> None:
    run_interpreted(TRITON)


@needs_triton
@pytest.mark.parametrize("cropped", [False, True])
def test_kernels_that_fail_their_trial_are_replaced_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, cropped: bool
) -> None:
    monkeypatch.setattr(trial, "absent", lambda device: "")  # as on CUDA, where they fail
    monkeypatch.setattr(paths, "_compile", lambda function: function)
    name = "apply_look" if cropped else "apply"
    monkeypatch.setattr(look_triton, name, lambda *arguments: 1 / 0)
    views = TwoViews(solo_simclr_32(), seed=0, path="triton")
    exact = TwoViews(solo_simclr_32(), seed=0, path="reference")
    look_triton._trial.cache_clear()
    with pytest.warns(UserWarning, match="do not run here .ZeroDivisionError") as told:
        for _ in range(2):
            if cropped:
                crops = noise(6, 3, 32, 32).view(3, 2, 3, 32, 32)
                made = (way.finish(crops, torch.arange(3), 0) for way in (views, exact))
            else:
                made = (way(noise(3, 3, 40, 40), torch.arange(3), 0) for way in (views, exact))
            assert all(map(torch.equal, *made))
    assert len(told) == 1
    look_triton._trial.cache_clear()


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("method", "path"),
    [
        *((method, "triton") for method in ("simclr", "moco-v1", "moco-v3", "c-byol")),
        ("c-byol", "reference"),
        ("simclr", "compiled"),
    ],
)
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
