"""Training on a CUDA device: it waits for nothing, stops and goes on, and every method runs."""

import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor

import squint
from squint import methods
from squint.data import open_source
from squint.methods import Method, Step
from squint.train import health
from squint.train.feed import Feed, prepare
from squint.train.loop import Events, fit
from squint.train.runtime import start
from squint.train.schedule import Plan
from squint.train.setup import optimizer_of
from squint.train.signals import Interrupted, Stop
from train import small
from waiting import no_waiting

pytestmark = pytest.mark.gpu

METHODS = [
    c + name for name in ("simclr", "moco-v1", "moco-v2", "moco-v3", "byol") for c in ("", "c-")
]


@pytest.mark.parametrize("name", METHODS)
def test_the_host_never_waits_in_a_step(tmp_path: Path, name: str) -> None:
    recipe = small.recipe(name, train__device="cuda", train__log_every_steps=1000)
    plan = Plan(steps_per_epoch=1000, total_steps=1000, warmup_steps=1, lr=0.1)
    with start(recipe.train) as runtime:
        readable = prepare(open_source(small.source(tmp_path)), recipe)
        batches = Feed(readable, recipe, runtime).batches(0)
        method: Method = methods.build(recipe)
        runtime.place(method)
        optimizer = optimizer_of(method, recipe)

        def train(first: int, last: int) -> int:
            return fit(
                method,
                optimizer,
                (batch for batch, _ in zip(batches, range(first, last), strict=False)),
                first_step=first,
                recipe=recipe,
                plan=plan,
                runtime=runtime,
                log=None,
                events=Events(save=lambda step: None, online_knn=None),
                stop=Stop(),
            )

        train(0, 3)  # kernels are tried out and compiled, constants sent
        with no_waiting():
            assert train(3, 6) == 6


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_as_on_the_cpu(tmp_path: Path, name: str) -> None:
    source = small.source(tmp_path)
    changes = {"train__epochs": 2.0, "optim__clip_grad_norm": 1.0}
    curves = [
        small.curve(
            squint.pretrain(
                source,
                recipe=small.recipe(name, train__device=device, **changes),
                out=tmp_path / device,
                quiet=True,
            )
        )
        for device in ("cuda", "cpu")
    ]
    there, here = (dict(curve) for curve in curves)
    assert there.keys() == here.keys()
    # the same weights and views to begin with; noise and shuffles are drawn differently there
    drawn = name.startswith("c-") or name in ("moco-v1", "moco-v2")
    assert there[1] == pytest.approx(here[1], rel=0.05 if drawn else 5e-3)
    assert torch.tensor(list(there.values())).isfinite().all()


def test_a_run_stopped_and_gone_on_with_ends_as_one_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = small.source(tmp_path)
    recipe = small.recipe("c-moco-v2", train__device="cuda", train__epochs=2.0)
    whole = squint.pretrain(source, recipe=recipe, out=tmp_path / "whole", quiet=True)

    look = health.Watch.look

    def look_and_stop(watch: health.Watch, out: Step, grad_norm: Tensor, number: int) -> None:
        if number == 4:
            signal.raise_signal(signal.SIGTERM)
        look(watch, out, grad_norm, number)

    monkeypatch.setattr(health.Watch, "look", look_and_stop)
    with pytest.raises(Interrupted):
        squint.pretrain(source, recipe=recipe, out=tmp_path / "half", quiet=True)
    monkeypatch.undo()

    ours = dict(small.curve(squint.resume(tmp_path / "half", quiet=True)))
    theirs = dict(small.curve(whole))
    assert ours.keys() == theirs.keys()
    for step in ours:  # convolutions do not give the same bits twice there
        assert ours[step] == pytest.approx(theirs[step], rel=1e-2)
