"""Draws from the von Mises-Fisher law: rejection for the cosine, a reflection for the direction.

Drawing randomness and using it are separate: `draw` makes a key that knows neither mu nor kappa,
`sample` turns it into codes as a plain function of its arguments. A counter-based generator
(`philox`) gives the native kernels and the torch reference the same numbers on every device;
torch's own generator is asked for one number per call. There is a fixed number of proposals per
row, no loop over data, and no wait for the device.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from squint import native
from squint.errors import RecipeError, RunError
from squint.native import vmf as native_kernels
from squint.ops import vmf_triton, vmf_variates
from squint.ops.precision import at_least_float32
from squint.ops.vmf_cosine_gradient import cosine_and_sine
from squint.ops.vmf_normalizer import check_law
from squint.ops.vmf_variates import Noise

Path = Literal["auto", "native", "triton", "reference"]


def draw(
    *,
    first: int = 0,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Noise:
    """Noise for any number of codes of any dimension; row i of them has the number first + i.

    When several ranks train together, draw from generators in the same state and let each rank
    start at its own row of the global batch: then codes do not depend on the number of ranks.
    """
    key = torch.randint(2**63 - 1, (), generator=generator, device=device)
    return Noise(key, first)


def sample(
    mu: Float[Tensor, "n d"],
    kappa: float | Float[Tensor, ""] | Float[Tensor, " n"],
    *,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
    path: Path = "auto",
) -> Float[Tensor, "n d"]:
    """One unit vector per row from vMF(mu, kappa), in at least float32.

    Rejection for the cosine w = mu.z (Ulrich 1984 as corrected by Wood 1994), then a Householder
    reflection that takes the first axis e_1 to mu. kappa = 0 gives the uniform law.

    Differentiable in mu, through the reflection, and in kappa, where it is a tensor that asks for
    it, through the law of the cosine: the branch that was accepted is not a differentiable
    function of kappa (see `vmf_cosine_gradient`).

    Args:
        mu: Mean directions, unit rows.
        kappa: Concentration, >= 0; one for all rows or one per row.
        generator: Draws the noise; default: the device's own generator.
        noise: Use this noise instead of drawing: the result is then a function of its inputs.
        path: native, compiled C for float32 on a CPU, and triton, for float32 on CUDA, both
            differentiable once; or reference, in torch. auto takes the fastest, and the reference
            while torch.compile traces. All give the same numbers to within rounding.

    Raises:
        RecipeError: Both `generator` and `noise`, or a law that `check_law` refuses.
        RunError: The path asked for is not available here.
    """
    mu = at_least_float32(mu)
    n, dim = mu.shape
    check_law(kappa, dim)
    if noise is not None and noise.first < 0:
        raise RecipeError(f"first={noise.first} of the noise is the number of a row: 0 or above.")
    if noise is None:
        noise = draw(generator=generator, device=mu.device)
    elif generator is not None:
        raise RecipeError("sample() got noise and a generator: give one of the two.")
    path = _path(path, mu)
    if path == "native":
        source = native_kernels.Source(int(noise.key), noise.first)
        return _sample_by(native_kernels, source, mu, kappa)
    if path == "triton":
        return _sample_by(vmf_triton, noise, mu, kappa)
    gap = vmf_variates.gaps(vmf_variates.proposals(noise, n), kappa, dim)
    if isinstance(kappa, Tensor) and kappa.requires_grad:
        cosine, sine = cosine_and_sine(kappa.expand(n), gap, dim)
    else:
        cosine, sine = 1 - gap, torch.sqrt(gap * (2 - gap))
    cosine, sine = cosine.to(mu.dtype)[:, None], sine.to(mu.dtype)[:, None]
    away = sine * vmf_variates.directions(noise, n, dim, mu.dtype)
    return reflect(torch.cat((cosine, away), dim=1), mu)


def reflect(base: Float[Tensor, "n d"], mu: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Unit rows `base`, given around e_1, carried around mu by the reflection taking e_1 to mu.

    z = n(base - 2 (base.u) u) with u = n(e_1 - mu), n(v) = v/|v|; the identity where mu = e_1.
    Other rotations give the same law but another gradient; this one is the reference's (Davidson
    et al. 2018, algorithm 1). It grows as 1/|e_1 - mu| near e_1, as the reflection itself turns
    there from one row to the next.
    """
    first = mu.new_zeros(mu.shape[1])  # (d,)
    first[0] = 1
    u = F.normalize(first - mu, dim=1)
    return F.normalize(base - 2 * (base * u).sum(dim=1, keepdim=True) * u, dim=1)


def _path(wanted: Path, mu: Tensor) -> Path:
    """The path asked for; for auto, the fastest that can draw these codes."""
    if wanted == "reference" or (wanted == "auto" and torch.compiler.is_compiling()):
        return "reference"
    suits_native = mu.device.type == "cpu" and mu.dtype == torch.float32
    if wanted == "native":
        if not suits_native:
            raise RunError(
                f"path='native' draws float32 codes in the CPU's memory, these are {mu.dtype} on "
                f"{mu.device}. Take path='auto'."
            )
        native.demand()
        return "native"
    if wanted == "auto" and suits_native and native.library():
        return "native"
    if wanted == "triton" or mu.device.type == "cuda":
        why = vmf_triton.missing(mu)
        if why and wanted == "triton":
            raise RunError(f"path='triton' can't be taken: {why}. Take path='auto'.")
        return "reference" if why else "triton"
    return "reference"


def _sample_by(kernels: Any, source: Any, mu: Tensor, kappa: float | Tensor) -> Tensor:
    """A sample by `native.vmf` or `vmf_triton`, whose functions have the same names."""
    n, dim = mu.shape
    if isinstance(kappa, Tensor):
        numbers = kappa.detach().to(mu.device, torch.float64).reshape(-1)
    else:
        numbers = mu.new_full((1,), kappa, dtype=torch.float64)
    gap, cosine, sine = kernels.angles(source, numbers, n, dim)
    if isinstance(kappa, Tensor) and kappa.requires_grad:
        cosine, sine = (x.float() for x in cosine_and_sine(kappa.expand(n), gap, dim))
    z: Tensor = _Placed.apply(mu, cosine, sine, kernels, source)  # pyright: ignore[reportAssignmentType]
    return z


class _Placed(torch.autograd.Function):
    """`reflect` of rows around e_1 at given angles, by the kernels, and its derivatives.

    With v = e_1 - mu and a gradient g in z, dz/dmu gives 2 ((g.v) z - (z.v) g) / |v|^2: the radial
    parts cancel, and rows around e_1 need not be kept.
    """

    @staticmethod
    def forward(
        ctx: Any, mu: Tensor, cosine: Tensor, sine: Tensor, kernels: Any, source: Any
    ) -> Tensor:
        z = kernels.place(source, mu, cosine, sine)
        ctx.save_for_backward(mu, z)
        ctx.kernels, ctx.source = kernels, source
        return z

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # it is in a backward pass only with create_graph=True
            raise RunError(
                "Codes were asked for a gradient with create_graph=True, and compiled samplers "
                "have no second derivative. Pass path='reference' to vmf.sample."
            )
        (grad,), (mu, z) = grad_outputs, ctx.saved_tensors
        by_mu, by_cosine, by_sine, _, _ = ctx.needs_input_grad
        kernels = ctx.kernels
        zeros = grad.new_zeros(len(mu))
        return (
            kernels.mean_gradient(mu, z, grad) if by_mu else None,
            (grad * mu).sum(dim=1) if by_cosine else None,
            (grad * kernels.place(ctx.source, mu, zeros, zeros + 1)).sum(dim=1)
            if by_sine
            else None,
            None,
            None,
        )
