"""Two rules of precision: what is computed in float32 at least, and what tiny norms become.

Objectives and densities are computed in float32 or float64. Rows shorter than a least norm are
divided by that instead; the released codes differ in it.
"""

import torch
from jaxtyping import Float
from torch import Tensor

TENSORFLOW_LEAST_NORM = 1e-6
"""That of the TensorFlow and JAX codes (SimCLR, BYOL, CVR), which clip sums of squares at 1e-12."""
TORCH_LEAST_NORM = 1e-12
"""That of torch's `normalize` (MoCo v1 to v3)."""


def at_least_float32(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The same numbers, in float64 if they came in float64 and in float32 otherwise."""
    return x if x.dtype == torch.float64 else x.float()


def full_precision(x: Tensor) -> torch.autocast:
    """A context in which products on the device of `x` keep the dtype of their factors.

    Autocast would turn even a product of two float32 matrices into bfloat16, whose 8 bits leave
    an error of 0.04 in a similarity of 10.
    """
    return torch.autocast(x.device.type, enabled=False)
