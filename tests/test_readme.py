"""What the README tells a newcomer to type works as written."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from squint import presets
from squint.cli import USAGE

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^squint (.+?)\s*(?:#.*)?$", README, flags=re.MULTILINE)


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("command", COMMANDS)
def test_verbs_and_recipes_exist(command: str) -> None:
    verb, *rest = command.split()
    assert f"squint {verb}" in USAGE
    if verb in ("pretrain", "recipes"):
        presets.load(rest[0])


def test_make_targets_and_files_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert f"\n{target}:" in makefile
    for path in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"`((?:methods|compression|ops|train|views)/\w+\.py)`", README):
        assert (ROOT / "src" / "squint" / path).exists(), path


@pytest.mark.slow
def test_the_python_example_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.+?)```", README, flags=re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env=os.environ | {"SQUINT_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "nats beyond what the views share" in done.stdout


@pytest.mark.slow
def test_two_processes_under_torchrun_train_like_one(tmp_path: Path) -> None:
    """The command line under torchrun: same curve as alone, global batch norm included."""
    flags = (
        "pretrain c-simclr@tiny --data demo --epochs 0.2 --optim.warmup-epochs 0.1 "
        "--encoder.width 0.125 --batch-size 64 --train.log-every-steps 1 "
        "--train.precision float32 --device cpu --train.knn-every-epochs 0 --out"
    ).split()
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    for name, head in (
        ("one", [sys.executable, "-m", "squint"]),
        ("two", [*launcher, "--nproc-per-node", "2", "-m", "squint"]),
    ):
        done = subprocess.run(
            [*head, *flags, str(tmp_path / name)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    from squint.runs import Run

    one, two = (Run(tmp_path / name).records() for name in ("one", "two"))
    assert len(one) == len(two) == 16
    # later the last bits, added in another order, have grown: training is chaotic
    for alone, shared in zip(one[:4], two[:4], strict=True):
        for name in ("loss", "contrast_nats", "rate_nats", "grad_norm"):
            assert shared[name] == pytest.approx(alone[name], rel=1e-4), name
