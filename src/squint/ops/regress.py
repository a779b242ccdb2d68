"""Regression of directions: the objective of BYOL."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from squint.ops.precision import TENSORFLOW_LEAST_NORM, at_least_float32


def cosine_regression(p: Float[Tensor, "n d"], t: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Squared distance of directions, mean over n: ||p/|p| - t/|t| ||^2 = 2 - 2 cos, in [0, 4].

    Grill et al. 2020, eq. 2; one of the two terms that eq. 2 symmetrises. Rows need not be
    normalised; below a norm of 1e-6 they are divided by that, as released. The gradient flows into
    both sides; detach `t` if it is a target.
    """
    direction_p = F.normalize(at_least_float32(p), dim=1, eps=TENSORFLOW_LEAST_NORM)
    direction_t = F.normalize(at_least_float32(t), dim=1, eps=TENSORFLOW_LEAST_NORM)
    return (direction_p - direction_t).square().sum(dim=1).mean()
