"""The von Mises-Fisher sampler on CUDA: two launches instead of some hundred of torch's."""

from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor

from squint import trial
from squint.ops import vmf_variates
from squint.ops.vmf_variates import Noise

MOST_DIMENSIONS = 4096
"""A whole row of codes must fit on the chip."""


def missing(mu: Tensor) -> str:
    """Why the kernels can't draw codes around these means, in a few words; empty if they can."""
    if why := trial.absent(mu.device):
        return why
    if mu.dtype != torch.float32 or mu.shape[1] > MOST_DIMENSIONS:
        return f"its kernels are for float32 codes of up to {MOST_DIMENSIONS} dimensions"
    return "" if trial.interpreted() else _trial(mu.device)


def angles(
    noise: Noise, kappa: Float64[Tensor, " k"], n: int, dim: int
) -> tuple[Float64[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, " n"]]:
    """1 - cosine, cosine and sine of n draws to their means; one kappa for all, or one per row."""
    from squint.ops import vmf_triton_kernels as kernels

    with trial.on(noise.key.device):
        return kernels.angles(noise.key, noise.first, kappa, n, dim)


def place(
    noise: Noise,
    mu: Float[Tensor, "n d"],
    cosine: Float[Tensor, " n"],
    sine: Float[Tensor, " n"],
) -> Float[Tensor, "n d"]:
    """Unit rows at the given angles to unit rows `mu`, in uniform directions away from them."""
    from squint.ops import vmf_triton_kernels as kernels

    with trial.on(mu.device):
        return kernels.place(noise.key, noise.first, mu, cosine, sine)


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
        gap, cosine, sine = angles(noise, kappa, n, dim)
        exact = vmf_variates.gaps(vmf_variates.proposals(noise, n), kappa, dim)
        z = place(noise, mu, cosine, sine)
        mean_gradient(mu, z, mu)
        far = torch.stack([(gap - exact).abs().max(), ((z * mu).sum(1) - cosine).abs().max()])
        return "" if bool((far < 1e-5).all()) else "they give other codes than torch"

    instead = "codes are drawn by torch instead, the same ones to within rounding"
    return trial.failure(run, of="the sampler", instead=instead)
