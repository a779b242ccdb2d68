"""The training loop: plain torch, the same alone and under torchrun.

Order, views, noise, learning rate and beta are functions of (seed, step). What the loop needs
to start anywhere is therefore weights, optimizer state and the step.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from squint.methods import Method
from squint.recipe import Recipe
from squint.train import health, schedule
from squint.train.accumulate import forward_backward
from squint.train.compiling import begin_step
from squint.train.feed import Batch
from squint.train.log import Log, Meter
from squint.train.runtime import Runtime, seed_everything
from squint.train.signals import Stop

SAVING_SHARE = 0.02
"""Share of the time that checkpoints at the ends of epochs may take; epochs can be short."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The numbers of a run that follow from its recipe and its images."""

    steps_per_epoch: int
    total_steps: int
    warmup_steps: int
    lr: float

    @classmethod
    def of(cls, recipe: Recipe, images: int) -> "Plan":
        """The plan of a recipe on so many images."""
        return cls(
            steps_per_epoch=recipe.steps_per_epoch(images),
            total_steps=recipe.total_steps(images),
            warmup_steps=recipe.warmup_steps(images),
            lr=recipe.scaled_lr,
        )


@dataclass(frozen=True, kw_only=True)
class Events:
    """What happens beside training, and when: the loop calls, the caller decides what."""

    save: Callable[[int], None]
    """Write a checkpoint after so many steps."""
    online_knn: Callable[[], float] | None
    """Accuracy of the encoder as it is; None without labels."""


def fit(
    method: Method,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
    *,
    first_step: int,
    recipe: Recipe,
    plan: Plan,
    pieces: int = 1,
    runtime: Runtime,
    log: Log | None,
    events: Events,
    stop: Stop,
) -> int:
    """Train from `first_step` to the end, or until asked to stop; returns the steps done.

    A checkpoint is written before returning; on an error the last one stands. `log` is None on
    ranks other than the first; `pieces` are the parts in which a batch passes the encoder.

    Raises:
        RunError: the loss or a gradient is not finite; a checkpoint can't be written.
    """
    model = runtime.wrap(method)
    watch = health.Watch(method, wait=runtime.device.type != "cuda")
    meter, clock = Meter(), Clock(recipe.train.batch_size, recipe.train.save_every_minutes)
    knn_every = recipe.train.knn_every_epochs * plan.steps_per_epoch
    keep_every = recipe.train.keep_every_epochs * plan.steps_per_epoch
    done = first_step
    for step, batch in zip(range(first_step, plan.total_steps), batches, strict=False):
        lr = plan.lr * lr_factor(recipe, plan, step)
        for group in optimizer.param_groups:
            group["lr"] = lr
        seed_everything(recipe.train.seed, step)
        begin_step(recipe)

        optimizer.zero_grad(set_to_none=True)
        out = forward_backward(
            method,
            model,
            batch.views,
            step / plan.total_steps,
            pieces=pieces,
            runtime=runtime,
            reseed=partial(seed_everything, recipe.train.seed, step),
        )
        grad_norm = clip_gradient(method, recipe)
        watch.look(out, grad_norm, step)
        optimizer.step()
        method.after_step(out, step / plan.total_steps)
        method.steer(out)

        done = step + 1
        last, epoch_end = done == plan.total_steps, done % plan.steps_per_epoch == 0
        stopping = runtime.any_rank(stop.asked)
        meter.add(out.logs | {"loss": out.loss, "grad_norm": grad_norm})
        clock.step(batch.wait_seconds)
        record: dict[str, float] = {}
        if done % recipe.train.log_every_steps == 0 or last or stopping:
            watch.settle()
            record = meter.take(runtime) | {"lr": lr} | clock.take()
        if events.online_knn and knn_every and (done % knn_every == 0 or last):
            record["knn_top1"] = events.online_knn()
            clock.pause()
        if record and log:
            log.write({"step": done, "epoch": done / plan.steps_per_epoch} | record)
        kept = keep_every > 0 and done % keep_every == 0
        if kept or last or stopping or clock.save_is_due(epoch_end=epoch_end):
            watch.settle()
            with clock.saving():
                events.save(done)
        if stopping:
            break
    return done


class Clock:
    """Speed and waiting since the last `take`, and when a checkpoint is due."""

    def __init__(self, batch_size: int, save_every_minutes: float) -> None:
        self._batch_size = batch_size
        self._save_seconds = save_every_minutes * 60
        self._saved, self._saving_took = time.monotonic(), 0.0
        self._restart()

    def step(self, wait_seconds: float) -> None:
        """Count one step."""
        self._steps += 1
        self._waited += wait_seconds

    def take(self) -> dict[str, float]:
        """Images per second and the share of time spent waiting for data."""
        elapsed = max(time.monotonic() - self._since, 1e-9)
        speed = {
            "images_per_second": self._steps * self._batch_size / elapsed,
            "data_wait": min(1.0, self._waited / elapsed),
        }
        self._restart()
        return speed

    def pause(self) -> None:
        """Leave what has happened since the last `take` out of the speed."""
        self._restart()

    def save_is_due(self, *, epoch_end: bool) -> bool:
        """Whether a checkpoint should be written now: they are apart in time, and cost little."""
        since = time.monotonic() - self._saved
        cheap = since * SAVING_SHARE >= self._saving_took
        return (epoch_end and cheap) or since >= self._save_seconds > 0

    @contextmanager
    def saving(self) -> Iterator[None]:
        """A checkpoint is written; the time to the next one starts when it is there."""
        began = time.monotonic()
        yield
        self._saved = time.monotonic()
        self._saving_took = self._saved - began

    def _restart(self) -> None:
        self._since, self._steps, self._waited = time.monotonic(), 0, 0.0


def lr_factor(recipe: Recipe, plan: Plan, step: int) -> float:
    """Share of the peak learning rate at this step, from 0."""
    optim, warmup = recipe.optim, plan.warmup_steps
    if optim.schedule == "cosine":
        return schedule.warmup_cosine(step, warmup_steps=warmup, total_steps=plan.total_steps)
    if step < warmup:
        return step / warmup
    epoch = step / max(1, plan.steps_per_epoch)
    if optim.schedule == "epoch_cosine":
        rise = optim.warmup_epochs
        return schedule.warmup_cosine(
            max(int(epoch), rise), warmup_steps=rise, total_steps=recipe.train.epochs
        )
    return schedule.step_decay(epoch, milestones=optim.decay_epochs)  # constant has no milestones


def clip_gradient(method: nn.Module, recipe: Recipe) -> torch.Tensor:
    """Norm of the whole gradient before clipping; scales it down if the recipe says so."""
    parameters = [p for p in method.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    limit = recipe.optim.clip_grad_norm
    if limit != "off":
        torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm
