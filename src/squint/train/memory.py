"""Freed memory is kept for the next step instead of being handed back to the system.

A step on a CPU frees what it allocated, some hundred MB, and the next one allocates it again. The
GNU C library gives much of that back to the kernel, which has to clear every page anew: 5 to 10 %
of the time of a step (docs/speed.md). The peak stays about what it was.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from squint.errors import RunError
from squint.recipe import Recipe

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # malloc.h

_MEBIBYTE = 2**20


@contextmanager
def explained(recipe: Recipe, device: torch.device) -> Iterator[None]:
    """Say in a sentence that memory ran out inside, and what takes less of it.

    Raises:
        RunError: it did.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        out = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not (out or "can't allocate memory" in str(error)):
            raise
        train, views = recipe.train, recipe.views
        raise RunError(
            f"The memory of {device} does not hold a step of {train.batch_size} images in two "
            f"views of {views.size} px through {recipe.encoder.name}. Give "
            f"--train.micro-batch-size {max(2, train.batch_size // 4)} (the same step, in pieces), "
            "a smaller --batch-size, or a smaller encoder."
        ) from None


@contextmanager
def kept() -> Iterator[None]:
    """Keep freed memory inside; hand it back on leaving. Does nothing without the GNU C library."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not (hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim")):
        yield
        return
    assert libc is not None, "it has these functions"
    libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(_MMAP_MAX, 0)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_MAX, 65536)
        libc.mallopt(_MMAP_THRESHOLD, 32 * _MEBIBYTE)  # where glibc's own rule ends up
        libc.mallopt(_TRIM_THRESHOLD, 64 * _MEBIBYTE)
        libc.malloc_trim(0)
