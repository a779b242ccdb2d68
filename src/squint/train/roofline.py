"""The least time a training step could take on this device, the time it takes, and the gap.

The bound is the encoder's floating-point operations (forward, backward, and a target's forward)
over the measured rate of a large matrix product in the run's precision, or its traffic over the
measured memory bandwidth, whichever is longer (Williams et al. 2009, "Roofline"). Traffic counts
each layer's input and output once per pass, in the run's precision, and every weight once: a kernel
that fuses layers may do with less. Heads, loss, optimizer and views are not in the bound: they are
what a step has beside its encoder.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from squint import methods, presets
from squint.configs import MoCoConfig, SimCLRConfig
from squint.data import Images, open_source
from squint.methods import Method
from squint.recipe import Recipe
from squint.train import health
from squint.train.accumulate import buffers_restored
from squint.train.feed import Batch, Feed, prepare
from squint.train.log import Meter
from squint.train.loop import clip_gradient
from squint.train.runtime import Runtime, seed_everything, start
from squint.train.schedule import Plan, learning_rate
from squint.train.setup import optimizer_of

PARTS = ("wait", "views", "forward", "loss", "backward", "optimizer", "EMA", "log")
"""Of a step. wait: for pixels; forward: encoder and heads; optimizer: with the gradient's norm;
EMA: the target and, in MoCo, the queue; log: the finite check too."""

_LEAST_STEPS = 6


@dataclass(frozen=True, kw_only=True)
class Peak:
    """What the device was seen to reach."""

    flops_per_second: float
    bytes_per_second: float


@dataclass(frozen=True, kw_only=True)
class Work:
    """What the encoder has to do in one step, at the least."""

    flops: float
    bytes: float

    def seconds(self, peak: Peak) -> float:
        """The bound: operations or traffic, whichever takes longer."""
        return max(self.flops / peak.flops_per_second, self.bytes / peak.bytes_per_second)


@dataclass(frozen=True, kw_only=True)
class Roofline:
    """A recipe's step on this device."""

    recipe: Recipe
    work: Work
    peak: Peak
    parts: dict[str, float]
    """Median seconds of each of `PARTS`, the device waited for after each: together they may take
    longer than an undisturbed step."""

    @property
    def bound_seconds(self) -> float:
        """The least time of a step."""
        return self.work.seconds(self.peak)

    @property
    def step_seconds(self) -> float:
        """The time of a step, all parts together."""
        return sum(self.parts.values())

    @property
    def images_per_second(self) -> float:
        """Source images, each in two views."""
        return self.recipe.train.batch_size / self.step_seconds

    def __str__(self) -> str:
        """A few lines for people: the step, the bound, and what each part takes."""
        work, peak, whole = self.work, self.peak, self.step_seconds
        head = (
            f"{self.recipe.name}: {1e3 * whole:.1f} ms a step, {self.images_per_second:,.0f} "
            f"images/s; {work.flops / 1e9:,.1f} GFLOP at {peak.flops_per_second / 1e9:,.0f}/s, "
            f"{work.bytes / 1e6:,.0f} MB at {peak.bytes_per_second / 1e9:,.1f} GB/s"
        )
        shown = {"bound": self.bound_seconds} | self.parts
        rows = (f"  {name:10} {1e3 * s:8.1f} ms {s / whole:6.1%}" for name, s in shown.items())
        return "\n".join([head, *rows])


def measure(data: str | Path | Images, *, recipe: str | Recipe, seconds: float = 10.0) -> Roofline:
    """Train a recipe for a few seconds on this device, in memory only, and say where they went.

    On one rank; batches go through the encoder whole.

    Args:
        data: a source or images already open, as for `squint.pretrain`.
        recipe: METHOD[@SETTING] or a recipe.
        seconds: of measured steps; at least six are taken.

    Raises:
        SquintError: what is wrong with recipe or images.
    """
    chosen = presets.recipe(recipe) if isinstance(recipe, str) else recipe
    channels = chosen.encoder.in_channels
    images = data if isinstance(data, Images) else open_source(data, channels=channels)
    with start(chosen.train) as runtime:
        readable = prepare(images, chosen)
        plan = Plan.of(chosen, len(readable.images))
        batches = Feed(readable, chosen, runtime).batches(0)
        seed_everything(chosen.train.seed, -1)
        method = methods.build(chosen, images=len(readable.images))
        runtime.place(method)
        first = next(batches)
        steps = timed_steps(method, batches, recipe=chosen, plan=plan, runtime=runtime)
        return Roofline(
            recipe=chosen,
            peak=measured_peak(runtime),
            work=encoder_work(method, chosen, first, runtime),
            parts=_medians(steps, seconds),
        )


def passes(recipe: Recipe, batch: Batch, runtime: Runtime) -> tuple[list[Tensor], list[Tensor]]:
    """What goes through the encoder with a graph, and through the target without one."""
    first, second = batch.views
    if isinstance(recipe.method, SimCLRConfig):
        both = torch.cat([first, second])
        return [both.contiguous(memory_format=runtime.memory_format)], []
    if isinstance(recipe.method, MoCoConfig) and not recipe.method.symmetric:
        return [first], [second]
    return [first, second], [first, second]


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
    with FlopCounterMode(display=False) as counter, buffers_restored(method):
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
    weights = sum(p.numel() for p in encoder.parameters())
    return Work(flops=float(counter.get_total_flops()), bytes=width * moved + 4 * weights)


def measured_peak(runtime: Runtime, side: int | None = None) -> Peak:
    """Best of several large matrix products and copies, in the run's precision.

    Args:
        runtime: device and precision.
        side: of the matrices; default: large enough for the device.
    """
    dtype = torch.bfloat16 if runtime.precision == "bfloat16" else torch.float32
    side = side or (8192 if runtime.device.type == "cuda" else 2048)
    a, b = (torch.randn(side, side, device=runtime.device, dtype=dtype) for _ in range(2))
    numbers = min(16 * side**2, 2**28)  # 256 MiB or more, above any cache
    source = torch.zeros(numbers, device=runtime.device)
    target = torch.empty_like(source)
    product = _best(lambda: a @ b, runtime)
    copy = _best(lambda: target.copy_(source), runtime)
    return Peak(
        flops_per_second=2 * side**3 / product,
        bytes_per_second=2 * numbers * source.element_size() / copy,
    )


def timed_steps(
    method: Method, batches: Iterable[Batch], *, recipe: Recipe, plan: Plan, runtime: Runtime
) -> Iterator[dict[str, float]]:
    """Train as `loop.fit` does, a step at a time; gives the seconds of each of `PARTS`."""
    optimizer, meter = optimizer_of(method, recipe), Meter()
    clock = _Clock(runtime)
    for step, batch in enumerate(batches):
        clock.took("views")
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, plan, step)
        seed_everything(recipe.train.seed, step)
        progress = step / plan.total_steps
        optimizer.zero_grad(set_to_none=True)
        with runtime.autocast():
            codes = method.embed(batch.views)
            clock.took("forward")
            out = method.compare(codes, progress)
            clock.took("loss")
        out.loss.backward()
        clock.took("backward")
        grad_norm = clip_gradient(method, recipe)
        optimizer.step()
        clock.took("optimizer")
        method.after_step(out, progress)
        clock.took("EMA")
        health.check_finite(out, grad_norm, method, step)
        meter.add(out.logs | {"loss": out.loss, "grad_norm": grad_norm})
        clock.took("log")
        parts = clock.taken()
        yield parts | {"wait": batch.wait_seconds, "views": parts["views"] - batch.wait_seconds}
        clock.taken()  # what happens between steps is nobody's


def synchronise(runtime: Runtime) -> None:
    """Wait for the device."""
    if runtime.device.type == "cuda":
        torch.cuda.synchronize(runtime.device)


class _Clock:
    """A watch that is read after every part."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._parts: dict[str, float] = {}
        self._last = time.perf_counter()

    def took(self, part: str) -> None:
        """What has passed since the last reading belongs to this part."""
        synchronise(self._runtime)
        now = time.perf_counter()
        self._parts[part] = now - self._last
        self._last = now

    def taken(self) -> dict[str, float]:
        """The parts since the last call; the watch starts anew."""
        parts, self._parts = self._parts, {}
        self._last = time.perf_counter()
        return parts


def _medians(steps: Iterator[dict[str, float]], seconds: float) -> dict[str, float]:
    """Of each part, over steps that take about so long; the first one is not counted."""
    next(steps)
    end = time.perf_counter() + seconds
    taken: list[dict[str, float]] = []
    while len(taken) < _LEAST_STEPS or time.perf_counter() < end:
        taken.append(next(steps))
    return {part: statistics.median(parts[part] for parts in taken) for part in PARTS}


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
