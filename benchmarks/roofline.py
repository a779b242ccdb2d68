"""The least time a step could take on this device, the time it takes, and where the gap lies.

    python benchmarks/roofline.py [--recipes simclr@tiny] [--data SRC] [--quick] [--write]

The bound is the encoder's floating-point operations (torch.utils.flop_counter; forward, backward,
and a target's forward) over the measured rate of a large matrix product in the run's precision, or
its traffic over the measured memory bandwidth, whichever is longer. Traffic counts each layer's
input and output once per pass, in the run's precision, and every weight once: a kernel that fuses
layers may do with less. Parts are medians over the steps of one run, timed with the device waited
for after each, so they may add up to more than an undisturbed step.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import side_by_side
import torch
from step import METHODS, passes, synchronise
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from squint import methods, presets
from squint.data import open_source
from squint.methods import Method
from squint.recipe import Recipe
from squint.train import health
from squint.train.feed import Batch, Feed, prepare
from squint.train.log import Meter
from squint.train.loop import clip_gradient
from squint.train.pretrain import optimizer_of
from squint.train.runtime import Runtime, seed_everything, start

PARTS = ("wait", "views", "forward", "loss", "backward", "optimizer", "EMA", "log")
"""Of a step. wait: the pixels; EMA: the target and, in MoCo, the queue; log: checks too."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What the encoder has to do in one step, at the least."""

    flops: float
    bytes: float

    def seconds(self, peak: "Peak") -> float:
        """The bound: operations or traffic, whichever takes longer."""
        return max(self.flops / peak.flops_per_second, self.bytes / peak.bytes_per_second)


@dataclass(frozen=True, kw_only=True)
class Peak:
    """What the device was seen to reach."""

    flops_per_second: float
    bytes_per_second: float


def main() -> None:
    """Measure the recipes asked for and print one table."""
    default = ",".join(f"{name}@tiny" for name in METHODS)
    options = side_by_side.options(__doc__, recipes=default, data="demo")
    rows = [row(name, options) for name in options.recipes.split(",")]
    head = ("recipe", "GFLOP", "MB", "bound ms", "step ms", "of bound", *PARTS)
    lines = [
        "# roofline",
        "",
        side_by_side.machine(),
        "",
        "Milliseconds per step; `of bound` is bound / step.",
        "",
        "| " + " | ".join(head) + " |",
        "|---" + "|---:" * (len(head) - 1) + "|",
        *rows,
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.write:
        (side_by_side.RESULTS / "roofline.md").write_text(text)


def row(name: str, options: argparse.Namespace) -> str:
    """One recipe's line of the table."""
    recipe = presets.recipe(name)
    with start(recipe.train) as runtime:
        readable = prepare(open_source(options.data, channels=recipe.encoder.in_channels), recipe)
        feed = Feed(readable, recipe, runtime)
        torch.manual_seed(0)
        method = methods.build(recipe)
        runtime.place(method)
        peak = measured_peak(runtime)
        work = encoder_work(method, recipe, next(feed.batches(0)), runtime)
        bound = work.seconds(peak)
        parts = measured_parts(method, recipe, runtime, feed, seconds=options.seconds)
    whole = sum(parts.values())
    numbers = [f"{1e3 * parts[part]:.1f}" for part in PARTS]
    return (
        f"| {name} | {work.flops / 1e9:.1f} | {work.bytes / 1e6:.0f} | {1e3 * bound:.1f} | "
        f"{1e3 * whole:.1f} | {bound / whole:.2f} | " + " | ".join(numbers) + " |"
    )


def measured_peak(runtime: Runtime) -> Peak:
    """Best of several large matrix products and copies, in the run's precision."""
    dtype = torch.bfloat16 if runtime.precision == "bfloat16" else torch.float32
    side = 8192 if runtime.device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=runtime.device, dtype=dtype) for _ in range(2))
    source = torch.empty(2**26, device=runtime.device)  # 256 MiB, more than any cache
    target = torch.empty_like(source)
    product = _best(lambda: a @ b, runtime)
    copy = _best(lambda: target.copy_(source), runtime)
    return Peak(
        flops_per_second=2 * side**3 / product,
        bytes_per_second=2 * source.numel() * source.element_size() / copy,
    )


def encoder_work(method: Method, recipe: Recipe, batch: Batch, runtime: Runtime) -> Work:
    """Operations and traffic of all passes of one step through the encoder and its target."""
    encoder = method.encoder
    trained, followed = passes(recipe, batch, runtime)
    moved = 0.0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal moved
        moved += sum(x.numel() for x in (*inputs, output) if isinstance(x, Tensor))

    leaves = [module for module in encoder.modules() if not list(module.children())]
    hooks = [leaf.register_forward_hook(count) for leaf in leaves]
    weights = sum(p.numel() for p in encoder.parameters())
    with FlopCounterMode(display=False) as counter:
        for images in trained:
            encoder(images).square().mean().backward()
        moved = 3 * moved  # the backward pass reads inputs and output gradients, writes gradients
        with torch.no_grad():
            for images in followed:
                encoder(images)
    for hook in hooks:
        hook.remove()
    encoder.zero_grad(set_to_none=True)
    width = 2 if runtime.precision == "bfloat16" else 4
    return Work(flops=float(counter.get_total_flops()), bytes=width * moved + 4 * weights)


def measured_parts(
    method: Method, recipe: Recipe, runtime: Runtime, feed: Feed, *, seconds: float
) -> dict[str, float]:
    """Median seconds of each part of a step, over at least five steps."""
    optimizer, meter = optimizer_of(method, recipe), Meter()
    taken: dict[str, list[float]] = {part: [] for part in PARTS}
    batches = feed.batches(0)
    end = time.perf_counter() + seconds
    step = 0
    while step < 6 or time.perf_counter() < end:
        clock = _Parts(taken, runtime)
        batch = next(batches)
        clock.took("views")
        taken["views"][-1] -= batch.wait_seconds
        taken["wait"].append(batch.wait_seconds)
        seed_everything(recipe.train.seed, step)
        optimizer.zero_grad(set_to_none=True)
        with runtime.autocast():
            codes = method.embed(batch.views)
            clock.took("forward")
            out = method.compare(codes, 0.5)
            clock.took("loss")
        out.loss.backward()
        clock.took("backward")
        grad_norm = clip_gradient(method, recipe)
        optimizer.step()
        clock.took("optimizer")
        method.after_step(out, 0.5)
        clock.took("EMA")
        health.check_finite(out, grad_norm, method, step)
        meter.add(out.logs | {"loss": out.loss})
        clock.took("log")
        step += 1
    return {part: statistics.median(times[1:]) for part, times in taken.items()}


class _Parts:
    """A watch that is read after every part."""

    def __init__(self, taken: dict[str, list[float]], runtime: Runtime) -> None:
        self._taken, self._runtime = taken, runtime
        self._last = time.perf_counter()

    def took(self, part: str) -> None:
        """What has passed since the last reading belongs to this part."""
        synchronise(self._runtime)
        now = time.perf_counter()
        self._taken[part].append(now - self._last)
        self._last = now


def _best(run: Callable[[], object], runtime: Runtime, times: int = 8) -> float:
    """Seconds of the quickest of several calls."""
    seconds: list[float] = []
    for _ in range(times):
        synchronise(runtime)
        began = time.perf_counter()
        run()
        synchronise(runtime)
        seconds.append(time.perf_counter() - began)
    return min(seconds)


if __name__ == "__main__":
    main()
