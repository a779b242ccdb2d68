"""In how many pieces a batch goes: what is asked for, what fits, and what can't."""

import copy
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import squint
from squint import methods, presets
from squint.errors import RecipeError, RunError
from squint.recipe import Recipe
from squint.runs import Run
from squint.train import memory, pieces
from squint.train.pieces import pieces_of
from squint.train.runtime import Runtime
from squint.train.signals import Interrupted
from toys import make
from train import small
from train.test_resume import stop_in_step


def asked(micro: object) -> Recipe:
    return small.recipe(train__micro_batch_size=micro)


def test_pieces_are_what_the_recipe_asks_for() -> None:
    method = make("simclr")
    for micro, number in (("off", 1), (small.BATCH, 1), (small.BATCH // 4, 4), ("auto", 1)):
        assert pieces_of(method, asked(micro), small.runtime()) == number


def test_a_piece_that_does_not_divide_the_batch_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"micro_batch_size=6 does not divide train.batch"):
        asked(6)
    with pytest.raises(RecipeError, match=r"micro_batch_size=32"):
        asked(32)


def test_auto_halves_until_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def fits(method: nn.Module, recipe: Recipe, runtime: Runtime, images: int) -> bool:
        tried.append(images)
        return images <= 4

    monkeypatch.setattr(pieces, "_fits", fits)
    assert pieces_of(make("simclr"), asked("auto"), small.runtime("cuda")) == 4
    assert tried == [16, 8, 4]
    monkeypatch.setattr(pieces, "_fits", lambda *_: False)
    with pytest.raises(RunError, match="not even in pieces of 2"):
        pieces_of(make("simclr"), asked("auto"), small.runtime("cuda"))


@pytest.mark.parametrize("name", ["simclr", "moco-v2"])
def test_a_trial_leaves_no_trace_and_says_when_memory_runs_out(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small.recipe(name)
    method = methods.build(recipe)
    before = copy.deepcopy(method.state_dict())
    assert pieces._fits(method, recipe, small.runtime(), small.BATCH)
    assert all(torch.equal(before[key], value) for key, value in method.state_dict().items())
    assert all(parameter.grad is None for parameter in method.parameters())

    def full(_: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(method.projector, "forward", full)
    assert not pieces._fits(method, recipe, small.runtime(), small.BATCH)


def large(name: str = "simclr", **changes: object) -> Recipe:
    """A recipe whose views are large enough to be looked at."""
    return small.recipe(name, views__size=384, **changes)


def kept_per_image(recipe: Recipe) -> float:
    host = pieces._host_of(methods.build(recipe), recipe, small.runtime())
    assert host is not None
    return host.per_image


def test_what_a_graph_keeps_is_counted_once_and_without_parameters() -> None:
    layer = nn.Linear(10, 20, bias=False)
    x = torch.randn(7, 10)

    def forward() -> Tensor:
        return layer(x).sigmoid().square().sum()

    assert memory.graph_bytes(layer, forward) == 4 * (7 * 10 + 7 * 20)  # x; the sigmoid, used twice


def test_a_step_is_measured_by_what_its_graph_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = large()
    method = methods.build(recipe)
    x = torch.randn(2 * small.BATCH, 3, 384, 384)
    whole = memory.graph_bytes(method, lambda: method.projector(method.encoder(x)))
    assert small.BATCH * kept_per_image(recipe) == pytest.approx(whole, rel=0.02)


def test_who_trains_on_one_view_keeps_one() -> None:
    one = kept_per_image(large("moco-v2", method__symmetric=False))
    assert kept_per_image(large("moco-v2", method__symmetric=True)) == pytest.approx(2 * one)


def test_a_step_that_can_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = small.BATCH * kept_per_image(large())
    monkeypatch.setattr(memory, "free_bytes", lambda: int(0.9 * needed))
    with pytest.raises(RunError, match=r"16 images at once .* GiB are free. Give --train.micro-ba"):
        squint.pretrain(small.source(tmp_path), recipe=large(), out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_step_that_may_not_fit_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = large()
    method = methods.build(recipe)
    needed = small.BATCH * kept_per_image(recipe)
    monkeypatch.setattr(memory, "free_bytes", lambda: int(1.1 * needed))
    with pytest.warns(UserWarning, match=r"takes 1\.\d to 1\.\d GiB of memory, and 1\.\d GiB"):
        assert pieces_of(method, recipe, small.runtime()) == 1


def test_on_a_cpu_auto_goes_by_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = large(train__micro_batch_size="auto")
    method = methods.build(recipe)
    needed = small.BATCH * kept_per_image(recipe)
    state = copy.deepcopy(method.state_dict())
    for share, number in ((2.0, 1), (1.1, 2), (0.4, 4)):
        monkeypatch.setattr(memory, "free_bytes", lambda share=share: int(share * needed))
        assert pieces_of(method, recipe, small.runtime()) == number
    assert all(torch.equal(state[key], value) for key, value in method.state_dict().items())
    monkeypatch.setattr(memory, "free_bytes", lambda: 1000)
    with pytest.raises(RunError, match="not even in pieces of 2 images"):
        pieces_of(method, recipe, small.runtime())
    monkeypatch.setattr(memory, "free_bytes", lambda: None)
    assert pieces_of(method, recipe, small.runtime()) == 1


def test_memory_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 900 kB\nMemAvailable:      500 kB\nBuffers: 3 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", meminfo)
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    assert memory.free_bytes() == 500 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert memory.free_bytes() == 500 * 1024
    (tmp_path / "memory.max").write_text("100000\n")
    (tmp_path / "memory.stat").write_text("anon 700\nactive_file 200\ninactive_file 30\n")
    assert memory.free_bytes() == 99_230
    meminfo.unlink()
    assert memory.free_bytes() is None


def test_a_resumed_run_keeps_the_pieces_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch norm sees a piece at a time: in other pieces it would not be the same run."""
    data, recipe = small.source(tmp_path), large(train__micro_batch_size="auto")
    recipe = recipe.override({"train.epochs": 2 / 6, "optim.warmup_epochs": 0.0})
    needed = small.BATCH * kept_per_image(recipe)

    def free(share: float) -> None:
        monkeypatch.setattr(memory, "free_bytes", lambda: int(share * needed))

    free(0.8)
    whole = squint.pretrain(data, recipe=recipe, out=tmp_path / "whole", quiet=True)
    with monkeypatch.context() as patch:
        stop_in_step(patch, 1, signal.SIGINT)
        with pytest.raises(Interrupted):
            squint.pretrain(data, recipe=recipe, out=tmp_path / "parts", quiet=True)
    assert Run(tmp_path / "parts").state()["position"]["pieces"] == 2
    free(10)
    small.assert_same_bits(whole, squint.resume(tmp_path / "parts", quiet=True))
    free(0.3)
    with pytest.raises(RunError, match="8 images at once"):
        pieces_of(methods.build(recipe), recipe, small.runtime(), pieces_before=2)


@pytest.mark.parametrize(
    ("batch", "groups", "ranks", "images", "smaller"),
    [
        (4096, 1, 1, 64, 32),
        (250, 1, 1, 250, 125),
        (250, 1, 2, 250, 50),
        (256, 8, 1, 256, 128),
        (24, 8, 1, 24, None),
        (16, 1, 1, 2, None),
    ],
)
def test_the_piece_that_is_advised_may_be_asked_for(batch, groups, ranks, images, smaller) -> None:
    recipe = presets.recipe("moco-v2@tiny")
    recipe = recipe.override({"train.batch_size": batch, "method.norm_groups": groups})
    assert pieces._smaller_piece(recipe, ranks, images) == smaller
    if smaller:
        recipe.override({"train.micro_batch_size": smaller})


def test_memory_that_runs_out_is_explained() -> None:
    recipe = small.recipe(train__micro_batch_size=8)
    with (
        pytest.raises(RunError, match=r"8 images at once .* --train.micro-batch-size 4 "),
        pieces.memory_errors_explained(recipe, small.runtime(), 2),
    ):
        raise torch.OutOfMemoryError("full")
