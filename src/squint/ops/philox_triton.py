"""`philox.words` on CUDA in one launch: torch's integer operations would take a hundred.

Triton has the same generator; its words are the reference's to the bit.
"""

import os
import warnings
from functools import cache
from importlib.util import find_spec

import torch
from jaxtyping import Int64
from torch import Tensor

from squint.ops import philox


def missing(device: torch.device) -> str:
    """Why the kernel can't draw on this device, in a few words; empty if it can."""
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if device.type != "cuda" and not interpreted:
        return f"its kernel runs on CUDA, the codes lie on {device}"
    if find_spec("triton") is None:
        return "the package triton is not installed"
    return "" if interpreted else _trial(device)


def words(
    key: Int64[Tensor, ""], *counters: Int64[Tensor, "..."]
) -> tuple[philox.Words, philox.Words, philox.Words, philox.Words]:
    """As `philox.words`, for counters of one or two dimensions."""
    from squint.ops import philox_triton_kernel as kernel

    w0, w1, w2, w3 = kernel.words(key, *counters)
    return w0, w1, w2, w3


@cache
def _trial(device: torch.device) -> str:
    """Compile and run the kernel once; what went wrong, said once, or nothing."""
    counter = torch.arange(3, device=device)
    arguments = (counter[0], counter, counter, counter, counter)
    try:
        right = map(torch.equal, words(*arguments), philox.words(*arguments))
        reason = "" if all(right) else "it gives other words than torch"
    except Exception as error:  # whatever the compiler or the driver does not like
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    if reason:
        warnings.warn(
            f"the Triton kernel of the sampler does not run here ({reason}); random numbers are "
            "computed by torch instead, the same ones.",
            stacklevel=2,
        )
    return reason
