"""Freed memory is kept for the next step instead of being handed back to the system.

A step on a CPU frees what it allocated, some hundred MB, and the next one allocates it again. The
GNU C library gives much of that back to the kernel, which has to clear every page anew: 5 to 10 %
of the time of a step (docs/speed.md). The peak stays about what it was.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # malloc.h

_MEBIBYTE = 2**20


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
