"""Kernels side by side: threads take a share of the rows each, as many as torch uses itself.

They are torch's own threads, where its OpenMP can be reached. Those go on spinning for milliseconds
after each operation of torch; other threads would wait for the cores they spin on.
"""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from itertools import pairwise
from typing import Any

import torch

_Share = Callable[[int, int], None]
_PROCESS = os.getpid()
_Body = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def in_shares(n: int, share: _Share, *, least: int) -> None:
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
    shares = list(pairwise(bounds))
    openmp = _openmp() if os.getpid() == _PROCESS else None  # its threads don't survive a fork
    if openmp is None:
        pool = _threads(threads, os.getpid())
        futures = [pool.submit(share, *part) for part in shares]
        wait(futures)  # before anything is raised: kernels write into tensors of the caller
        for future in futures:
            future.result()
    else:
        _in_openmp(openmp, share, shares)


def _in_openmp(openmp: ctypes.CDLL, share: _Share, shares: list[tuple[int, int]]) -> None:
    errors: list[BaseException] = []
    left = set(shares)

    def body(_: Any) -> None:
        try:
            # the team may be smaller than asked for
            mine = shares[openmp.omp_get_thread_num() :: openmp.omp_get_num_threads()]
            for part in mine:
                share(*part)
                left.remove(part)
        except BaseException as error:  # ctypes would print it and go on
            errors.append(error)

    openmp.GOMP_parallel(_Body(body), None, len(shares), 0)
    if errors:
        raise errors[0]
    if left:  # Ctrl-C came as `body` was entered, and ctypes went on
        raise KeyboardInterrupt


@cache
def _openmp() -> ctypes.CDLL | None:
    """GNU OpenMP as torch has loaded it, or a library that answers to its names."""
    names = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
    if "parallel backend: OpenMP" not in torch.__config__.parallel_info():
        return None
    try:
        everything = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows
        return None
    return everything if all(hasattr(everything, name) for name in names) else None


@cache
def _threads(count: int, process: int) -> ThreadPoolExecutor:
    """Threads that wait for work; those of a parent process are lost to its forked children."""
    return ThreadPoolExecutor(count, thread_name_prefix="kernels")
