"""What a method must do while it learns, and that breaking it shows.

Each check below is run on every method, on demo images, and again on mutants that carry the
mistakes self-supervised code is known for; there it must fail.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from squint import methods
from squint.compression import CEB
from squint.data import open_source
from squint.methods import BYOL, Method, MoCo, MoCoV3, SimCLR
from squint.methods._method import unit
from squint.nn import Encoder
from squint.ops import contrast_dense
from squint.presets import recipe as preset
from squint.recipe import Recipe
from squint.views import TwoViews
from toys import NAMES, kappa_b, make, views

RECIPES = [
    prefix + name
    for name in ("simclr", "moco-v1", "moco-v2", "moco-v3", "byol")
    for prefix in ("", "c-")
]
IMAGES, BATCH, QUEUE, STEPS = 256, 64, 160, 80


@cache
def pixels() -> Tensor:
    images = open_source("demo")
    first = np.stack([images.read(i) for i in range(IMAGES)])  # (n, h, w, c)
    return torch.from_numpy(first).permute(0, 3, 1, 2)


class Small(Encoder):
    """Three convolutions: quick, and with batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = 64
        self.layers = nn.Sequential()
        for before, after in ((3, 16), (16, 32), (32, self.dim)):
            convolution = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
            self.layers.extend([convolution, nn.BatchNorm2d(after), nn.ReLU()])

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).mean(dim=(2, 3))


def small_recipe(name: str) -> Recipe:
    tiny = preset(f"{name}@tiny")
    settings: dict[str, Any] = {
        "train.batch_size": BATCH,
        "method.projector.hidden_dim": 64,
        "method.projector.out_dim": 32,
        "views.first.crop.area": (0.5, 1.0),
        "views.second.crop.area": (0.5, 1.0),
        "views.first.gray": 0.0,
        "views.second.gray": 0.0,
    }
    for field, value in {
        "predictor.hidden_dim": 64,
        "target_momentum": 0.9,
        "queue_size": QUEUE,
        "norm_groups": 4,
    }.items():
        if hasattr(tiny.method, field.partition(".")[0]):
            settings[f"method.{field}"] = value
    return tiny.override(settings)


def build(name: str) -> Method:
    torch.manual_seed(0)
    with mock.patch("squint.nn.encoders.build", lambda *_, **__: Small()):
        return methods.build(small_recipe(name))


@contextmanager
def trained(method: Method, name: str, steps: int = STEPS) -> Iterator[list[dict[str, float]]]:
    """Train in place on demo images; the logs of every step."""
    pair = TwoViews(small_recipe(name).views, seed=0)
    learning = [p for p in method.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=0.05, momentum=0.9)
    logs: list[dict[str, float]] = []
    for number in range(steps):
        torch.manual_seed(number)
        rows = torch.randperm(IMAGES)[:BATCH]
        step = method(pair(pixels()[rows], rows, number), number / steps)
        optimizer.zero_grad()
        step.loss.backward()
        nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        method.after_step(step, number / steps)
        logs.append({key: value.item() for key, value in step.logs.items()})
    yield logs


# --- checks --------------------------------------------------------------------------------------


@torch.no_grad()
def confusion(method: Method, name: str) -> float:
    """How often another image is nearer to a view than its second view is, by whitened features."""
    pair = TwoViews(small_recipe(name).views, seed=7)
    encoder = copy.deepcopy(method.encoder).train()  # by the statistics of these very images
    f1, f2 = (encoder(view) for view in pair(pixels(), torch.arange(IMAGES), 0))
    both = torch.cat((f1, f2))
    h1, h2 = (unit((f - both.mean(dim=0)) / (both.std(dim=0) + 1e-6)) for f in (f1, f2))
    similarity = h1 @ h2.T
    return (similarity > similarity.diagonal()[:, None]).float().mean().item()


def check_learns(method: Method, name: str) -> None:
    """Second views become easier to tell from other images, and codes keep their spread."""
    before = confusion(method, name)
    with trained(method, name) as logs:
        after = confusion(method, name)
    spread = sum(log["std_ratio"] for log in logs[-5:]) / 5
    assert spread > 0.25, f"collapsed: std_ratio {spread:.3f}"
    assert after < 0.7 * before, f"learned nothing: {before:.3f} to {after:.3f}"


def check_target_follows(method: Method, name: str) -> None:
    """The target leaves its start for the online network, and stays behind it."""
    assert isinstance(method, MoCo | MoCoV3 | BYOL)
    start = [p.clone() for p in method.target.parameters()]
    with trained(method, name, steps=8):
        now = [*method.target.parameters()]
        online = [*method.encoder.parameters(), *method.projector.parameters()]
        moved = sum((a - b).norm().item() for a, b in zip(now, start, strict=True))
        gap = sum((a - b).norm().item() for a, b in zip(now, online, strict=True))
        way = sum((a - b).norm().item() for a, b in zip(start, online, strict=True))
    assert moved > 0.01 * way, "the target is frozen"
    assert 0 < gap < way, "the target does not follow"


def check_queue_moves_on(method: Method, name: str) -> None:
    """After enough steps every key in the queue is one of the target's latest."""
    assert isinstance(method, MoCo)
    start = method.queue.codes.clone()
    with trained(method, name, steps=3):
        stale = torch.isclose(method.queue.codes, start).all(dim=1)
    assert not stale.any(), f"{int(stale.sum())} of {len(start)} keys were never replaced"
    assert int(method.queue.pointer) == 3 * BATCH % QUEUE


def check_negatives_exclude_the_positive(method: Method, name: str) -> None:
    """Codes that agree within an image and differ between images cost nothing.

    If the positive were among the negatives, at least log 2 would remain.
    """
    axes = torch.eye(24, dtype=torch.float64)
    batches = [axes[:8], axes[8:16]]
    if isinstance(method, MoCo):
        method.queue.codes = axes[16:].clone()
        codes_of = [(batch, batch) for batch in batches]
    else:
        codes_of = [(batch,) * (2 if isinstance(method, SimCLR) else 4) for batch in batches]
    for codes in codes_of:
        step = method.compare(codes)
        loss = step.logs["contrast_nats"]
        assert loss < 0.1, f"{loss:.3f} nats remain"
        method.after_step(step, 0.0)


def check_gradient_is_that_of_the_loss(method: Method, name: str) -> None:
    """Along random directions the loss changes as its gradient says, for all that is online.

    What a stop-gradient rightly holds (target, queue) is no function of the online weights, so it
    does not show; one in the wrong place does.
    """
    learning = [p for p in method.parameters() if p.requires_grad]

    def loss() -> Tensor:
        torch.manual_seed(0)
        return method(views(), 0.5).loss

    gradient = torch.autograd.grad(loss(), learning, allow_unused=True)
    for number in range(4):
        torch.manual_seed(number)
        direction = [torch.randn_like(p) for p in learning]
        told = sum((g * d).sum() for g, d in zip(gradient, direction, strict=True) if g is not None)
        found = []
        for sign in (1, -1):
            with torch.no_grad():
                for p, d in zip(learning, direction, strict=True):
                    p += sign * 1e-6 * d
            found.append(loss().item())
            with torch.no_grad():
                for p, d in zip(learning, direction, strict=True):
                    p -= sign * 1e-6 * d
        slope = (found[0] - found[1]) / 2e-6
        assert slope == pytest.approx(float(told), rel=1e-4, abs=1e-6), "a gradient is missing"


# --- every method passes -----------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_it_learns_without_collapse(name: str) -> None:
    check_learns(build(name), name)


@pytest.mark.parametrize("name", [name for name in RECIPES if "simclr" not in name])
def test_the_target_follows(name: str) -> None:
    check_target_follows(build(name), name)


@pytest.mark.parametrize("name", ["moco-v1", "c-moco-v1", "moco-v2", "c-moco-v2"])
def test_the_queue_moves_on(name: str) -> None:
    check_queue_moves_on(build(name), name)


@pytest.mark.parametrize("name", ["simclr", "moco", "moco-v3"])
def test_negatives_exclude_the_positive(name: str) -> None:
    check_negatives_exclude_the_positive(make(name), name)


@pytest.mark.parametrize("ceb", ["plain", "closed_form", "sampled"])
@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_that_of_the_loss(name: str, ceb: str) -> None:
    check_gradient_is_that_of_the_loss(make(name, bottleneck(name, ceb)), name)


def bottleneck(name: str, ceb: str) -> CEB | None:
    if ceb == "plain":
        return None
    return CEB(beta=0.7, kappa_e=32.0, kappa_b=kappa_b(name), residual=ceb)  # pyright: ignore


# --- every mistake fails -----------------------------------------------------------------------


def stopped_encoder(method: Method) -> None:
    """The gradient ends at the features."""
    method.encoder.register_forward_hook(lambda module, inputs, output: output.detach())


def frozen_target(method: Method) -> None:
    method.target.update = lambda *args, **kwargs: None  # pyright: ignore


def target_is_online(method: Method) -> None:
    method.target.momentum, method.target.schedule = 0.0, "constant"  # pyright: ignore


def still_queue(method: Method) -> None:
    method.queue.push = lambda keys: None  # pyright: ignore


def stuck_pointer(method: Method) -> None:
    """Every batch overwrites the same rows."""
    push = method.queue.push  # pyright: ignore

    def mutant(keys: Tensor) -> None:
        push(keys)
        method.queue.pointer.zero_()  # pyright: ignore

    method.queue.push = mutant  # pyright: ignore


def enqueue_before_scoring(method: Method) -> None:
    """As some ports do: the batch's keys are negatives of their own queries."""
    compare = method.compare

    def mutant(codes: Any, progress: float = 1.0) -> Any:
        assert isinstance(method, MoCo)
        method.queue.push(codes[1])
        return compare(codes, progress)

    method.compare = mutant


def nothing_to_hold(method: Method) -> None:
    """No predictor, no target, no negatives: both views pull at one network."""
    assert isinstance(method, BYOL)
    method.predictor = nn.Identity()
    method.projector = nn.Linear(64, 32)
    method.target.forward = lambda images: method.projector(method.encoder(images))
    method.target.update = lambda *_, **__: None


def own_among_negatives() -> Any:
    """NT-Xent whose own column is struck out nowhere."""
    answer = contrast_dense.contrast

    def mutant(a: Tensor, partners: Tensor, keys: Tensor, own: Any, *, temperature: float) -> Any:
        return answer(a, partners, keys, (), temperature=temperature)

    return mock.patch.object(contrast_dense, "contrast", mutant)


def wrong_row() -> Any:
    """The label points at the neighbour's key."""
    answer = contrast_dense.contrast

    def mutant(a: Tensor, partners: Tensor, keys: Tensor, own: Any, *, temperature: float) -> Any:
        return answer(a, partners.roll(1, 0), keys, own, temperature=temperature)

    return mock.patch.object(contrast_dense, "contrast", mutant)


Mutant = Callable[[Method], None]

LEARNING: list[tuple[str, Mutant]] = [
    *((name, stopped_encoder) for name in ("simclr", "moco-v2", "moco-v3", "byol")),
    ("byol", nothing_to_hold),
]
FOLLOWING: list[tuple[str, Mutant]] = [
    *((name, frozen_target) for name in ("moco-v1", "moco-v2", "moco-v3", "byol", "c-byol")),
    *((name, target_is_online) for name in ("moco-v2", "moco-v3", "byol")),
]


@pytest.mark.parametrize(("name", "mutant"), LEARNING)
def test_a_method_that_learns_nothing_or_collapses_is_noticed(name: str, mutant: Mutant) -> None:
    method = build(name)
    mutant(method)
    word = "collapsed" if mutant is nothing_to_hold else "learned nothing"
    with pytest.raises(AssertionError, match=word):
        check_learns(method, name)


@pytest.mark.parametrize(("name", "mutant"), FOLLOWING)
def test_a_target_that_does_not_follow_is_noticed(name: str, mutant: Mutant) -> None:
    method = build(name)
    mutant(method)
    with pytest.raises(AssertionError, match="target"):
        check_target_follows(method, name)


@pytest.mark.parametrize("mutant", [still_queue, stuck_pointer])
def test_a_queue_that_stands_still_is_noticed(mutant: Mutant) -> None:
    method = build("moco-v2")
    mutant(method)
    with pytest.raises(AssertionError, match="never replaced"):
        check_queue_moves_on(method, "moco-v2")


def test_a_positive_among_the_negatives_is_noticed() -> None:
    method = make("moco")
    enqueue_before_scoring(method)
    with pytest.raises(AssertionError, match="nats remain"):
        check_negatives_exclude_the_positive(method, "moco")
    for name, broken in (("simclr", own_among_negatives()), ("moco-v3", wrong_row())):
        with broken, pytest.raises(AssertionError, match="nats remain"):
            check_negatives_exclude_the_positive(make(name), name)


def detached(*which: int) -> Callable[[Method], None]:
    """A stop-gradient on some of the codes."""

    def mutant(method: Method) -> None:
        embed = method.embed
        method.embed = lambda v: tuple(
            code.detach() if number in which else code for number, code in enumerate(embed(v))
        )

    return mutant


def detached_given(method: Method) -> None:
    """The backward encoder learns nothing from the rate."""
    pairs = method.pairs
    method.pairs = lambda codes: [(h, given.detach()) for h, given in pairs(codes)]


@pytest.mark.parametrize(
    ("name", "mutant", "ceb"),
    [
        ("simclr", detached(1), "plain"),
        ("simclr", detached(0), "closed_form"),
        ("moco-symmetric", detached(2), "plain"),
        ("moco-v3", detached(1), "plain"),
        ("byol", detached(1), "plain"),
        ("byol", detached(4), "closed_form"),
        ("byol", detached_given, "sampled"),
    ],
)
def test_a_stop_gradient_in_the_wrong_place_is_noticed(name: str, mutant: Mutant, ceb: str) -> None:
    method = make(name, bottleneck(name, ceb))
    mutant(method)
    with pytest.raises(AssertionError, match="a gradient is missing"):
        check_gradient_is_that_of_the_loss(method, name)
