"""In which precision a device multiplies fastest."""

from typing import Any, Literal

import torch

Precision = Literal["float32", "bfloat16"]


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
