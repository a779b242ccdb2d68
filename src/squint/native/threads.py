"""Kernels side by side: threads take a share of the rows each, as many as torch uses itself."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch


def in_shares(n: int, share: Callable[[int, int], None], *, least: int) -> None:
    """Calls `share(first, last)` for parts of 0..n, side by side in torch's number of threads.

    Args:
        n: how many rows or images there are.
        share: works on first <= number < last.
        least: rows or images that are worth a thread.
    """
    threads = min(torch.get_num_threads(), n // least)
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
