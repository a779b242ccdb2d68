"""Work shared out over threads."""

import ctypes
import multiprocessing
import os
import threading
import time
from typing import Any
from unittest.mock import create_autospec

import pytest
import torch

from squint.native import threads
from squint.native.threads import in_shares


def test_shares_cover_all_once_and_small_work_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    for n, parts in ((0, 1), (19, 1), (20, 2), (35, 3), (100, 3)):
        shares: list[tuple[int, int]] = []
        in_shares(n, lambda *share, to=shares: to.append(share), least=10)
        assert len(shares) == parts
        assert sorted(i for first, last in shares for i in range(first, last)) == list(range(n))


@pytest.mark.parametrize("openmp", [True, False])
def test_an_error_in_a_share_is_that_of_the_call(
    monkeypatch: pytest.MonkeyPatch, openmp: bool
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    if not openmp:
        monkeypatch.setattr(threads, "_openmp", lambda: None)

    def share(first: int, _: int) -> None:
        if first:
            raise ValueError("the second share")

    with pytest.raises(ValueError, match="the second share"):
        in_shares(64, share, least=16)


@pytest.mark.parametrize("openmp", [True, False])
def test_shares_run_side_by_side(monkeypatch: pytest.MonkeyPatch, openmp: bool) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    if not openmp:
        monkeypatch.setattr(threads, "_openmp", lambda: None)
    meet = threading.Barrier(2)
    in_shares(64, lambda first, last: meet.wait(10) and None, least=16)


def test_an_error_leaves_when_all_shares_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels write into tensors that the caller would drop."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(threads, "_openmp", lambda: None)
    failed, ended = threading.Event(), threading.Event()

    def share(first: int, _: int) -> None:
        if first == 0:
            failed.set()
            raise ValueError("the first share")
        failed.wait(10)
        time.sleep(0.05)
        ended.set()

    with pytest.raises(ValueError, match="the first share"):
        in_shares(64, share, least=16)
    assert ended.is_set()


def test_a_share_that_ctrl_c_kept_from_running_is_not_taken_for_done() -> None:
    """Ctypes prints what is raised as a callback is entered, and goes on."""
    done: list[tuple[int, int]] = []
    openmp = create_autospec(ctypes.CDLL, instance=True)
    openmp.omp_get_thread_num, openmp.omp_get_num_threads = lambda: 0, lambda: 2
    openmp.GOMP_parallel = lambda body, *_: body(None)  # of two threads, one

    with pytest.raises(KeyboardInterrupt):
        threads._in_openmp(openmp, lambda *part: done.append(part), [(0, 32), (32, 64)])
    assert done == [(0, 32)]


def _shares_in_child(send: Any) -> None:
    shares: list[int] = []
    in_shares(64, lambda first, last: shares.append(last - first), least=16)
    send.send(sorted(shares))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    in_shares(64, lambda first, last: None, least=16)  # the parent's exist before the fork
    here, there = multiprocessing.Pipe()
    fork = multiprocessing.get_context("fork")
    child = fork.Process(target=_shares_in_child, args=(there,), daemon=True)
    child.start()
    assert here.poll(20), "the child waits for its parent's threads"
    assert here.recv() == [32, 32]
    child.join()
