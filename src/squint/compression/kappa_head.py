"""kappa_e of each image, learned from its direction. Ours, not in the papers."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from squint.ops.precision import at_least_float32


class KappaHead(nn.Module):
    """Concentration of e(z|x) as a function of h: a linear layer, and a range it can't leave.

    Softsign squashes log kappa_e into the range. One unit of the linear output is
    1/sqrt((dim - 1)/2) of log kappa_e at mid-range, the unit in which a narrow law has Fisher
    information 1, so one learning rate suits every code width. Softsign's heavy tails let an
    extreme kappa_e come back.

    Args:
        dim: of h.
        start: concentration of every image before training, inside the range.
        bounds: least and largest concentration.
    """

    def __init__(self, dim: int, *, start: float, bounds: tuple[float, float]) -> None:
        super().__init__()
        low, high = map(math.log, bounds)
        self.middle, self.reach = (low + high) / 2, (high - low) / 2
        place = (math.log(start) - self.middle) / self.reach  # -1 to 1
        self.start = place / (1 - abs(place))  # softsign of it is the place
        self.scale = 1 / (self.reach * math.sqrt((dim - 1) / 2))
        self.weight = nn.Parameter(torch.zeros(dim))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, h: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """kappa_e of each row, in at least float32 (under autocast too: no matrix product)."""
        units = (at_least_float32(h) * self.weight).sum(dim=1) + self.bias
        return torch.exp(self.middle + self.reach * F.softsign(self.start + self.scale * units))
