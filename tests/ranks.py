"""Two processes with a gloo process group, started once per test session and reused.

    def _work(x):                       # at module level: it is sent by its import path
        return rows(x + rank())

    @pytest.mark.ranks
    def test_rows(ranks):               # the fixture of conftest.py
        first, second = ranks(_work, torch.zeros(2, 3))

Every call begins with seed 0, one thread, and shape checks and warnings as strict as in the test
process. If one rank fails, both are ended (the other may be waiting for it for ever), the error
carries the rank's traceback, and the next call starts afresh.
"""

import datetime
import multiprocessing
import os
import pickle
import tempfile
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

TIMEOUT_SECONDS = 120.0


class RankPool:
    """Processes of one gloo group, waiting for functions to run."""

    def __init__(self, size: int = 2) -> None:
        self.size = size
        self._processes: list[BaseProcess] = []
        self._pipes: list[Connection] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __call__(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """Run `function(*args)` on every rank at once; the results in rank order."""
        self.start()
        job = pickle.dumps((function, args))
        for pipe in self._pipes:
            pipe.send_bytes(job)
        try:
            return self._collect()
        except BaseException:
            self.stop()
            raise

    def start(self) -> None:
        """Start the processes unless they run; returns at once, they take seconds to be ready."""
        if self._processes:
            return
        self._folder = tempfile.TemporaryDirectory()
        context = multiprocessing.get_context("forkserver")  # both share one import of torch
        context.set_forkserver_preload(["torch", "torch.distributed", "beartype", "jaxtyping"])
        for rank in range(self.size):
            ours, theirs = context.Pipe()
            arguments = (rank, self.size, self._folder.name, theirs)
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
            self._pipes.append(ours)

    def stop(self) -> None:
        """End the processes; the next call starts new ones."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(timeout=0.5)  # an idle rank leaves when its pipe closes
            process.kill()
            process.join()
        self._processes, self._pipes = [], []
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _collect(self) -> list[Any]:
        results: dict[int, Any] = {}
        while len(results) < self.size:
            waiting = [pipe for i, pipe in enumerate(self._pipes) if i not in results]
            ready = wait(waiting, TIMEOUT_SECONDS)
            if not ready:
                raise TimeoutError(f"No rank has answered for {TIMEOUT_SECONDS:.0f} s.")
            for pipe in ready:
                rank = self._pipes.index(pipe)  # pyright: ignore[reportArgumentType]
                try:
                    ok, value = pickle.loads(self._pipes[rank].recv_bytes())
                except EOFError:
                    raise RuntimeError(f"Rank {rank} died without a word.") from None
                if not ok:
                    raise RuntimeError(f"Rank {rank} failed:\n{value}")
                results[rank] = value
        return [results[rank] for rank in range(self.size)]


def _serve(rank: int, size: int, folder: str, pipe: Connection) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    import jaxtyping

    jaxtyping.install_import_hook("squint", "beartype.beartype")
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=(Path(folder) / "rendezvous").as_uri(),
        rank=rank,
        world_size=size,
        timeout=datetime.timedelta(seconds=TIMEOUT_SECONDS),
    )
    while True:
        try:
            job = pipe.recv_bytes()
        except EOFError:
            break
        pipe.send_bytes(_answer(job))
    dist.destroy_process_group()


def _answer(job: bytes) -> bytes:
    """Run one pickled (function, args); pickled (True, result) or (False, traceback)."""
    import torch

    try:
        torch.manual_seed(0)
        function, args = pickle.loads(job)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return pickle.dumps((True, function(*args)))
    except Exception:
        return pickle.dumps((False, traceback.format_exc()))
