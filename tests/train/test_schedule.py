"""Schedules against arrays of the official codes."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squint.train.schedule import cosine, cosine_to_one, scaled_lr, step_decay, warmup_cosine

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"


def golden(file, case):
    """Settings and arrays of one golden case, arrays by field name."""
    path = GOLDEN / f"{file}.npz"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    with np.load(path) as arrays:
        meta = json.loads(str(arrays["__meta__"]))[case]
        prefix = f"{case}/"
        fields = {k.removeprefix(prefix): arrays[k] for k in arrays.files if k.startswith(prefix)}
    return meta, fields


@pytest.mark.parametrize(
    ("file", "case"),
    [("schedules_simclr_cvr", f"cvr0{i}") for i in range(3)]
    + [("schedules_byol", f"byol{i}") for i in range(2)],
)
def test_simclr_cvr_and_byol(file, case):
    meta, fields = golden(file, case)
    peak = scaled_lr(meta["base_lr"], meta["batch_size"], rule=meta.get("scaling", "linear"))
    total, warmup = meta["total_steps"], meta["warmup_steps"]
    steps = fields["steps"].tolist()
    lr = [peak * warmup_cosine(t, warmup_steps=warmup, total_steps=total) for t in steps]
    # float32 arrays: near the end the cosine leaves an absolute error
    np.testing.assert_allclose(lr, fields["lr"], rtol=1e-6, atol=1e-7)
    ema = [cosine_to_one(meta["base_ema"], t / total) for t in steps]
    np.testing.assert_allclose(ema, fields["ema"], rtol=1e-6)
    assert lr[0] == 0.0


@pytest.mark.parametrize("case", ["moco_v1v2_0", "moco_v1v2_1"])
def test_moco_v1_v2(case):
    meta, fields = golden("schedules_moco", case)
    epochs = fields["epochs"].tolist()
    if meta["cos"]:
        factors = [cosine(epoch / meta["epochs"]) for epoch in epochs]
    else:
        factors = [step_decay(epoch, milestones=meta["schedule"]) for epoch in epochs]
    np.testing.assert_allclose(meta["lr"] * np.array(factors), fields["lr"], rtol=1e-12)


@pytest.mark.parametrize("case", ["moco_v3_0", "moco_v3_1"])
def test_moco_v3(case):
    meta, fields = golden("schedules_moco", case)
    peak = scaled_lr(meta["base_lr"], meta["batch_size"], rule="linear")
    total, warmup = meta["epochs"], meta["warmup_epochs"]
    epochs = fields["fractional_epochs"].tolist()
    lr = [peak * warmup_cosine(e, warmup_steps=warmup, total_steps=total) for e in epochs]
    np.testing.assert_allclose(lr, fields["lr"], rtol=1e-12, atol=1e-15)
    momentum = [cosine_to_one(meta["base_m"], e / total) for e in epochs]
    np.testing.assert_allclose(momentum, fields["momentum"], rtol=1e-12)


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


def test_scaled_lr():
    assert scaled_lr(0.3, 4096, rule="linear") == pytest.approx(4.8)
    assert scaled_lr(0.075, 4096, rule="sqrt") == pytest.approx(4.8)
    assert scaled_lr(0.3, 4096, rule="none") == 0.3


def test_step_decay():
    assert [step_decay(e, milestones=[2, 3], factor=0.5) for e in range(5)] == [
        1.0,
        1.0,
        0.5,
        0.25,
        0.25,
    ]
