"""Heads: small perceptrons between features and codes, and from codes to predictions."""

from typing import Literal

from torch import nn

from squint.errors import RecipeError
from squint.nn.init import haiku_, variance_scaling_

OutputNorm = Literal["none", "scale", "plain", "affine"]
Init = Literal["torch", "simclr", "cvr", "haiku"]

_SIMCLR_STD = 0.01


def mlp(
    in_dim: int,
    hidden_dim: int,
    out_dim: int,
    *,
    layers: int = 2,
    bias: bool = False,
    output_bias: bool = False,
    hidden_norm: bool = True,
    output_norm: OutputNorm = "none",
    init: Init = "torch",
) -> nn.Sequential:
    """Perceptron (n, in_dim) -> (n, out_dim): linear, BatchNorm, ReLU per hidden layer.

    | published head           | arguments                                                    |
    |--------------------------|--------------------------------------------------------------|
    | SimCLR (TF2) projector   | f, f, 128, layers=3, output_norm="scale", init="simclr"      |
    | CVR projector, C-SimCLR  | f, 4096, 256, init="cvr"                                     |
    | BYOL projector, predictor| f or 256, 4096, 256, bias=True, init="haiku"                 |
    | MoCo v1                  | f, f, 128, layers=1, output_bias=True                        |
    | MoCo v2                  | f, f, 128, bias=True, output_bias=True, hidden_norm=False    |
    | MoCo v3 projector        | f, 4096, 256, layers=2 (ResNet) or 3 (ViT), output_norm="plain"|

    Args:
        in_dim: input width.
        hidden_dim: width of the layers - 1 hidden layers; unused when layers is 1.
        out_dim: output width.
        layers: linear layers, at least 1.
        bias: whether hidden linear layers have a bias.
        output_bias: whether the last linear layer has one.
        hidden_norm: BatchNorm (scale and shift) before every ReLU.
        output_norm: BatchNorm after the last layer. none; scale: gamma without beta (SimCLR);
            plain: neither (MoCo v3); affine: both.
        init: of linear weights. torch: its default; simclr: N(0, 0.01^2); cvr: truncated
            normal of variance 1 / fan-in; haiku (BYOL): the same, but of that variance before
            the cut, so 0.77 / fan-in. All but torch start biases at 0.

    Raises:
        RecipeError: a width or the number of layers is below 1.
    """
    for name, value in (
        ("in_dim", in_dim),
        ("hidden_dim", hidden_dim),
        ("out_dim", out_dim),
        ("layers", layers),
    ):
        if value < 1:
            raise RecipeError(f"A head with {name}={value} can't be built: it must be at least 1.")
    modules: list[nn.Module] = []
    width = in_dim
    for _ in range(layers - 1):
        modules.append(_linear(width, hidden_dim, bias, init))
        if hidden_norm:
            modules.append(nn.BatchNorm1d(hidden_dim))
        modules.append(nn.ReLU(inplace=True))
        width = hidden_dim
    modules.append(_linear(width, out_dim, output_bias, init))
    if output_norm != "none":
        modules.append(_output_norm(out_dim, output_norm))
    return nn.Sequential(*modules)


def _linear(in_dim: int, out_dim: int, bias: bool, init: Init) -> nn.Linear:
    layer = nn.Linear(in_dim, out_dim, bias=bias)
    if init == "torch":
        return layer
    if init == "simclr":
        nn.init.normal_(layer.weight, std=_SIMCLR_STD)
    elif init == "cvr":
        variance_scaling_(layer.weight)
    else:
        haiku_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def _output_norm(dim: int, kind: OutputNorm) -> nn.BatchNorm1d:
    norm = nn.BatchNorm1d(dim, affine=kind != "plain")
    if kind == "scale":
        norm.register_parameter("bias", None)
    return norm
