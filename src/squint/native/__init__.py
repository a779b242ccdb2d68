"""Kernels in C for what torch does slowly on a CPU; optional at install and at run time.

The library is compiled with the package where there is a C compiler (setup.py) and loaded with
ctypes, which releases the interpreter's lock during a call. Without it everything works, slower.
"""

import ctypes
import sysconfig
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from squint.errors import RunError

if TYPE_CHECKING:  # a command that fails early has not waited for torch
    from torch import Tensor

PATH = Path(__file__).with_name(f"_kernels{sysconfig.get_config_var('EXT_SUFFIX')}")
"""Where the library is, if it was built."""

INTERFACE = 6
"""Number of the functions and structures in squint.h: a library with another one is left alone."""


@cache
def library() -> ctypes.CDLL | None:
    """The loaded kernels; None where they were not built, or from other sources than these."""
    try:
        kernels = ctypes.CDLL(str(PATH))
        return kernels if kernels.squint_interface() == INTERFACE else None
    except (OSError, AttributeError):  # no library; one that is older than the number
        return None


def demand() -> ctypes.CDLL:
    """The loaded kernels.

    Raises:
        RunError: They were not built.
    """
    kernels = library()
    if kernels is None:
        raise RunError(
            f"Squint's native kernels are not there ({PATH} is missing, does not load or is out "
            "of date). They are compiled when Squint is installed: install a C compiler (gcc or "
            "clang) and install Squint again, or do without them."
        )
    return kernels


def ask_for_large_pages(fresh: "Tensor") -> "Tensor":
    """The tensor; where it is large and not yet written to, its memory comes sooner."""
    demand().squint_ask_for_large_pages(
        ctypes.c_void_p(fresh.data_ptr()), ctypes.c_int64(fresh.nbytes)
    )
    return fresh


def check(code: int) -> None:
    """Raises what a kernel's return value stands for.

    Raises:
        MemoryError: There was no room for its scratch memory.
    """
    if code:
        raise MemoryError("a native kernel found no room for its scratch memory")


class Images(ctypes.Structure):
    """8-bit pixels anywhere in memory; see squint.h."""

    _fields_ = (
        ("pixels", ctypes.c_void_p),
        ("image_stride", ctypes.c_int64),
        ("channel_stride", ctypes.c_int64),
        ("row_stride", ctypes.c_int64),
        ("pixel_stride", ctypes.c_int64),
        ("channels", ctypes.c_int32),
        ("height", ctypes.c_int32),
        ("width", ctypes.c_int32),
    )


class Window(ctypes.Structure):
    """Part of an image, in its pixels."""

    _fields_ = (
        ("top", ctypes.c_double),
        ("left", ctypes.c_double),
        ("height", ctypes.c_double),
        ("width", ctypes.c_double),
    )


class Crop(ctypes.Structure):
    """Where uint8 results go."""

    _fields_ = (
        ("pixels", ctypes.c_void_p),
        ("channel_stride", ctypes.c_int64),
        ("row_stride", ctypes.c_int64),
        ("pixel_stride", ctypes.c_int64),
    )
