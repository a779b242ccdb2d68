"""Heads against the official TensorFlow ones: outputs, and running statistics after a pass."""

import pytest
import torch
from torch import nn

from golden import cases
from squint.errors import RecipeError
from squint.nn import mlp
from squint.ops import vmf_sampler

MOMENTUM = 0.1


class Named:
    """Golden weights by layer and role, for instance `nl_0`, `kernel`."""

    def __init__(self, case, suffix=""):
        self.names = case.settings["weight_names"]
        self.values = [case[f"w{i}{suffix}"] for i in range(len(self.names))]

    def __call__(self, layer, role):
        found = [
            value
            for name, value in zip(self.names, self.values, strict=True)
            if f"/nl_{layer}/" in name and name.endswith(f"/{role}:0")
        ]
        assert len(found) <= 1
        return found[0] if found else None


def load(head, weights):
    """Copy golden weights into an mlp, layer by layer."""
    layer = -1
    for module in head:
        if isinstance(module, nn.Linear):
            layer += 1
            module.weight.data.copy_(weights(layer, "kernel").T)
        elif isinstance(module, nn.BatchNorm1d):
            module.weight.data.copy_(weights(layer, "gamma"))
            beta = weights(layer, "beta")
            assert (beta is None) == (module.bias is None)
            if beta is not None:
                module.bias.data.copy_(beta)
            module.running_mean.copy_(weights(layer, "moving_mean"))
            module.running_var.copy_(weights(layer, "moving_variance"))


def check_running(head, before, after, batch):
    """TensorFlow accumulates the biased variance, torch the unbiased one: batch / (batch - 1)."""
    layer = -1
    for module in head:
        layer += isinstance(module, nn.Linear)
        if isinstance(module, nn.BatchNorm1d):
            close(module.running_mean, after(layer, "moving_mean"))
            old = (1 - MOMENTUM) * before(layer, "moving_variance")
            biased = after(layer, "moving_variance") - old
            close(module.running_var, old + biased * batch / (batch - 1))


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", cases("simclr_heads"))
def test_simclr_projector(case):
    meta = case.settings
    width, out = meta["dim_in"], meta["dim_out"]
    head = mlp(width, width, out, layers=meta["num_layers"], output_norm="scale", init="simclr")
    before = Named(case)
    load(head, before)
    close(head.eval()(case["x"]), case["eval_output"])
    close(head.train()(case["x"]), case["train_output"])
    check_running(head, before, Named(case, "_after_train"), meta["batch"])


@pytest.mark.parametrize("case", cases("cvr_heads", lambda case: case.name == "cvr00"))
def test_cvr_projector(case):
    meta = case.settings
    head = mlp(meta["dim_in"], meta["dim_hidden"], meta["dim_out"], init="cvr")
    before = Named(case)
    load(head, before)
    close(head.eval()(case["x"]), case["eval_output"])
    close(head.train()(case["x"]), case["train_output"])
    check_running(head, before, Named(case, "_after_train"), meta["batch"])


@pytest.mark.parametrize("case", cases("cvr_heads", lambda case: case.name == "cvr01"))
def test_cvr_stochastic_head_is_mlp_then_vmf_draw_then_linear(case):
    meta = case.settings
    head = mlp(meta["dim_in"], meta["dim_hidden"], meta["dim_out"], init="cvr")
    weights = Named(case)
    load(head, weights)
    prediction = weights(2, "kernel")  # (d, d), in by out

    mu = nn.functional.normalize(head.eval()(case["x"]), dim=1)
    close(torch.cat([mu, mu], dim=1), case["eval_second"])
    close(mu @ prediction, case["eval_output"])

    mu = nn.functional.normalize(head.train()(case["x"]), dim=1)
    z = vmf_sampler.reflect(case["base"], mu)
    close(torch.cat([z, mu], dim=1), case["train_second"])
    close(z @ prediction, case["train_output"])


def test_layout():
    head = mlp(8, 16, 4, layers=3, output_norm="plain")
    kinds = [type(module).__name__ for module in head]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU"] * 2 + ["Linear", "BatchNorm1d"]
    assert not any(module.bias is not None for module in head if isinstance(module, nn.Linear))
    assert list(head[-1].parameters()) == []
    assert [p.shape for p in mlp(8, 16, 4, output_norm="affine")[-1].parameters()] == [(4,), (4,)]


def test_moco_v2_layout():
    head = mlp(8, 8, 4, bias=True, output_bias=True, hidden_norm=False)
    assert [type(module).__name__ for module in head] == ["Linear", "ReLU", "Linear"]
    assert head[0].bias is not None and head[2].bias is not None
    assert len(mlp(8, 1, 4, layers=1)) == 1


def test_init():
    torch.manual_seed(0)
    simclr = mlp(512, 512, 512, init="simclr", bias=True, output_bias=True)
    assert simclr[0].weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert torch.equal(simclr[0].bias, torch.zeros(512))
    cvr = mlp(512, 2048, 512, init="cvr")
    assert cvr[3].weight.std().item() == pytest.approx(2048**-0.5, rel=0.01)
    haiku = mlp(512, 2048, 512, init="haiku", bias=True)
    for linear, fan_in in ((haiku[0], 512), (haiku[3], 2048)):
        unit = linear.weight * fan_in**0.5
        assert unit.std().item() == pytest.approx(0.8796, rel=0.01)
        assert 1.98 < unit.abs().max().item() <= 2 + 1e-5
    assert torch.equal(haiku[0].bias, torch.zeros(2048))


def test_scale_norm_survives_a_state_dict_round_trip():
    head = mlp(4, 4, 4, output_norm="scale")
    other = mlp(4, 4, 4, output_norm="scale")
    other.load_state_dict(head.state_dict())
    x = torch.randn(8, 4)
    assert torch.equal(head(x), other(x))


def test_errors():
    with pytest.raises(RecipeError, match="layers=0"):
        mlp(4, 4, 4, layers=0)


@pytest.mark.parametrize("case", cases("byol", lambda case: case.name.startswith("mlp")))
def test_byol_head(case):
    made, at = case.settings, "param/projector/"
    head = mlp(made["dim_in"], made["dim_hidden"], made["dim_out"], bias=True).double()
    linear, norm, _, last = head
    linear.weight.data.copy_(case[f"{at}linear/w"].T)
    linear.bias.data.copy_(case[f"{at}linear/b"])
    norm.weight.data.copy_(case[f"{at}batch_norm/scale"][0])
    norm.bias.data.copy_(case[f"{at}batch_norm/offset"][0])
    last.weight.data.copy_(case[f"{at}linear_1/w"].T)
    norm.running_var.zero_()  # Haiku's averages start at 0 and are corrected for it
    for number in range(3):
        output = head(case["x"] + number)
        torch.testing.assert_close(output, case[f"train_output{number}"], rtol=1e-10, atol=1e-12)
    averages = {
        name: case[f"state/projector/batch_norm/~/{name}_ema/average"][0]
        for name in ("mean", "var")
    }
    seen = 1 - made["bn_decay"] ** 3
    n = made["batch"]
    torch.testing.assert_close(norm.running_mean / seen, averages["mean"])
    torch.testing.assert_close(norm.running_var / seen * (n - 1) / n, averages["var"])
    norm.running_mean.copy_(averages["mean"])
    norm.running_var.copy_(averages["var"])
    torch.testing.assert_close(head.eval()(case["x"]), case["eval_output"], rtol=1e-10, atol=1e-12)
