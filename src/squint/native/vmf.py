"""Draws from the von Mises-Fisher law, compiled: what squint.ops.vmf_sampler puts together.

Rows are contiguous float32 on the CPU. The numbers are those of squint.ops.vmf_variates and
`reflect`, up to rounding; they don't depend on the number of threads.
"""

import ctypes
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from squint import native
from squint.native.threads import in_shares

_LEAST_SHARE = 2**18  # numbers that are worth a thread


class Source(ctypes.Structure):
    """Where a draw's random numbers come from; `Noise` in squint.h."""

    _fields_ = (("key", ctypes.c_int64), ("first", ctypes.c_int64))


class Angles(NamedTuple):
    """Of n draws to their means."""

    gap: Float64[Tensor, " n"]
    """1 - cosine, without cancellation."""
    cosine: Float32[Tensor, " n"]
    sine: Float32[Tensor, " n"]


def angles(source: Source, kappa: Float64[Tensor, " k"], n: int, dim: int) -> Angles:
    """Angles to their means of n draws; one concentration for all, or one per row.

    Raises:
        RunError: The kernels were not built.
        ValueError: Another number of concentrations.
    """
    kernel = native.demand().squint_vmf_angles
    if len(kappa) not in (1, n):
        raise ValueError(f"{len(kappa)} concentrations do not fit {n} rows")
    kappa = kappa.contiguous()
    drawn = Angles(torch.empty(n, dtype=torch.float64), *torch.empty(2, n, dtype=torch.float32))
    step = int(len(kappa) > 1)
    _run(kernel, (ctypes.byref(source), kappa, step, dim, *drawn), n, dim)
    return drawn


def place(
    source: Source,
    mu: Float[Tensor, "n d"],
    cosine: Float[Tensor, " n"],
    sine: Float[Tensor, " n"],
) -> Float[Tensor, "n d"]:
    """Unit rows at the given angles to unit rows `mu`, in uniform directions away from them."""
    kernel = native.demand().squint_vmf_place
    n, dim = mu.shape
    rows = [x.contiguous() for x in (mu, cosine, sine)]
    z = native.ask_for_large_pages(torch.empty(n, dim, dtype=torch.float32))
    _run(kernel, (ctypes.byref(source), rows[0], dim, rows[1], rows[2], z), n, dim)
    return z


def mean_gradient(
    mu: Float[Tensor, "n d"], z: Float[Tensor, "n d"], grad: Float[Tensor, "n d"]
) -> Float[Tensor, "n d"]:
    """Gradient in mu of what has gradient `grad` in the rows z that `place` made."""
    kernel = native.demand().squint_vmf_mean_gradient
    n, dim = mu.shape
    rows = [x.contiguous() for x in (mu, z, grad)]
    result = native.ask_for_large_pages(torch.empty(n, dim, dtype=torch.float32))
    _run(kernel, (*rows, dim, result), n, dim)
    return result


def _run(kernel: Any, arguments: tuple[Any, ...], n: int, dim: int) -> None:
    """Calls the kernel for all rows; the tensors live on until then."""
    values = [_argument(argument) for argument in arguments]

    def share(begin: int, end: int) -> None:
        native.check(kernel(*values, ctypes.c_int64(begin), ctypes.c_int64(end)))

    in_shares(n, share, least=max(1, _LEAST_SHARE // dim))


def _argument(value: Any) -> Any:
    if isinstance(value, Tensor):
        return ctypes.c_void_p(value.data_ptr())
    return ctypes.c_int64(value) if isinstance(value, int) else value
