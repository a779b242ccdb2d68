"""Kernels side by side: threads take a share of the rows each, as many as torch uses itself."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache

import torch


@contextmanager
def threads_to_kernels() -> Iterator[int]:
    """Torch computes in one thread meanwhile; gives the number it had, for `in_shares`.

    Torch's threads go on spinning for milliseconds after each operation, on the cores that
    kernels called between operations need.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def in_shares(
    n: int, share: Callable[[int, int], None], *, least: int, threads: int | None = None
) -> None:
    """Calls `share(first, last)` for parts of 0..n, side by side in torch's number of threads.

    Args:
        n: how many rows or images there are.
        share: works on first <= number < last.
        least: rows or images that are worth a thread.
        threads: default: as many as torch uses itself.
    """
    threads = min(threads or torch.get_num_threads(), n // least)
    if threads <= 1:
        return share(0, n)
    bounds = [n * part // threads for part in range(threads + 1)]
    pool = _threads(threads, os.getpid())
    for _ in pool.map(share, bounds[:-1], bounds[1:]):
        pass


@cache
def _threads(count: int, process: int) -> ThreadPoolExecutor:
    """Threads that wait for work; those of a parent process are lost to its forked children."""
    return ThreadPoolExecutor(count, thread_name_prefix="kernels")
