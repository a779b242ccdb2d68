"""Freed memory stays with the process while a step may want it again, and no longer."""

import resource
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from squint.train import memory
torch.set_num_threads(1)

def step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    layers = [torch.empty(2**23 + 1000 * i).fill_(1) for i in range(6)]
    del layers
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1])

outside = [step() for _ in range(4)][-1]
with memory.freed_memory_kept():
    inside = max([step() for _ in range(40)][-4:])  # the heap's holes settle within ten steps
    held = resident()
print(outside, inside, held - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of the GNU C library")
def test_pages_are_not_fetched_anew_inside_and_given_back_after() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True
    )
    outside, inside, given_back = map(int, done.stdout.split())
    pages = 6 * 2**25 // resource.getpagesize()
    assert outside > pages / 4, "without it there is nothing to save"
    assert inside < pages / 100
    assert given_back > pages * 0.9
