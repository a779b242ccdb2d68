"""Which device computes, in which precision, and how tensors get there."""

from typing import Any, Literal

import torch
from torch import Tensor

from squint.errors import RecipeError, RunError

Precision = Literal["float32", "bfloat16"]


def choose_device(name: str, *, local_rank: int = 0, mps: bool = True) -> torch.device:
    """The device asked for; auto prefers CUDA, then MPS, then the CPU.

    Args:
        name: auto, cpu, cuda, cuda:1 or mps.
        local_rank: which CUDA device of this machine `auto` and `cuda` mean.
        mps: whether auto may choose it.

    Raises:
        RecipeError: torch does not know such a device.
        RunError: this machine does not have it.
    """
    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if has_cuda else "mps" if has_mps and mps else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise RecipeError(
            f"--device {name!r} is not a device. Use auto, cpu, cuda, cuda:1 or mps."
        ) from None
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", local_rank)
    here = {"cpu": True, "mps": has_mps, "cuda": (device.index or 0) < torch.cuda.device_count()}
    if not here.get(device.type, False):
        raise RunError(
            f"--device {name!r} is not on this machine ({torch.cuda.device_count()} CUDA devices). "
            "Use --device auto or --device cpu."
        )
    return device


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device, without the host waiting for what the device still has to do.

    A plain `.to` of what lies on the CPU, or `torch.tensor(..., device=...)`, would wait for CUDA.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def choose_precision(name: str, device: torch.device) -> Precision:
    """The precision asked for; auto is bfloat16 where the device multiplies it in hardware.

    Emulated bfloat16 is no gain but a loss: on a CPU with AVX2 alone it is some hundred times
    slower than float32.
    """
    if name == "float32" or name == "bfloat16":
        return name
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        fast = device.type == "cpu" and _cpu_multiplies_bfloat16()
    return "bfloat16" if fast else "float32"


def _cpu_multiplies_bfloat16() -> bool:
    probes: list[Any] = [
        getattr(torch.cpu, name, None)
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    ]
    return any(probe() for probe in probes if probe is not None)
