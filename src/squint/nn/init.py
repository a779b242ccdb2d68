"""Random initial weights of the TensorFlow codes, in place.

All draws come from torch's global generator: `torch.manual_seed` before building a network
fixes its weights.
"""

import math

import torch
from torch import Tensor

_STD_OF_TRUNCATED_NORMAL = 0.8796256610342398
"""Standard deviation of a unit normal that is cut at two standard deviations."""


@torch.no_grad()
def variance_scaling_(weight: Tensor) -> None:
    """Fill with a truncated normal of variance 1 / fan-in (TensorFlow's VarianceScaling()).

    Convolutions and dense kernels of SimCLR and CVR start so. The normal is cut at two
    standard deviations and widened, so that the variance after the cut is 1 / fan-in.

    Args:
        weight: dense kernel (out, in) or convolution kernel (out, in, h, w).
    """
    fan_in = weight[0].numel()
    # redrawing what lies outside is several times faster than torch's trunc_normal_
    flat = weight.normal_().view(-1)
    outside = (flat.abs() > 2).nonzero().squeeze(1)
    while outside.numel():
        flat[outside] = torch.randn_like(flat[outside])
        outside = outside[flat[outside].abs() > 2]
    weight.mul_(1 / math.sqrt(fan_in) / _STD_OF_TRUNCATED_NORMAL)
