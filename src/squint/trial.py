"""Whether Triton kernels run on a device: tried out once, and said once if they do not."""

import os
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Any

import torch


def interpreted() -> bool:
    """Whether Triton runs kernels by its interpreter, on any device, for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def absent(device: torch.device) -> str:
    """Why there can be no kernels for what lies on a device, in a few words; empty if there can."""
    if device.type != "cuda" and not interpreted():
        return f"its kernels run on CUDA, the tensors lie on {device}"
    return "" if find_spec("triton") else "the package triton is not installed"


def on(device: torch.device) -> AbstractContextManager[Any]:
    """Launch kernels inside on this device: Triton takes the current one, wherever tensors lie."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def failure(run: Callable[[], str], *, of: str, instead: str) -> str:
    """What is wrong with kernels that are tried out, said in a warning; empty if nothing is.

    Args:
        run: compiles and runs them on a little, and says what is wrong; whatever compiler or
            driver raise is wrong too.
        of: what the kernels make.
        instead: who makes it then, and at what price.
    """
    try:
        reason = run()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    if reason:
        warnings.warn(
            f"the Triton kernels of {of} do not run here ({reason}); {instead}.", stacklevel=3
        )
    return reason
