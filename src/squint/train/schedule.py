"""Steps and learning rates: pure functions of the step, the epoch or the share of training done.

Nothing here keeps state: the value at a step is the same however often the run was resumed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from squint.recipe import Recipe

Number = int | float


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


def learning_rate(recipe: Recipe, plan: Plan, step: int) -> float:
    """The learning rate of this step, from 0."""
    return plan.lr * lr_factor(recipe, plan, step)


def lr_factor(recipe: Recipe, plan: Plan, step: int) -> float:
    """The same as a share of its peak, `plan.lr`."""
    optim, warmup = recipe.optim, plan.warmup_steps
    if optim.schedule == "cosine":
        return warmup_cosine(step, warmup_steps=warmup, total_steps=plan.total_steps)
    if step < warmup:
        return step / warmup
    epoch = step / max(1, plan.steps_per_epoch)
    match optim.schedule:
        case "epoch_cosine":
            return warmup_cosine(
                max(int(epoch), optim.warmup_epochs),
                warmup_steps=optim.warmup_epochs,
                total_steps=recipe.train.epochs,
            )
        case "steps":
            return step_decay(epoch, milestones=optim.decay_epochs)
        case "constant":
            return 1.0


def cosine(progress: Number) -> float:
    """Half a cosine wave: 1 at progress 0, 0 from progress 1 on.

    MoCo v1 and v2 use it per epoch: `cosine(epoch / epochs)`.
    """
    return 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))


def warmup_cosine(
    step: Number,
    *,
    warmup_steps: Number,
    total_steps: Number,
    starts_at_zero: bool = True,
) -> float:
    """Linear warm-up, then half a cosine to 0; factor of the peak learning rate, 0 to 1.

    The schedule of SimCLR, CVR and BYOL (steps) and of MoCo v3 (fractional epochs): any one
    unit serves, as long as all three numbers share it.

    Args:
        step: from 0; past total_steps the factor stays 0.
        warmup_steps: length of the warm-up, 0 for none, at most total_steps.
        total_steps: where the cosine reaches 0, above 0.
        starts_at_zero: step / warmup_steps, so that the first step changes nothing, as
            published. False: (step + 1) / warmup_steps, for runs so short that a wasted step
            counts.
    """
    assert 0 <= warmup_steps <= total_steps and total_steps > 0, (
        f"warmup_steps={warmup_steps} must be from 0 to total_steps={total_steps}, which is > 0"
    )
    if step < warmup_steps:
        return (step if starts_at_zero else min(step + 1, warmup_steps)) / warmup_steps
    if warmup_steps == total_steps:
        return 0.0
    return cosine((step - warmup_steps) / (total_steps - warmup_steps))


def step_decay(epoch: Number, *, milestones: Sequence[Number], factor: float = 0.1) -> float:
    """Factor of the learning rate after falling by `factor` at every milestone (MoCo v1).

    Args:
        epoch: from 0, with the part of it that is done.
        milestones: epochs from which one more fall applies; MoCo v1 has 120 and 160 of 200.
        factor: of each fall, 0 to 1.
    """
    return factor ** sum(epoch >= milestone for milestone in milestones)
