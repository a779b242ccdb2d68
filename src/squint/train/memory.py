"""The memory of a step: how much is free, how much a graph keeps, and keeping what is freed.

A step on a CPU frees what it allocated, some hundred MB, and the next one allocates it again. The
GNU C library gives much of that back to the kernel, which has to clear every page anew: 5 to 10 %
of the time of a step (docs/speed.md). `freed_memory_kept` avoids that; the peak stays about what it
was.
"""

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # malloc.h

_MEBIBYTE = 2**20

_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")  # of a container: memory.max, memory.current, memory.stat


def free_bytes() -> int | None:
    """Memory of this machine, or of this container, that nobody needs; None where nobody says."""
    found: list[int] = []
    try:
        found.append(1024 * _numbers(_MEMINFO)["MemAvailable:"])
        most, used = (int((_GROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        files = _numbers(_GROUP / "memory.stat")  # copies of files are given up when asked for
        found.append(most - used + files["active_file"] + files["inactive_file"])
    except (OSError, ValueError, KeyError):  # no Linux, no container, or no limit ("max")
        pass
    return min(found, default=None)


def _numbers(table: Path) -> dict[str, int]:
    """The first number of each line, by its first word."""
    lines = (line.split() for line in table.read_text().splitlines())
    return {words[0]: int(words[1]) for words in lines}


def graph_bytes(model: nn.Module, forward: Callable[[], object]) -> int:
    """Bytes that a forward pass keeps for its backward pass, parameters not counted."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}  # by storage, which lives as long as its tensor

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep what is freed inside for the next step, and give it back on leaving.

    Does nothing without the GNU C library.
    """
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
