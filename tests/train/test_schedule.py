"""Schedules against arrays of the official codes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden import cases
from squint import presets
from squint.compression import CEB
from squint.configs import BYOLConfig
from squint.nn.target import cosine_to_one
from squint.recipe import Recipe
from squint.train.schedule import (
    Plan,
    cosine,
    learning_rate,
    lr_factor,
    step_decay,
    warmup_cosine,
)


def peak_lr(base: float, batch: int, rule: str) -> float:
    """As a recipe scales it."""
    settings = {"optim.lr": base, "optim.lr_scaling": rule, "train.batch_size": batch}
    return Recipe().override(settings).scaled_lr


@pytest.mark.parametrize("case", [*cases("schedules_simclr_cvr"), *cases("schedules_byol")])
def test_simclr_cvr_and_byol(case):
    made = case.settings
    peak = peak_lr(made["base_lr"], made["batch_size"], made.get("scaling", "linear"))
    total, warmup = made["total_steps"], made["warmup_steps"]
    steps = case["steps"].tolist()
    lr = [peak * warmup_cosine(t, warmup_steps=warmup, total_steps=total) for t in steps]
    # float32 arrays: near the end the cosine leaves an absolute error
    np.testing.assert_allclose(lr, case["lr"], rtol=1e-6, atol=1e-7)
    ema = [cosine_to_one(made["base_ema"], t / total) for t in steps]
    np.testing.assert_allclose(ema, case["ema"], rtol=1e-6)
    assert lr[0] == 0.0


RELEASED = {
    "cvr00": ("simclr@imagenet-300ep", "c-simclr@imagenet-300ep", "byol@imagenet-cvr-300ep"),
    "cvr01": ("simclr@imagenet-1000ep", "c-simclr@imagenet-1000ep", "byol@imagenet-cvr-1000ep"),
    "cvr02": ("simclr@imagenet-100ep",),
    "byol0": ("byol@imagenet-300ep",),
    "byol1": ("byol@imagenet-1000ep",),
}
"""Recipes of each recorded run."""


@pytest.mark.parametrize("case", [*cases("schedules_simclr_cvr"), *cases("schedules_byol")])
def test_recipes_have_the_steps_and_the_learning_rates_of_the_released_codes(case):
    made = case.settings
    for name in RELEASED[case.name]:
        recipe = presets.recipe(name)
        if case.name == "cvr02":  # the 100 epochs of ImageNet on 50,000 images
            recipe = recipe.override({"train.batch_size": made["batch_size"]})
        plan = Plan.of(recipe, made["num_examples"])
        assert plan.total_steps == made["total_steps"]
        assert plan.warmup_steps == made["warmup_steps"]
        steps = case["steps"].tolist()
        lr = [learning_rate(recipe, plan, t) for t in steps]
        np.testing.assert_allclose(lr, case["lr"], rtol=1e-6, atol=1e-7)
        if isinstance(recipe.method, BYOLConfig):
            start = recipe.method.target_momentum
            ema = [cosine_to_one(start, t / plan.total_steps) for t in steps]
            np.testing.assert_allclose(ema, case["ema"], rtol=1e-6)


@pytest.mark.parametrize("case", cases("schedules_simclr_cvr", lambda case: case.name != "cvr02"))
def test_a_recipe_raises_beta_over_the_steps_of_the_released_code(case):
    made = case.settings
    recipe = presets.recipe(f"c-simclr@imagenet-{made['epochs']}ep").override(
        {
            "compression.beta_schedule": "warmup",
            "compression.beta_warmup_epochs": float(made["warmup_epochs"]),
        }
    )
    total, images = recipe.total_steps(made["num_examples"]), made["num_examples"]
    ceb = CEB(beta_schedule="warmup", beta_warmup=recipe.beta_warmup(images))
    beta = [ceb.beta_at(step / total) for step in case["steps"].tolist()]
    np.testing.assert_allclose(beta, case["beta_linear_warmup"], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("case", cases("schedules_moco", lambda case: "v1v2" in case.name))
def test_moco_v1_v2(case):
    made = case.settings
    epochs = case["epochs"].tolist()
    if made["cos"]:
        factors = [cosine(epoch / made["epochs"]) for epoch in epochs]
    else:
        factors = [step_decay(epoch, milestones=made["schedule"]) for epoch in epochs]
    np.testing.assert_allclose(made["lr"] * np.array(factors), case["lr"], rtol=1e-12)


@pytest.mark.parametrize("case", cases("schedules_moco", lambda case: "v3" in case.name))
def test_moco_v3(case):
    made = case.settings
    peak = peak_lr(made["base_lr"], made["batch_size"], "linear")
    total, warmup = made["epochs"], made["warmup_epochs"]
    epochs = case["fractional_epochs"].tolist()
    lr = [peak * warmup_cosine(e, warmup_steps=warmup, total_steps=total) for e in epochs]
    np.testing.assert_allclose(lr, case["lr"], rtol=1e-12, atol=1e-15)
    momentum = [cosine_to_one(made["base_m"], e / total) for e in epochs]
    np.testing.assert_allclose(momentum, case["momentum"], rtol=1e-12)


@given(st.integers(0, 50), st.integers(1, 100), st.booleans())
def test_warmup_rises_then_falls_within_zero_and_one(warmup, more, starts_at_zero):
    total = warmup + more
    factors = [
        warmup_cosine(t, warmup_steps=warmup, total_steps=total, starts_at_zero=starts_at_zero)
        for t in range(total + 3)
    ]
    assert all(0 <= factor <= 1 for factor in factors)
    assert factors[:warmup] == sorted(factors[:warmup])
    assert factors[warmup:] == sorted(factors[warmup:], reverse=True)
    assert factors[warmup] == 1.0
    assert factors[total:] == [0.0, 0.0, 0.0]
    if warmup:
        assert (factors[0] == 0.0) == starts_at_zero


def test_step_decay():
    assert [step_decay(e, milestones=[2, 3], factor=0.5) for e in range(5)] == [
        1.0,
        1.0,
        0.5,
        0.25,
        0.25,
    ]


@pytest.mark.parametrize("case", cases("schedules_moco", lambda case: "v1v2" in case.name))
def test_recipes_follow_the_schedule_of_moco_v1_and_v2(case):
    made = case.settings
    name = "moco-v2@imagenet-200ep" if made["cos"] else "moco-v1@imagenet-200ep"
    recipe = presets.recipe(name)
    plan = Plan(steps_per_epoch=7, total_steps=7 * made["epochs"], warmup_steps=0, lr=made["lr"])
    for epoch, lr in zip(case["epochs"].tolist(), case["lr"].tolist(), strict=True):
        for step in (7 * epoch, 7 * epoch + 6):  # the same all through the epoch
            assert learning_rate(recipe, plan, step) == pytest.approx(lr, rel=1e-12)


def test_an_epoch_cosine_starts_at_the_peak_when_warm_up_ends():
    recipe = presets.recipe("moco-v2@imagenet-200ep")
    recipe = recipe.override({"optim.warmup_epochs": 50.0})
    plan = Plan(steps_per_epoch=7, total_steps=1400, warmup_steps=350, lr=1.0)
    factors = [lr_factor(recipe, plan, step) for step in (349, 350, 356, 357, 1399)]
    assert factors[:3] == [349 / 350, 1.0, 1.0]
    assert factors[3:] == [pytest.approx(cosine(1 / 150)), pytest.approx(cosine(149 / 150))]


@pytest.mark.parametrize("epochs", [1.0, 2.0, 3.0, 5.0])
def test_a_rate_falls_in_the_middle_of_an_epoch_too(epochs):
    recipe = presets.recipe("moco-v1@imagenet-200ep")
    milestones = (round(0.6 * epochs, 6), round(0.8 * epochs, 6))
    recipe = recipe.override({"train.epochs": epochs, "optim.decay_epochs": milestones})
    plan = Plan(steps_per_epoch=10, total_steps=int(10 * epochs), warmup_steps=0, lr=1.0)
    factors = [lr_factor(recipe, plan, step) for step in range(plan.total_steps)]
    changes = [i for i in range(1, len(factors)) if factors[i] != factors[i - 1]]
    assert changes == [round(6 * epochs), round(8 * epochs)]
    assert factors[-1] == pytest.approx(0.01)
