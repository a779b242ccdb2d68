"""Batches in memory that the training process and its workers share.

Allocated once and used again and again: a batch is written where it is read, nothing is pickled or
copied between processes, and no page is given back and fetched anew at every step. A GPU fetches
batches out of the same memory, which is pinned for it once.

The memory has no name and is no file in /dev/shm (in containers often 64 MB, beyond which a process
is killed by a bus error). The system takes it back when the last process ends, however it ends.
"""

import contextlib
import mmap
import os
import warnings
import weakref
from collections.abc import Set
from dataclasses import dataclass
from multiprocessing import reduction
from multiprocessing.shared_memory import SharedMemory
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from squint.shapes import Rows

_WORD = 8
"""Bytes of a row."""


class Batch(NamedTuple):
    """What lies in one slot of the ring."""

    rows: Rows
    """(n,) of the images, written by whoever asks, overwritten by stand-ins."""
    data: Tensor
    """(n, ...) what the transform made of them."""


@dataclass(frozen=True)
class Layout:
    """What a slot holds."""

    count: int
    """Images in a batch."""
    shape: tuple[int, ...]
    """Of what the transform makes of one."""
    dtype: torch.dtype

    @property
    def data_bytes(self) -> int:
        """Of a batch without its rows."""
        return self.count * int(np.prod(self.shape)) * self.dtype.itemsize

    @property
    def slot_bytes(self) -> int:
        """Of a batch and its rows, in whole pages."""
        needed = self.data_bytes + _WORD + self.count * _WORD
        return -(-needed // mmap.PAGESIZE) * mmap.PAGESIZE

    def batch(self, memory: Any, slot: int) -> Batch:
        """The tensors of a slot, on the memory itself."""
        start = slot * self.slot_bytes
        data = torch.frombuffer(memory, dtype=torch.uint8, offset=start, count=self.data_bytes)
        rows_start = start + -(-self.data_bytes // _WORD) * _WORD
        rows = torch.frombuffer(memory, dtype=torch.int64, offset=rows_start, count=self.count)
        return Batch(rows, data.view(self.dtype).view(self.count, *self.shape))


class Ring:
    """Slots for batches. A slot takes memory from `open` to `close`, not before and not after.

    Pickles into other processes, while they are being started, and is the same memory there.
    """

    def __init__(self, layout: Layout, slots: int, *, pinned: bool = False) -> None:
        """Set room aside for `slots`; none of it is taken yet.

        Args:
            layout: of every slot.
            slots: most that can be open.
            pinned: whether open slots are pinned for CUDA.

        Raises:
            OSError: The system has no such memory.
        """
        self._layout = layout
        self._bytes = slots * layout.slot_bytes
        self._pin = pinned
        self._opened: set[int] = set()
        self._pinned: set[int] = set()
        self._map(_nameless_memory(self._bytes))

    def open(self, slot: int) -> None:
        """Take memory for a slot, unless it has some.

        Raises:
            OSError: There is not enough; writing to the slot would kill the process.
        """
        if slot in self._opened:
            return
        size = self._layout.slot_bytes
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._descriptor, slot * size, size)
        self._opened.add(slot)
        if self._pin and _pinned(self._address(slot), size):
            self._pinned.add(slot)

    def close(self, slot: int) -> None:
        """Give a slot's memory back to the system, where that is possible."""
        if slot not in self._opened:
            return
        self._opened.discard(slot)
        self._unpin({slot})
        if hasattr(mmap, "MADV_REMOVE"):
            size = self._layout.slot_bytes
            self._memory.madvise(mmap.MADV_REMOVE, slot * size, size)

    def end(self) -> None:
        """No slot is pinned any more; memory is taken back when its last tensor is gone."""
        self._unpin(self._opened)

    def _unpin(self, slots: Set[int]) -> None:
        for slot in self._pinned & slots:
            _cudart().cudaHostUnregister(self._address(slot))
        self._pinned -= slots

    def __getitem__(self, slot: int) -> Batch:
        return self._layout.batch(self._memory, slot)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "layout": self._layout,
            "bytes": self._bytes,
            "descriptor": reduction.DupFd(self._descriptor),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._layout, self._bytes = state["layout"], state["bytes"]
        self._map(state["descriptor"].detach())

    def _map(self, descriptor: int) -> None:
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)
        self._memory = mmap.mmap(descriptor, self._bytes)

    def _address(self, slot: int) -> int:
        return self[slot].data.data_ptr()


def _nameless_memory(size: int) -> int:
    """Descriptor of so many bytes that nobody else can find."""
    if hasattr(os, "memfd_create"):
        with contextlib.suppress(OSError):  # some sandboxes refuse it
            descriptor = os.memfd_create("squint-batches")
            os.ftruncate(descriptor, size)
            return descriptor
    memory = SharedMemory(create=True, size=size)
    try:
        return os.dup(memory._fd)  # pyright: ignore[reportAttributeAccessIssue]
    finally:
        memory.unlink()
        memory.close()


def _pinned(address: int, size: int) -> bool:
    """Pin memory that is there already; says so if that fails."""
    code = int(_cudart().cudaHostRegister(address, size, 0))
    if code:
        warnings.warn(
            f"CUDA pins no memory of the loader (error {code}): copies of batches to the GPU are "
            "slower and stop the training step.",
            stacklevel=2,
        )
    return not code


def _cudart() -> Any:
    return torch.cuda.cudart()
