"""Uniform random numbers that are a function of their place alone.

SplitMix64 (Steele, Lea & Flood 2014) read at any position instead of in sequence: a stream is
hashed from (seed, epoch, view), every image has a stream of its own in it, and draw j of an image
is the j-th number of that. Integer arithmetic only, so all devices, and the compiled kernel for
the CPU, agree on every bit.
"""

import ctypes
from typing import TypeVar

import torch
from jaxtyping import Float64
from torch import Tensor

from squint import native
from squint.shapes import Rows

_GAMMA = 0x9E3779B97F4A7C15 - 2**64
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64

Integer = TypeVar("Integer", int, Tensor)


def stream(*numbers: int) -> int:
    """Hashes integers, in order, to the key of a stream; only their lowest 64 bits count."""
    key = 0
    for number in numbers:
        key = _mix((key ^ number) + _GAMMA)
    return (key + 2**63) % 2**64 - 2**63  # as a signed 64-bit integer


def uniform(key: int, index: Rows, first: int, count: int) -> Float64[Tensor, "n {count}"]:
    """Draws `first` to `first + count - 1` of every image, in [0, 1) with 53 random bits.

    Args:
        key: From `stream`.
        index: Number of each image in its source.
        first: Number of the first draw; draw j is the same whichever range asks for it.
        count: Draws per image.
    """
    kernels = native.library() if index.device.type == "cpu" else None
    if kernels is not None:
        return _compiled(kernels, key, index, first, count)
    image = _mix((index + 1) * _GAMMA + key)  # (n,)
    draws = torch.arange(first + 1, first + count + 1, device=index.device) * _GAMMA
    bits = _mix(image[:, None] + draws)  # (n, count)
    return _shift_right(bits, 11).double() * 2.0**-53


def _compiled(
    kernels: ctypes.CDLL, key: int, index: Rows, first: int, count: int
) -> Float64[Tensor, "n {count}"]:
    rows = index.to(torch.int64).contiguous()
    draws = torch.empty(len(rows), count, dtype=torch.float64)
    numbers = (key, rows.data_ptr(), len(rows), first, count, draws.data_ptr())
    kernels.squint_uniform(*map(ctypes.c_int64, numbers))
    return draws


def _mix(x: Integer) -> Integer:
    """The finaliser of SplitMix64, in the lowest 64 bits; int64 tensors wrap around."""
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


def _shift_right(x: Integer, by: int) -> Integer:
    """Shifts zeros in at bit 63; the shift of signed integers copies the sign."""
    return (x >> by) & (2 ** (64 - by) - 1)
