"""Triton's interpreter, which runs kernels without a GPU, in a process of its own."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")

needs_loops = pytest.mark.skipif(
    torch.__version__ < "2.12", reason="the interpreter of its Triton takes no loop bounds"
)


def run_interpreted(code: str) -> None:
    """Run code that compares kernels with something and ends by printing "equal"."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ
        | {
            "TRITON_INTERPRET": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
    )
    assert done.stdout == "equal\n", done.stderr
