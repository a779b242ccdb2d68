"""Seconds from the command to the help text, and to the first finished training step.

    python benchmarks/startup.py [--data SRC] [--recipe simclr@tiny] [--quick] [--write]

Every turn starts a new process. The first step is done when its line stands in metrics.jsonl, so
the figure holds imports, reading the images, building the method, and one step. Files and byte
code are in the machine's cache after the first turn, which is not counted.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import side_by_side
from side_by_side import Case, Section

SQUINT = (sys.executable, "-m", "squint")
PATIENCE_SECONDS = 300.0


def main() -> None:
    """Time the three commands in turn and print the table."""
    options = side_by_side.options(__doc__, data="demo", recipe="simclr@tiny")
    cases = [
        Case("squint --help", lambda: _run(*SQUINT, "--help")),
        Case("import torch", lambda: _run(sys.executable, "-c", "import torch")),
        Case("first step", lambda: first_step(options.recipe, options.data, options.threads)),
    ]
    timings = side_by_side.measure(cases, seconds=options.seconds)
    title = f"Start-up, {options.recipe} on {Path(options.data).name}"
    side_by_side.report("startup", [Section(title, timings, against="import torch")], options)


def first_step(recipe: str, data: str, threads: int) -> None:
    """Start a run, wait until its first step is recorded, and stop it."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = (*SQUINT, "pretrain", recipe, "--data", data, "--out", str(out))
        environment = {"OMP_NUM_THREADS": str(threads)}
        process = subprocess.Popen(
            [*command, "--train.log-every-steps", "1"],
            stdout=subprocess.DEVNULL,
            env=os.environ | environment,
        )
        try:
            _await_line(out / "metrics.jsonl", process)
        finally:
            process.kill()
            process.wait()


def _await_line(path: Path, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not (path.exists() and path.stat().st_size):
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"no training step was taken (status {process.poll()})")
        time.sleep(0.01)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
