"""The training loop: plain torch, the same alone and under torchrun.

Order, views, noise, learning rate and beta are functions of (seed, step). What the loop needs
to start anywhere is therefore weights, optimizer state and the step.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from squint.data.quarantine import Overfull
from squint.methods import Method
from squint.recipe import Recipe
from squint.train import health
from squint.train.accumulate import forward_backward
from squint.train.clock import Clock
from squint.train.compiling import begin_step
from squint.train.feed import Batch
from squint.train.log import Log, Meter
from squint.train.runtime import Runtime, seed_everything
from squint.train.schedule import Plan, learning_rate
from squint.train.signals import Stop


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

    A checkpoint is written before returning, and where too many images turn out to be unreadable;
    on another error the last one stands.

    Args:
        method: on its device, with its first weights or those of a checkpoint.
        optimizer: over all that is trained in it.
        batches: of `first_step` and every step after it.
        first_step: steps done before, 0 for a new run.
        recipe: what to train.
        plan: its numbers.
        pieces: parts in which a batch passes the encoder.
        runtime: device, precision and ranks.
        log: None on ranks other than the first.
        events: what happens beside training.
        stop: whether someone wants it to end early.

    Raises:
        RunError: the loss or a gradient is not finite; a checkpoint can't be written.
        Overfull: too many images can't be read.
    """
    model = runtime.wrap(method)
    watch = health.Watch(method, wait=runtime.device.type != "cuda")
    meter, clock = Meter(), Clock(recipe.train.batch_size, recipe.train.save_every_minutes)
    knn_every = recipe.train.knn_every_epochs * plan.steps_per_epoch
    health_every = recipe.train.health_every_steps
    keep_every = recipe.train.keep_every_epochs * plan.steps_per_epoch
    done = first_step

    def save() -> None:
        watch.settle()
        with clock.saving():
            events.save(done)

    batches = _saved_if_unreadable(batches, lambda: done > first_step and save())
    for step, batch in zip(range(first_step, plan.total_steps), batches, strict=False):
        lr = learning_rate(recipe, plan, step)
        for group in optimizer.param_groups:
            group["lr"] = lr
        progress = step / plan.total_steps
        seed_everything(recipe.train.seed, step)
        begin_step(recipe)

        optimizer.zero_grad(set_to_none=True)
        out = forward_backward(
            method,
            model,
            batch.views,
            progress,
            pieces=pieces,
            runtime=runtime,
            reseed=partial(seed_everything, recipe.train.seed, step),
        )
        grad_norm = clip_gradient(method, recipe)
        watch.look(out, grad_norm, step)
        optimizer.step()
        method.after_step(out, progress)

        done = step + 1
        last, epoch_end = done == plan.total_steps, done % plan.steps_per_epoch == 0
        stopping = runtime.any_rank(stop.asked)
        meter.add(out.logs | {"loss": out.loss, "grad_norm": grad_norm})
        clock.step(batch.wait_seconds)
        record: dict[str, float] = {}
        examined = health_every > 0 and (done % health_every == 0 or last)
        if done % recipe.train.log_every_steps == 0 or examined or last or stopping:
            watch.settle()
            record = meter.take(runtime) | {"lr": lr} | clock.take()
        if examined:  # its word needs the other numbers, too
            record |= {name: float(sign) for name, sign in method.signs(out).items()}
        if events.online_knn and knn_every and (done % knn_every == 0 or last):
            record["knn_top1"] = events.online_knn()
            clock.pause()
        if record and log:
            log.write({"step": done, "epoch": done / plan.steps_per_epoch} | record)
        kept = keep_every > 0 and done % keep_every == 0
        if kept or last or stopping or clock.save_is_due(epoch_end=epoch_end):
            save()
        if stopping:
            break
    return done


def _saved_if_unreadable(batches: Iterable[Batch], save: Callable[[], object]) -> Iterator[Batch]:
    """The batches; if too many images can't be read, what was done before is saved first."""
    try:
        yield from batches
    except Overfull:
        save()
        raise


def clip_gradient(method: nn.Module, recipe: Recipe) -> torch.Tensor:
    """Norm of the whole gradient before clipping; scales it down if the recipe says so."""
    parameters = [p for p in method.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    limit = recipe.optim.clip_grad_norm
    if limit != "off":
        torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm
