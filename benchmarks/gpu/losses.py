"""Contrastive losses, forward and backward, on one CUDA device: time and memory beside others.

    python benchmarks/gpu/losses.py [--minutes 8] [--quick] [--write]

Times are those of CUDA events, memory is what a pass adds to the allocator's peak. Each pass is
taken in turn with the others, as in benchmarks/losses.py. What fails for want of memory is named.
--smallest and --largest do it in pieces; --device cpu --quick tries it without CUDA.
"""

import importlib
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import side_by_side
import torch
from side_by_side import Case, Section, Timing
from torch import Tensor

from squint.ops import contrast

cpu: Any = importlib.import_module("losses")  # benchmarks/losses.py, of the same name as this file
Loss = Callable[..., Tensor]

LEAST_ROUNDS = 5


def main() -> None:
    """Measure every size in turn until the minutes are spent; print a table for each."""
    options = side_by_side.options(
        __doc__, device="cuda", dimensions=128, smallest=256, largest=65536, minutes=8.0
    )
    if options.device == "cuda" and not torch.cuda.is_available():
        print(
            "There is no CUDA device here: this benchmark needs one; try it with --device cpu "
            "--quick, and see benchmarks/losses.py for CPUs.",
            file=sys.stderr,
        )
        sys.exit(2)
    if options.device == "cpu":
        options.largest = min(options.largest, 1024)
    end = time.monotonic() + 60 * options.minutes
    for n in (256, 1024, 4096, 16384, 65536):
        if options.smallest <= n <= options.largest and time.monotonic() < end:
            section = compare(n, options.dimensions, options.device, options.seconds / 4)
            side_by_side.report("gpu_losses", [section], options)
            options.keep = True  # each table is written when it is there


def compare(n: int, d: int, device: str, seconds: float) -> Section:
    """Every loss at one size, in turn."""
    plain = [x.detach().to(device).requires_grad_() for x in cpu.codes(n, d, 4)]
    cases = {name: cpu.passes(loss, plain[:2]) for name, loss in losses(n, device).items()}
    cases["squint, CEB (anchors are draws)"] = cpu.passes(on("auto"), plain)
    memory: dict[str, str] = {}
    taken: dict[str, list[float]] = {}
    failures: dict[str, str] = {}
    for name, run in cases.items():
        try:
            memory[name] = added(run, device)
            taken[name] = []
        except Exception as error:  # out of memory, not installed, not for this device
            failures[name] = f"{type(error).__name__}: {error}".splitlines()[0][:100]
    end = time.monotonic() + seconds
    while taken and (time.monotonic() < end or len(next(iter(taken.values()))) < LEAST_ROUNDS):
        for name in taken:
            taken[name].append(seconds_of(cases[name], device))
    timings = [
        Timing(name, 1, tuple(taken.get(name, ())), failures.get(name, "")) for name in cases
    ]
    where = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    return Section(f"NT-Xent, N = {n:,}, d = {d}, {where}", timings, "lightly", memory)


def losses(n: int, device: str) -> dict[str, Loss]:
    """Ours by every path, and the peers that can hold so many similarities."""
    found: dict[str, Loss] = {"squint": on("auto"), "squint, tiles": on("tiles")}
    found["squint, tiles, bfloat16 products"] = on("tiles", torch.bfloat16)
    if device == "cuda":
        found["squint, triton"] = on("triton")
    if n <= 16384:
        found["squint, all at once"] = on("dense")
    for name in ("lightly", "pytorch-metric-learning") if n <= 1024 else ("lightly",):
        try:
            found[name] = cpu.PEERS[name]()
        except Exception as error:  # not installed, or does not import here
            found[name] = cpu.absent(error)
    return found


def on(path: contrast.Path, products: torch.dtype = torch.float32) -> Loss:
    """Our loss by one path."""

    def loss(*leaves: Tensor) -> Tensor:
        return contrast.nt_xent(*leaves, temperature=cpu.TEMPERATURE, path=path, products=products)

    return loss


def added(run: Callable[[], object], device: str) -> str:
    """MiB that one pass adds to what is allocated, at its worst; nothing known on a CPU."""
    run()  # compilers and libraries take their own
    if device == "cpu":
        return ""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return f"{(torch.cuda.max_memory_allocated() - before) / 2**20:,.0f} MiB"


def seconds_of(run: Callable[[], object], device: str, repeats: int = 3) -> float:
    """Seconds of one pass, the middle one of a few."""
    if device == "cpu":
        return side_by_side.seconds_of(Case("", run))
    spent: list[float] = []
    for _ in range(repeats):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        run()
        last.record()
        last.synchronize()
        spent.append(first.elapsed_time(last) / 1e3)
    return statistics.median(spent)


if __name__ == "__main__":
    main()
