"""Nothing in a step asks the device for a number: a GPU would have to finish all its work first."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from squint import methods, native
from squint.data import open_source
from squint.train import health
from squint.train.feed import Batch, Feed, prepare
from squint.train.loop import Events, fit
from squint.train.runtime import start
from squint.train.schedule import Plan
from squint.train.setup import optimizer_of
from squint.train.signals import Stop
from train import small

# what makes the host wait on CUDA: a number, a truth, a shape that depends on values
WAITING = {
    "aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::equal", "aten::nonzero",
    "aten::masked_select", "aten::unique_dim", "aten::_unique2", "aten::bincount",
}  # fmt: skip


class Recorder(TorchDispatchMode):
    """Notes every waiting operation."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().partition(".")[0]
        if name in WAITING:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


class Blind(health.Watch):
    """The finite check reads its number a step later, when it has long arrived."""

    def look(self, *_: object) -> None:
        pass


def note_what_is_sent(monkeypatch: pytest.MonkeyPatch, found: list[str]) -> None:
    """Notes tensors made out of numbers of the host for a device, which would be waited for.

    `torch.full` fills on the device; `squint.device.send` sends and goes on.
    """
    for name in ("tensor", "as_tensor", "asarray", "from_numpy"):
        make = getattr(torch, name)

        def noting(*args: Any, make: Any = make, name: str = name, **kwargs: Any) -> torch.Tensor:
            if isinstance(kwargs.get("device"), torch.device):  # "cpu", a string, stays here
                found.append(f"torch.{name}(..., device=...)")
            return make(*args, **kwargs)

        monkeypatch.setattr(torch, name, noting)


@pytest.mark.parametrize("name", ["simclr", "moco-v1", "moco-v2", "moco-v3", "byol"])
@pytest.mark.parametrize("kind", ["plain", "compressed", "held at a rate"])
def test_no_step_waits(tmp_path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str) -> None:
    monkeypatch.setattr(health, "Watch", Blind)
    monkeypatch.setattr(native, "library", lambda: None)  # what runs on CUDA is the reference
    changes: dict[str, Any] = {"train__log_every_steps": 100, "optim__clip_grad_norm": 1.0}
    if kind == "held at a rate":
        changes["compression__target_rate_nats"] = 30.0 if name == "byol" else 17.0
    recipe = small.recipe(name if kind == "plain" else f"c-{name}", **changes)
    plan = Plan(steps_per_epoch=100, total_steps=100, warmup_steps=1, lr=0.1)
    with start(recipe.train) as runtime:
        readable = prepare(open_source(small.source(tmp_path)), recipe)
        batches = Feed(readable, recipe, runtime).batches(0)
        ready = [batch for _, batch in zip(range(3), batches, strict=False)]
        method = methods.build(recipe)
        runtime.place(method)

        def counted() -> Iterator[Batch]:
            yield ready[0]
            recorder.found.clear()  # constants are worked out once, on the CPU
            yield from ready[1:]

        recorder = Recorder()
        note_what_is_sent(monkeypatch, recorder.found)
        with recorder:
            done = fit(
                method,
                optimizer_of(method, recipe),
                counted(),
                first_step=0,
                recipe=recipe,
                plan=plan,
                runtime=runtime,
                log=None,
                events=Events(save=lambda step: None, online_knn=None),
                stop=Stop(),
            )
    assert done == 3
    assert recorder.found == []
