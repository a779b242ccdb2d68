"""A run that was stopped and continued ends with the same bits as one that was not."""

import errno
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError

import squint
from squint import runs
from squint.errors import CheckpointError, RunError
from squint.runs import Run
from squint.train import log, loop, signals
from squint.train.signals import Interrupted
from train import small


def stop_in_step(patch: pytest.MonkeyPatch, number: int, signum: int) -> None:
    """Have the process get a real signal while it takes step `number` (from 1)."""
    check = loop.health.check_finite

    def check_and_stop(out, grad_norm, method, step: int) -> None:
        check(out, grad_norm, method, step)
        if step == number - 1:
            os.kill(os.getpid(), signum)

    patch.setattr(loop.health, "check_finite", check_and_stop)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("c-simclr", {"train__precision": "float32"}),
        ("c-simclr", {"train__precision": "bfloat16"}),
        ("simclr", {"optim__name": "lars"}),
        ("c-simclr", {"compression__residual": "sampled", "optim__name": "adamw"}),
        ("c-simclr", {"train__micro_batch_size": 8}),
        ("c-moco-v2", {"method__symmetric": True}),
        ("moco-v3", {"optim__name": "lars", "optim__lars_form": "mocov3"}),
        ("c-byol", {"method__target_init": "independent"}),
    ],
    ids=[
        "sampling",
        "bfloat16",
        "plain-lars",
        "sampled-adamw",
        "in pieces",
        "queue",
        "predictor",
        "independent target",
    ],
)
@pytest.mark.parametrize(
    "signum",
    [signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
    ids=["ctrl-c", "sigterm", "terminal closed"],
)
def test_three_steps_and_three_more_are_six(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, changes: dict, signum: int
) -> None:
    if signum != signal.SIGINT and name != "c-simclr":
        pytest.skip("one method is enough for the second signal")
    if signal.getsignal(signum) == signal.SIG_IGN:
        pytest.skip("under nohup no run hears that a terminal closes")
    data, recipe = small.source(tmp_path), small.recipe(name, **changes)
    whole = squint.pretrain(data, recipe=recipe, out=tmp_path / "whole", quiet=True)

    with monkeypatch.context() as patch:
        stop_in_step(patch, 3, signum)
        with pytest.raises(Interrupted, match=r"after step 3 of 6 .*squint resume") as caught:
            squint.pretrain(data, recipe=recipe, out=tmp_path / "parts", quiet=True)
    assert caught.value.signal == signum
    assert Run(tmp_path / "parts").state()["position"]["step"] == 3
    torch.manual_seed(123)  # whatever the process did in between must not matter
    parts = squint.resume(tmp_path / "parts", quiet=True)

    small.assert_same_bits(whole, parts)
    assert small.curve(whole) == small.curve(parts)


@pytest.mark.parametrize(("step_count", "stopped"), [("whole_epochs", 8), ("simclr", 12)])
def test_a_run_across_epochs_resumes_in_the_right_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step_count: str, stopped: int
) -> None:
    changes = {"train__epochs": 2.0, "train__step_count": step_count}  # 12 steps, or 13
    data, recipe = small.source(tmp_path), small.recipe(**changes)
    whole = squint.pretrain(data, recipe=recipe, out=tmp_path / "whole", quiet=True)
    with monkeypatch.context() as patch:
        stop_in_step(patch, stopped, signal.SIGINT)
        with pytest.raises(Interrupted):
            squint.pretrain(data, recipe=recipe, out=tmp_path / "parts", quiet=True)
    small.assert_same_bits(whole, squint.resume(tmp_path / "parts", quiet=True))


def test_kill_9_loses_nothing_but_time(tmp_path: Path) -> None:
    data, recipe = small.source(tmp_path), small.recipe(train__epochs=8.0)
    killed = Run(tmp_path / "killed")
    code = (
        "import sys, squint\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from train import small\n"
        "squint.pretrain(sys.argv[2], recipe=small.recipe(train__epochs=8.0), out=sys.argv[3],"
        " quiet=True)"
    )
    folder = str(Path(__file__).parents[1])
    # the same number of threads as here: sums are split among them, which decides the last bits
    process = subprocess.Popen(
        [sys.executable, "-c", code, folder, data, str(killed.path)],
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    deadline = time.monotonic() + 120
    while not killed.checkpoint.exists() and time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < killed.state()["position"]["step"] < 48, "killed too late to prove anything"

    whole = squint.pretrain(data, recipe=recipe, out=tmp_path / "whole", quiet=True)
    small.assert_same_bits(whole, squint.resume(killed.path, quiet=True))
    assert small.curve(whole) == small.curve(killed), "every step stands in metrics.jsonl once"


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    run = squint.pretrain(
        small.source(tmp_path), recipe=small.recipe(), out=tmp_path / "run", quiet=True
    )
    before, losses = small.weights(run), small.curve(run)
    again = squint.resume(run.path, quiet=True)
    assert small.curve(again) == losses
    assert all(torch.equal(value, before[name]) for name, value in small.weights(again).items())


def test_other_images_are_refused(tmp_path: Path) -> None:
    data = small.source(tmp_path)
    run = squint.pretrain(data, recipe=small.recipe(), out=tmp_path / "run", quiet=True)
    with pytest.raises(CheckpointError, match="not those"):
        squint.resume(run.path, data="demo", quiet=True)


def test_a_damaged_or_missing_checkpoint_is_explained(tmp_path: Path) -> None:
    data = small.source(tmp_path)
    run = squint.pretrain(data, recipe=small.recipe(), out=tmp_path / "run", quiet=True)
    run.checkpoint.write_bytes(run.checkpoint.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="is damaged or no checkpoint"):
        squint.resume(run.path, quiet=True)
    run.checkpoint.unlink()
    with pytest.raises(CheckpointError, match="before its first checkpoint"):
        squint.resume(run.path, quiet=True)


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    data = small.source(tmp_path)
    recipe = small.recipe(train__keep_every_epochs=1)
    run = squint.pretrain(data, recipe=recipe, out=tmp_path / "run", quiet=True)
    (kept,) = run.checkpoint.parent.glob("step-*.pt")
    with zipfile.ZipFile(run.checkpoint) as parts:
        largest = max(parts.infolist(), key=lambda part: part.file_size)
    damaged = bytearray(run.checkpoint.read_bytes())
    damaged[largest.header_offset + 200 + largest.file_size // 2] ^= 1
    run.checkpoint.write_bytes(damaged)
    with pytest.raises(CheckpointError, match=rf"fails its checksum.*Copy {kept} over it"):
        squint.resume(run.path, quiet=True)


def test_an_edited_recipe_is_refused_but_for_what_moves_no_number(tmp_path: Path) -> None:
    data = small.source(tmp_path)
    run = squint.pretrain(data, recipe=small.recipe(), out=tmp_path / "run", quiet=True)
    path = run.path / "recipe.json"
    tree = json.loads(path.read_text())
    tree["recipe"]["train"]["save_every_minutes"] = 60.0
    path.write_text(json.dumps(tree))
    squint.resume(run.path, quiet=True)
    tree["recipe"]["train"]["epochs"] = 2.0
    path.write_text(json.dumps(tree))
    with pytest.raises(CheckpointError, match=r"train\.epochs was 1\.0, is 2\.0"):
        squint.resume(run.path, quiet=True)


def test_what_a_full_disk_left_of_a_run_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    data, out = small.source(tmp_path), tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(RunError, match="No space left"):
        patch.setattr("squint.runs.os.fsync", full)
        squint.pretrain(data, recipe=small.recipe(), out=out, quiet=True)
    assert squint.pretrain(data, recipe=small.recipe(), out=out, quiet=True).checkpoint.exists()


def test_places_where_no_run_can_be_are_refused_in_a_sentence(tmp_path: Path) -> None:
    data = small.source(tmp_path)
    (tmp_path / "circle").symlink_to(tmp_path / "round")
    (tmp_path / "round").symlink_to(tmp_path / "circle")
    for name in ("circle", "circle/run", "y" * 300):
        with pytest.raises(RunError, match="--out"):
            squint.pretrain(data, recipe=small.recipe(), out=tmp_path / name, quiet=True)


def test_memory_that_ran_out_is_said_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] can't allocate memory: you tried")

    monkeypatch.setattr(importlib.import_module("squint.train.pretrain"), "fit", full)
    with pytest.raises(
        RunError, match=r"does not hold a step with 16 images at once.*--train\.micro-batch"
    ):
        squint.pretrain(
            small.source(tmp_path), recipe=small.recipe(), out=tmp_path / "run", quiet=True
        )


def test_a_signal_in_the_last_step_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep would begin its next run."""
    with monkeypatch.context() as patch:
        stop_in_step(patch, 6, signal.SIGINT)
        with pytest.raises(Interrupted, match=r"after the last step: .* is finished"):
            squint.pretrain(
                small.source(tmp_path), recipe=small.recipe(), out=tmp_path / "run", quiet=True
            )
    assert Run(tmp_path / "run").state()["position"]["step"] == 6


@pytest.mark.parametrize("echo_seconds", [60.0, 0.0])
def test_a_second_signal_stops_at_once_but_an_echo_does_not(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    echo_seconds: float,
) -> None:
    """A process group and `timeout`, `make` or `torchrun` in it may pass one signal on twice."""
    monkeypatch.setattr(signals, "ECHO_SECONDS", echo_seconds)
    recipe = small.recipe(train__save_every_minutes=1e-9)
    kill = os.kill
    monkeypatch.setattr(os, "kill", lambda *whom: (kill(*whom), time.sleep(0.01), kill(*whom)))
    stop_in_step(monkeypatch, 3, signal.SIGTERM)
    said = r"after step 3 of 6 and saved" if echo_seconds else r"at once: what came .*squint resume"
    with pytest.raises(Interrupted, match=said):
        squint.pretrain(small.source(tmp_path), recipe=recipe, out=tmp_path / "run")
    assert "stopping after this step, and saving" in capfd.readouterr().err
    assert Run(tmp_path / "run").state()["position"]["step"] == (3 if echo_seconds else 2)


def test_steps_before_a_stop_are_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small.recipe(train__log_every_steps=4)
    with monkeypatch.context() as patch:
        stop_in_step(patch, 3, signal.SIGINT)
        with pytest.raises(Interrupted):
            squint.pretrain(small.source(tmp_path), recipe=recipe, out=tmp_path / "run", quiet=True)
    run = squint.resume(tmp_path / "run", quiet=True)
    assert [step for step, _ in small.curve(run)] == [3, 4, 6]


def test_a_run_is_trained_by_one_process_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = small.source(tmp_path)
    run = squint.pretrain(data, recipe=small.recipe(), out=tmp_path / "run", quiet=True)
    monkeypatch.setattr(runs, "_PATIENCE_SECONDS", 0.2)
    with runs.alone(run):
        for again in (
            lambda: squint.resume(run, quiet=True),
            lambda: squint.pretrain(
                data, recipe=small.recipe(), out=run.path, overwrite=True, quiet=True
            ),
        ):
            with pytest.raises(RunError, match="is being trained by another process"):
                again()
    assert run.checkpoint.exists()
    squint.resume(run, quiet=True)


def test_what_a_killed_save_left_is_removed(tmp_path: Path) -> None:
    run = squint.pretrain(
        small.source(tmp_path), recipe=small.recipe(), out=tmp_path / "run", quiet=True
    )
    ours = [run.checkpoint.with_name(".last.pt.abcd1234"), run.path / ".encoder.safetensors.a1b2c3"]
    others = [run.path / ".evaluation.json.a1b2c3", run.path / "notes.txt"]
    for path in (*ours, *others):
        path.write_text("half")
    squint.resume(run, quiet=True)
    assert not any(path.exists() for path in ours)
    assert all(path.exists() for path in others)


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no /dev/full")
def test_a_log_that_can_not_be_written_is_said_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = log.Log.__init__

    def onto_a_full_disk(self: log.Log, *arguments: Any, **settings: Any) -> None:
        begin(self, *arguments, **settings)
        self._file.close()
        self._file = Path("/dev/full").open("a")

    monkeypatch.setattr(log.Log, "__init__", onto_a_full_disk)
    with pytest.raises(RunError, match=r"metrics.jsonl could not be written.*squint resume"):
        squint.pretrain(
            small.source(tmp_path), recipe=small.recipe(), out=tmp_path / "run", quiet=True
        )


def test_an_encoder_that_can_not_be_written_is_said_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(RunError, match=r"encoder.safetensors could not be written.*No space"):
        squint.pretrain(
            small.source(tmp_path), recipe=small.recipe(), out=tmp_path / "run", quiet=True
        )
