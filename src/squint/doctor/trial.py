"""A short trial of a recipe on these images and this device: where a step's time goes."""

import dataclasses
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from squint.data import Images
from squint.doctor.findings import Finding, Section, note, ok, problem
from squint.doctor.text import human_bytes, human_seconds
from squint.errors import DataError, RunError
from squint.recipe import Recipe

SECONDS = 10.0
"""Of measured steps; at least six are taken."""

_PIXELS = 2**20
"""Of both views of a batch on a CPU, beyond which fewer images stand for all."""
_LONG_WAIT = 0.2
_BUSY = 1.5
_WORTH_A_WORD = 0.001
"""Shares of a step."""
_PEAK = Path("/proc/self/status")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What was measured."""

    device: str
    precision: str
    images: int
    """That can be read, to train on."""
    batch_size: int
    """Of the recipe."""
    measured_batch_size: int
    """Of the trial: smaller where memory or patience asks for it."""
    pieces: int
    """In which a batch goes through the encoder, for want of memory."""
    total_steps: int
    bound_seconds: float
    """Least time of a measured step's encoder on this device."""
    parts: dict[str, float]
    """Seconds of each part of a measured step, as `train.roofline.PARTS`."""
    load: float | None
    """Processes that wanted a core in the minute before, on average; None where nobody says."""
    cores: int
    peak_bytes: int | None
    """On CUDA, allocated at once; elsewhere, this process's most, its libraries included."""

    @property
    def step_seconds(self) -> float:
        """Of a measured step."""
        return sum(self.parts.values())

    @property
    def images_per_second(self) -> float:
        """Source images, each in two views."""
        return self.measured_batch_size / self.step_seconds

    @property
    def training_seconds(self) -> float:
        """Of the whole training, at this pace."""
        return self.total_steps * self.batch_size / self.images_per_second


def run(images: Images, recipe: Recipe, *, seconds: float = SECONDS) -> Trial:
    """Train in memory for a few seconds; writes nothing but the cache that training would write.

    Args:
        images: any source.
        recipe: what to train.
        seconds: of measured steps.

    Raises:
        SquintError: what is wrong with images, recipe or memory.
    """
    import torch

    from squint import methods
    from squint.train import roofline
    from squint.train.feed import prepare
    from squint.train.pieces import memory_errors_explained, pieces_of
    from squint.train.runtime import cores, start

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    with start(recipe.train) as runtime:
        readable = prepare(images, recipe).images
        method = methods.build(recipe, images=len(readable))
        pieces = pieces_of(method, recipe, runtime)
        part = _part_of(recipe, pieces, on_cpu=runtime.device.type == "cpu")
        del method
        cuda = runtime.device.type == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats(runtime.device)
        with memory_errors_explained(part, runtime, 1):
            found = roofline.measure(readable, recipe=part, seconds=seconds)
        return Trial(
            device=str(runtime.device),
            precision=runtime.precision,
            images=len(readable),
            batch_size=recipe.train.batch_size,
            measured_batch_size=part.train.batch_size,
            pieces=pieces,
            total_steps=recipe.total_steps(len(readable)),
            bound_seconds=found.bound_seconds,
            parts=found.parts,
            load=load,
            cores=cores(),
            peak_bytes=torch.cuda.max_memory_allocated(runtime.device) if cuda else _peak_bytes(),
        )


def section(name: str, images: Images, recipe: Recipe, *, seconds: float = SECONDS) -> Section:
    """A trial, told; or why there can't be one."""
    title = f"Time: {name}"
    try:
        trial = run(images, recipe, seconds=seconds)
    except (DataError, RunError) as error:
        remedy = "Mend that, or take another recipe."
        found = problem(f"no step could be taken: {error}", remedy, prevents_training=True)
        return Section(title=title, findings=(found,), facts=None)
    return Section(title=title, findings=tuple(_findings(trial)), facts=_facts(trial))


def _facts(trial: Trial) -> dict[str, Any]:
    return dataclasses.asdict(trial) | {
        name: getattr(trial, name)
        for name in ("step_seconds", "images_per_second", "training_seconds")
    }


def _findings(trial: Trial) -> list[Finding]:
    step = trial.step_seconds
    smaller = trial.measured_batch_size < trial.batch_size
    of = f" (measured in batches of {trial.measured_batch_size})" * smaller
    longest = sorted(trial.parts.items(), key=lambda part: -part[1])
    shares = ", ".join(f"{part} {s / step:.1%}" for part, s in longest if s > _WORTH_A_WORD * step)
    found = [
        ok(
            f"{human_seconds(trial.training_seconds)} for {trial.total_steps:,} steps: "
            f"{trial.images_per_second:,.0f} images a second on {trial.device} in "
            f"{trial.precision}{of}"
        ),
        ok(f"a step takes {1e3 * step:,.1f} ms: {shares}"),
        ok(_of_bound(trial)),
    ]
    if trial.peak_bytes is not None:
        whose = (
            "allocated at once"
            if trial.device.startswith("cuda")
            else (
                "at most in this process, with its libraries and what measuring takes; workers not "
                "counted"
            )
        )
        found.append(ok(f"memory: {human_bytes(trial.peak_bytes)} {whose}"))
    if trial.parts["wait"] > _LONG_WAIT * step:
        told = f"a step waits for its images for {trial.parts['wait'] / step:.0%} of the time"
        remedy = (
            "--workers N while cores are idle; `squint pack` makes a copy that decodes faster; "
            "a local disk; on CUDA with few cores, --train.decode nvjpeg."
        )
        found.append(note(told, remedy))
    if trial.load is not None and trial.load > _BUSY * trial.cores:
        busy = f"the machine was busy with other work (load {trial.load:.1f}, cores {trial.cores})"
        found.append(note(f"{busy}: on a quiet one training takes less time"))
    if smaller:
        found.append(note("a whole batch may take a little more or less time for each image"))
    if trial.pieces > 1:
        told = f"in {trial.pieces} pieces SimCLR and MoCo v3 take a third longer than that"
        found.append(note(told))
    return found


def _of_bound(trial: Trial) -> str:
    step, bound = trial.step_seconds, trial.bound_seconds
    if bound > step:  # both are measured, one after the other
        return "a step takes no longer than its encoder has to, within what can be measured here"
    return (
        f"the least its encoder could take here is {1e3 * bound:,.1f} ms ({bound / step:.0%}): its "
        "operations, or memory traffic, at the rates this device was seen to reach"
    )


def _part_of(recipe: Recipe, pieces: int, *, on_cpu: bool) -> Recipe:
    """The recipe with a batch that fits, and of which a few steps do not take minutes."""
    groups = getattr(recipe.method, "norm_groups", 1)
    least, batch = max(2 * groups, 8), recipe.train.batch_size // pieces
    if on_cpu:
        batch = min(batch, _PIXELS // (2 * recipe.views.size**2))
    batch = max(least, batch // groups * groups)
    if batch >= recipe.train.batch_size:
        return recipe
    train = dataclasses.replace(recipe.train, batch_size=batch, micro_batch_size="off")
    return recipe.replace(train=train)


def _peak_bytes() -> int | None:
    """The most memory this process has had; None where nobody says."""
    if sys.platform != "linux":
        return None
    lines = dict(line.split(":", 1) for line in _PEAK.read_text().splitlines())
    return 1024 * int(lines["VmHWM"].split()[0])
