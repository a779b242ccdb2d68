"""Compiled encoders train alike, keep their names, and do without a compiler."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import squint
from squint import methods
from squint.errors import RecipeError
from squint.nn.norm import sync_batch_norm
from squint.runs import Run
from squint.train.compiling import begin_step, compile_encoders, not_compiled
from squint.train.runtime import start
from train import small

TRAIN = """
import sys
sys.path.insert(0, sys.argv[1])
from squint.train import compiling, pretrain
from train import small
said = []
def compile_encoders(*given, **more):
    said.append(compiling.compile_encoders(*given, **more, backend=sys.argv[4]))
    return said[-1]
pretrain.compile_encoders = compile_encoders
recipe = small.recipe("moco-v3", train__compile="on", train__knn_every_epochs=1)
pretrain.pretrain(sys.argv[2], recipe=recipe, out=sys.argv[3], quiet=True)
assert said == [f"compiled by {sys.argv[4]}"], said
"""


def compiled_run(data: str, out: Path, backend: str) -> Run:
    """A run in its own process: checks of shapes and types, on in tests, can't be compiled."""
    tests = str(Path(__file__).parents[1])
    command = [sys.executable, "-c", TRAIN, tests, data, str(out), backend]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Run(out)


def plain_run(data: str, out: Path) -> Run:
    return squint.pretrain(data, recipe=small.recipe("moco-v3"), out=out, quiet=True)


def test_a_compiled_run_is_the_same_run_under_the_same_names(tmp_path: Path) -> None:
    data = small.source(tmp_path)
    run = compiled_run(data, tmp_path / "compiled", "eager")
    small.assert_same_bits(plain_run(data, tmp_path / "plain"), run)
    assert squint.load_encoder(run)(torch.zeros(2, 3, 24, 24)).shape == (2, 64)


@pytest.mark.slow
def test_generated_code_gives_the_same_losses_but_for_rounding(tmp_path: Path) -> None:
    data = small.source(tmp_path)
    run = compiled_run(data, tmp_path / "compiled", "inductor")
    plain = small.curve(plain_run(data, tmp_path / "plain"))
    assert [loss for _, loss in small.curve(run)] == pytest.approx(
        [loss for _, loss in plain], rel=1e-3
    )
    small.assert_same_bits(run, compiled_run(data, tmp_path / "again", "inductor"))


def test_without_a_compiler_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(self, *_, **__) -> None:
        def call(*_, **__) -> None:
            raise RuntimeError("no C++ compiler\nand a page of detail")

        self._compiled_call_impl = call

    monkeypatch.setattr(torch.nn.Module, "compile", broken)
    data, recipe = small.source(tmp_path), small.recipe("moco-v2", train__compile="on")
    run = squint.pretrain(data, recipe=recipe, out=tmp_path / "run")
    assert "not compiled: RuntimeError: no C++ compiler\n" in capsys.readouterr().out
    assert len(small.curve(run)) == 6


def test_trying_out_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def pretended(self, *_, **__) -> None:
        self._compiled_call_impl = self._call_impl

    monkeypatch.setattr(torch.nn.Module, "compile", pretended)
    recipe = small.recipe("moco-v3", train__compile="on")
    method = methods.build(recipe)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    with start(recipe.train) as runtime:
        assert compile_encoders(method, recipe, runtime, pieces=1) == "compiled by inductor"
    assert method.target.encoder._compiled_call_impl is not None
    assert all(torch.equal(before[key], value) for key, value in method.state_dict().items())
    assert all(parameter.grad is None for parameter in method.parameters())
    with not_compiled(method.encoder, recipe):
        assert method.encoder._compiled_call_impl is None
    assert method.encoder._compiled_call_impl is not None


def test_graphs_are_refused_without_cuda_before_anything_is_written(tmp_path: Path) -> None:
    recipe = small.recipe(train__compile="graphs")
    with pytest.raises(RecipeError, match=r"compile=graphs.*is on cpu.*--train.compile off or on"):
        squint.pretrain(small.source(tmp_path), recipe=recipe, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("recording", "compiling", "ranks", "said"),
    [
        (True, True, False, "compiled by inductor, recorded as CUDA graphs"),
        (False, True, False, "without CUDA graphs (RuntimeError: no); compiled by inductor"),
        (False, False, False, "without CUDA graphs (RuntimeError: no); not compiled: RuntimeErr"),
        (True, True, True, "without CUDA graphs (batch norm talks to the other ranks inside the"),
    ],
)
def test_what_cannot_be_recorded_is_compiled_and_what_cannot_be_compiled_runs(
    monkeypatch: pytest.MonkeyPatch, recording: bool, compiling: bool, ranks: bool, said: str
) -> None:
    steps = 0

    def mark() -> None:
        nonlocal steps
        steps += 1

    def pretended(self, *, backend: str, dynamic: bool, options: dict | None) -> None:
        def call(*given):
            if not (recording if options else compiling):
                raise RuntimeError("no")
            return self._call_impl(*given)

        self._compiled_call_impl = call

    monkeypatch.setattr(torch.nn.Module, "compile", pretended)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", mark)
    recipe = small.recipe("moco-v3", train__compile="graphs")
    method = methods.build(recipe)
    if ranks:
        sync_batch_norm(method)
    with start(recipe.train) as runtime:
        assert compile_encoders(method, recipe, runtime, pieces=1).startswith(said)
    assert (method.encoder._compiled_call_impl is None) == (not compiling)
    if recording and not ranks:
        assert steps == 3, "a graph is warmed up, recorded and played back"
    before = steps
    begin_step(recipe)
    begin_step(small.recipe())
    assert steps == before + 1
