"""Random initial weights of the TensorFlow and JAX codes, in place.

All draws come from torch's global generator: `torch.manual_seed` before building a network
fixes its weights.
"""

import math

import torch
from torch import Tensor

_STD_OF_TRUNCATED_NORMAL = 0.8796256610342398
"""Standard deviation of a unit normal that is cut at two standard deviations."""


def variance_scaling_(weight: Tensor) -> None:
    """Fill with a truncated normal of variance 1 / fan-in (TensorFlow's VarianceScaling()).

    Convolutions and dense kernels of SimCLR and CVR start so. The normal is cut at two
    standard deviations and widened, so that the variance after the cut is 1 / fan-in.

    Args:
        weight: dense kernel (out, in) or convolution kernel (out, in, h, w).
    """
    _truncated_normal_(weight, 1 / math.sqrt(weight[0].numel()) / _STD_OF_TRUNCATED_NORMAL)


def haiku_(weight: Tensor) -> None:
    """Fill with a normal of variance 1 / fan-in, cut at two standard deviations (Haiku's default).

    Convolutions and linear layers of BYOL start so. The cut is not made up for: the standard
    deviation after it is 0.88 / sqrt(fan-in).

    Args:
        weight: linear kernel (out, in) or convolution kernel (out, in, h, w).
    """
    _truncated_normal_(weight, 1 / math.sqrt(weight[0].numel()))


@torch.no_grad()
def _truncated_normal_(weight: Tensor, std: float) -> None:
    """Fill with a normal of deviation `std` before it is cut at twice that."""
    # redrawing what lies outside is several times faster than torch's trunc_normal_
    flat = weight.normal_().view(-1)
    outside = (flat.abs() > 2).nonzero().squeeze(1)
    while outside.numel():
        flat[outside] = torch.randn_like(flat[outside])
        outside = outside[flat[outside].abs() > 2]
    weight.mul_(std)
