"""The von Mises-Fisher sampler on CUDA in two launches: torch's operations would take a hundred."""

from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from squint import trial
from squint.ops import vmf_variates
from squint.ops.vmf_variates import Noise

MOST_DIMENSIONS = 4096
"""A row of codes lies on the chip whole."""


class Source(NamedTuple):
    """Where a draw's random numbers come from: `Noise`."""

    key: Int64[Tensor, ""]
    first: int


def missing(mu: Tensor) -> str:
    """Why the kernels can't draw codes around these means, in a few words; empty if they can."""
    if why := trial.absent(mu.device):
        return why
    if mu.dtype != torch.float32 or mu.shape[1] > MOST_DIMENSIONS:
        return f"its kernels are for float32 codes of up to {MOST_DIMENSIONS} dimensions"
    return "" if trial.interpreted() else _trial(mu.device)


def angles(
    source: Source, kappa: Float64[Tensor, " k"], n: int, dim: int
) -> tuple[Float64[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, " n"]]:
    """1 - cosine, cosine and sine of n draws to their means; one kappa for all, or one per row."""
    from squint.ops import vmf_triton_kernels as kernels

    with trial.on(source.key.device):
        return kernels.angles(source.key, source.first, kappa, n, dim)


def place(
    source: Source,
    mu: Float[Tensor, "n d"],
    cosine: Float[Tensor, " n"],
    sine: Float[Tensor, " n"],
) -> Float[Tensor, "n d"]:
    """Unit rows at the given angles to unit rows `mu`, in uniform directions away from them."""
    from squint.ops import vmf_triton_kernels as kernels

    with trial.on(mu.device):
        return kernels.place(source.key, source.first, mu, cosine, sine)


def mean_gradient(
    mu: Float[Tensor, "n d"], z: Float[Tensor, "n d"], grad: Float[Tensor, "n d"]
) -> Float[Tensor, "n d"]:
    """Gradient in mu of what has gradient `grad` in the rows z that `place` made."""
    from squint.ops import vmf_triton_kernels as kernels

    with trial.on(mu.device):
        return kernels.mean_gradient(mu, z, grad)


@cache
def _trial(device: torch.device) -> str:
    """Compile and run the kernels once; what went wrong, or nothing."""
    n, dim = 37, 20
    noise = Noise(torch.tensor(-1234567890123456789, device=device), first=5)
    kappa = torch.linspace(0, 300, n, dtype=torch.float64, device=device)
    mu = F.normalize(torch.arange(n * dim).float().sin().view(n, dim), dim=1).to(device)

    def run() -> str:
        source = Source(noise.key, noise.first)
        gap, cosine, sine = angles(source, kappa, n, dim)
        exact = vmf_variates.gaps(vmf_variates.proposals(noise, n), kappa, dim)
        z = place(source, mu, cosine, sine)
        mean_gradient(mu, z, mu)
        far = torch.stack([(gap - exact).abs().max(), ((z * mu).sum(1) - cosine).abs().max()])
        return "" if bool((far < 1e-5).all()) else "they give other codes than torch"

    instead = "codes are drawn by torch instead, the same ones to within rounding"
    return trial.failure(run, of="the sampler", instead=instead)
