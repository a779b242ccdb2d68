"""Where the benchmarks of this folder run: on one CUDA device, or, to show that they run, a CPU."""

import argparse
import sys

import torch


def require(options: argparse.Namespace) -> None:
    """End with a sentence unless --device is a CUDA device that is there, or cpu with --quick."""
    if options.device == "cpu":
        if not options.quick:
            sys.exit("--device cpu is there to show that this runs, and needs --quick")
    elif not torch.cuda.is_available():
        sys.exit(
            "this benchmark is for a CUDA device, and there is none on this machine; "
            "--device cpu --quick shows that it runs"
        )
