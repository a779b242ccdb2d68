"""The roofline's figures against counts by hand, and its timed step against the training loop."""

import pytest
import torch

from squint import methods
from squint.data import open_source
from squint.train import roofline
from squint.train.feed import Feed, prepare
from squint.train.loop import Events, fit
from squint.train.roofline import Peak, Roofline, Work
from squint.train.runtime import start
from squint.train.schedule import Plan
from squint.train.setup import optimizer_of
from squint.train.signals import Stop
from train import small

PLAN = Plan(steps_per_epoch=3, total_steps=3, warmup_steps=1, lr=0.1)


@pytest.mark.parametrize("name", ["c-simclr", "c-moco-v2", "moco-v3", "c-byol"])
def test_a_timed_step_is_a_step_of_the_loop(tmp_path, name: str) -> None:
    recipe = small.recipe(name, optim__clip_grad_norm=0.5)
    found = []
    with start(recipe.train) as runtime:
        readable = prepare(open_source(small.source(tmp_path)), recipe)
        for timed in (True, False):
            torch.manual_seed(0)
            method = methods.build(recipe)
            runtime.place(method)
            batches = Feed(readable, recipe, runtime).batches(0)
            if timed:
                steps = roofline.timed_steps(
                    method, batches, recipe=recipe, plan=PLAN, runtime=runtime
                )
                for _, parts in zip(range(3), steps, strict=False):
                    assert set(parts) == set(roofline.PARTS)
                    assert all(seconds >= 0 for seconds in parts.values())
            else:
                fit(
                    method,
                    optimizer_of(method, recipe),
                    batches,
                    first_step=0,
                    recipe=recipe,
                    plan=PLAN,
                    runtime=runtime,
                    log=None,
                    events=Events(save=lambda step: None, online_knn=None),
                    stop=Stop(),
                )
            found.append(method.state_dict())
    assert all(torch.equal(found[0][key], value) for key, value in found[1].items())


@pytest.mark.parametrize(
    ("name", "trained", "followed"),
    [("simclr", 2, 0), ("moco-v2", 1, 1), ("moco-v3", 2, 2), ("byol", 2, 2)],
)
def test_operations_are_those_of_the_convolutions(tmp_path, name, trained, followed) -> None:
    recipe = small.recipe(name, method__queue_size=40) if "v2" in name else small.recipe(name)
    with start(recipe.train) as runtime:
        readable = prepare(open_source(small.source(tmp_path)), recipe)
        batch = next(Feed(readable, recipe, runtime).batches(0))
        method = methods.build(recipe)
        before = {key: value.clone() for key, value in method.state_dict().items()}
        work = roofline.encoder_work(method, recipe, batch, runtime)
    # 16-px views; a 3x3 stem, then groups of 8, 16, 32, 64 channels of two 3x3 and a shortcut
    forward = 16**2 * 9 * (3 * 8 + 2 * 8 * 8)
    for group, (c, side) in enumerate(((16, 8), (32, 4), (64, 2))):
        before_c = 8 << group
        seen = 9 if side > 2 else 4  # of 2x2 px: as one product, which meets no padding
        forward += side**2 * (9 * before_c * c + seen * c * c + before_c * c)
    stem_input = 16**2 * 9 * 3 * 8  # nobody asks for the gradient of the images
    passes = small.BATCH * (trained * (3 * forward - stem_input) + followed * forward)
    assert work.flops == 2 * passes
    assert work.bytes > 0
    assert all(torch.equal(before[key], value) for key, value in method.state_dict().items())
    assert all(p.grad is None for p in method.parameters())


def test_the_bound_is_the_slower_of_operations_and_traffic() -> None:
    peak = Peak(flops_per_second=100.0, bytes_per_second=10.0)
    assert Work(flops=200.0, bytes=10.0).seconds(peak) == 2.0
    assert Work(flops=100.0, bytes=30.0).seconds(peak) == 3.0
    parts = dict.fromkeys(roofline.PARTS, 0.5)
    found = Roofline(
        recipe=small.recipe(), work=Work(flops=200.0, bytes=0.0), peak=peak, parts=parts
    )
    assert (found.bound_seconds, found.step_seconds) == (2.0, 4.0)
    assert found.images_per_second == small.BATCH / 4
    assert "bound        2000.0 ms  50.0%" in str(found)
    assert "backward      500.0 ms  12.5%" in str(found)


def test_measuring_takes_a_source_and_a_recipe(tmp_path, monkeypatch) -> None:
    small_peak = roofline.measured_peak
    monkeypatch.setattr(roofline, "measured_peak", lambda runtime: small_peak(runtime, side=64))
    found = roofline.measure(small.source(tmp_path), recipe=small.recipe(), seconds=0.1)
    assert set(found.parts) == set(roofline.PARTS)
    assert found.peak.flops_per_second > 0 and found.peak.bytes_per_second > 0
    assert 0 < found.step_seconds < 60
