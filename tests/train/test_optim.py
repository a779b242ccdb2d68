"""LARS against the official codes; which parameters decay; bit-exact resume."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from golden import cases
from squint.errors import RecipeError
from squint.train import optim
from squint.train.optim import LARS

FORMS = {"lars_simclr_cvr": "simclr", "lars_byol": "byol", "lars_mocov3": "mocov3"}


@pytest.mark.parametrize("case", [case for file in FORMS for case in cases(file)])
def test_lars_equals_official(case):
    meta, form = case.settings, FORMS[case.file]
    count = len(meta.get("names", meta.get("shapes")))
    params = [nn.Parameter(case[f"p{i}_init"]) for i in range(count)]
    excluded = [i for i, name in enumerate(meta.get("names", [])) if name in meta["excluded"]]
    groups = [
        {"params": [p for i, p in enumerate(params) if i not in excluded]},
        {"params": [params[i] for i in excluded], "weight_decay": 0.0, "adapt": False},
    ]
    optimizer = LARS(
        groups if excluded else params,
        float(np.float32(meta["lr"])) if form == "simclr" else meta["lr"],
        momentum=meta["momentum"],
        weight_decay=meta["weight_decay"],
        form=form,
        nesterov=meta.get("nesterov", False),
        classic_momentum=meta.get("classic_momentum", True),
    )
    for step in range(meta["steps"]):
        for i, param in enumerate(params):
            param.grad = case[f"p{i}_grad{step}"]
        optimizer.step()
        for i, param in enumerate(params):
            expected = case[f"p{i}_after{step}"]
            torch.testing.assert_close(param.data, expected, rtol=1e-10, atol=1e-14)


def test_lr_inside_the_buffer_differs_from_outside_when_lr_changes():
    def run(form):
        param = nn.Parameter(torch.tensor([[3.0, 4.0]], dtype=torch.float64))
        optimizer = LARS([param], 1.0, form=form, trust_coefficient=0.1)
        for lr in (1.0, 0.1):
            optimizer.param_groups[0]["lr"] = lr
            param.grad = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
            optimizer.step()
        return param.data

    # step 1, both: q = 0.1 * 5 / 1, p = (2.5, 4); step 2: q = 0.1 * |p|
    size = (2.5**2 + 4**2) ** 0.5
    inside = 2.5 - (0.9 * 0.5 + 0.1 * 0.1 * size)
    outside = 2.5 - 0.1 * (0.9 * 0.5 + 0.1 * size)
    assert run("simclr")[0, 0].item() == pytest.approx(inside, rel=1e-12)
    assert run("byol")[0, 0].item() == pytest.approx(outside, rel=1e-12)


def solo(param, gradient, buffer, *, lr, momentum, decay, trust):
    """Section 9, last row: one tensor, with plain numbers."""
    step = gradient.clone()
    size, slope = param.norm().item(), gradient.norm().item()
    if param.ndim > 1 and size > 0 and slope > 0:
        q = trust * size / (slope + decay * size + 1e-8)
        step = min(q / lr, 1.0) * (gradient + decay * param)
    buffer = momentum * buffer + step
    return param - lr * buffer, buffer


def test_solo_form_is_its_formula():
    """Weights whose ratio is clipped, that are not, that are 0 and without a gradient; a bias."""
    torch.manual_seed(0)
    scales = {"clipped": (40.0, 0.01), "free": (1.0, 5.0), "zero": (0.0, 1.0), "still": (1.0, 0.0)}
    shapes = [(3, 4)] * len(scales) + [(4,)]
    sizes = [*scales.values(), (2.0, 1.0)]
    made = [
        nn.Parameter(scale * torch.randn(shape, dtype=torch.float64))
        for shape, (scale, _) in zip(shapes, sizes, strict=True)
    ]
    optimizer = LARS(made, 1.0, weight_decay=0.1, trust_coefficient=0.02, form="solo")
    expected = [param.detach().clone() for param in made]
    buffers = [torch.zeros_like(param) for param in expected]
    for lr in (0.03, 0.4, 0.2):
        optimizer.param_groups[0]["lr"] = lr
        for i, (param, (_, slope)) in enumerate(zip(made, sizes, strict=True)):
            param.grad = slope * torch.randn(param.shape, dtype=torch.float64)
            expected[i], buffers[i] = solo(
                expected[i], param.grad, buffers[i], lr=lr, momentum=0.9, decay=0.1, trust=0.02
            )
        optimizer.step()
        for param, value in zip(made, expected, strict=True):
            torch.testing.assert_close(param.data, value, rtol=1e-12, atol=1e-14)


def test_solo_form_never_steps_further_than_sgd_and_starts_at_a_rate_of_zero():
    def moved(lr):
        param = nn.Parameter(torch.tensor([[30.0, 40.0]]))
        optimizer = LARS([param], 1.0, form="solo", trust_coefficient=0.02)
        optimizer.param_groups[0]["lr"] = lr
        param.grad = torch.tensor([[1.0, 0.0]])
        optimizer.step()
        return 30.0 - param.data[0, 0].item()

    assert moved(0.0) == 0
    assert moved(0.5) == pytest.approx(0.5, rel=1e-5)  # q = 0.02 * 50 / 1 is above lr
    assert moved(4.0) == pytest.approx(1.0, rel=1e-5)  # q itself, whatever lr


class Model(nn.Module):
    """Every kind of parameter: convolution, norms, biases, an odd tensor, a frozen layer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.batch = nn.BatchNorm2d(4)
        self.layer = nn.LayerNorm(4)
        self.attention = nn.MultiheadAttention(4, 2)
        self.token = nn.Parameter(torch.zeros(1, 1, 4))
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.tied = self.conv


def names(group):
    return {name for name, _ in group["params"]}


def test_parameter_groups_by_rule():
    weights, rest = optim.parameter_groups(Model(), weight_decay=0.1, decay_norm_and_bias=False)
    assert names(weights) == {
        "conv.weight",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "token",
    }
    assert names(rest) == {
        "conv.bias",
        "batch.weight",
        "batch.bias",
        "layer.weight",
        "layer.bias",
        "attention.in_proj_bias",
        "attention.out_proj.bias",
    }
    assert (weights["name"], weights["weight_decay"], weights["adapt"]) == ("weights", 0.1, True)
    assert (rest["name"], rest["weight_decay"], rest["adapt"]) == ("norm_and_bias", 0.0, False)
    (everything,) = optim.parameter_groups(Model(), weight_decay=0.1, decay_norm_and_bias=True)
    assert names(everything) == names(weights) | names(rest)


@pytest.mark.parametrize(
    ("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW), ("lars", LARS)]
)
def test_build_and_bit_exact_resume(name, kind):
    torch.manual_seed(0)

    def fresh(model):
        return optim.build(model, name, lr=0.1, weight_decay=0.01, momentum=0.8)

    def steps(model, optimizer, seed):
        torch.manual_seed(seed)
        for step in range(3):
            for group in optimizer.param_groups:
                group["lr"] = 0.1 / (step + seed)
            optimizer.zero_grad()
            model(torch.randn(8, 4)).square().mean().backward()
            optimizer.step()

    straight = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    optimizer = fresh(straight)
    assert type(optimizer) is kind
    steps(straight, optimizer, 1)
    resumed = copy.deepcopy(straight)
    again = fresh(resumed)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    steps(straight, optimizer, 2)
    steps(resumed, again, 2)
    for one, other in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_parameters_without_gradient_stay():
    used, unused = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimizer = LARS([used, unused], 1.0, weight_decay=0.1)
    used.grad = torch.ones(2, 2)
    optimizer.step()
    assert torch.equal(unused.data, torch.ones(2, 2))
    assert not torch.equal(used.data, torch.ones(2, 2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": -1.0}, "lr=-1.0"),
        ({"momentum": 1.0}, "momentum=1.0"),
        ({"name": "adamw", "nesterov": True}, "no effect on adamw"),
        ({"name": "sgd", "nesterov": True, "momentum": 0.0}, "nesterov=True needs momentum"),
        ({"form": "byol", "nesterov": True}, "LARS form 'byol'"),
        ({"form": "mocov3", "decay_norm_and_bias": True}, "contradicts the LARS form 'mocov3'"),
        ({"form": "solo", "decay_norm_and_bias": True}, "contradicts the LARS form 'solo'"),
    ],
)
def test_build_refuses(settings, message):
    settings = {"name": "lars", "lr": 0.1, "weight_decay": 0.0, **settings}
    with pytest.raises(RecipeError, match=message):
        optim.build(nn.Linear(2, 2), **settings)


def test_nothing_to_train():
    with pytest.raises(RecipeError, match="nothing is left"):
        optim.parameter_groups(nn.ReLU(), weight_decay=0.0, decay_norm_and_bias=False)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_fused_steps_are_those_of_the_plain_loop(name):
    """Weights agree to a few units in the last place after ten steps."""
    torch.manual_seed(0)
    fused = nn.Sequential(nn.Linear(40, 30), nn.BatchNorm1d(30), nn.Linear(30, 20))
    plain = copy.deepcopy(fused)
    ours = optim.build(fused, name, lr=0.01, weight_decay=0.01)
    theirs = optim.build(plain, name, lr=0.01, weight_decay=0.01)
    for group in theirs.param_groups:
        assert group["fused"] is True
        group["fused"], group["foreach"] = False, False
    for _ in range(10):
        for one, other in zip(fused.parameters(), plain.parameters(), strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        ours.step()
        theirs.step()
    for one, other in zip(fused.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)
