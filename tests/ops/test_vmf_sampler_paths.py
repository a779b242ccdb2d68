"""The native sampler against the torch reference from the same key, and who is taken when."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from interpreter import needs_triton, run_interpreted
from squint import native
from squint.errors import RecipeError, RunError
from squint.native import threads
from squint.native import vmf as kernels
from squint.ops import vmf, vmf_sampler, vmf_variates
from waiting import no_waiting

needs_kernels = pytest.mark.skipif(native.library() is None, reason="the kernels are not built")

DIMENSIONS = (2, 3, 5, 16, 17, 100, 128, 256, 2048)
CONCENTRATIONS = (0.0, 1e-3, 10.0, 1024.0, 16384.0, 1e6)


def _units(n: int, dim: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def _noise(seed: int, first: int = 0) -> vmf.Noise:
    return vmf.draw(first=first, generator=torch.Generator().manual_seed(seed))


@needs_kernels
@pytest.mark.parametrize("dim", DIMENSIONS)
def test_codes_are_the_references(dim: int) -> None:
    mu, noise = _units(101, dim), _noise(dim, first=7)
    for kappa in CONCENTRATIONS:
        z = vmf.sample(mu, kappa, noise=noise, path="native")
        exact = vmf.sample(mu.double(), kappa, noise=noise)
        torch.testing.assert_close(z.double(), exact, rtol=0, atol=1.5e-6)
        plain = vmf.sample(mu, kappa, noise=noise, path="reference")
        torch.testing.assert_close(z, plain, rtol=0, atol=4e-6)
        assert (z.double().norm(dim=1) - 1).abs().max() < 4e-7


@needs_kernels
@pytest.mark.parametrize("dim", (2, 3, 16, 256))
def test_angles_are_the_references_in_double_precision(dim: int) -> None:
    noise = _noise(dim)
    for kappa in CONCENTRATIONS:
        source = kernels.Source(int(noise.key), 0)
        drawn = kernels.angles(source, torch.tensor([kappa], dtype=torch.float64), 3000, dim)
        exact = vmf_variates.gaps(vmf_variates.proposals(noise, 3000), kappa, dim)
        torch.testing.assert_close(drawn.gap, exact, rtol=1e-12, atol=4e-15 * exact.max().item())
        assert torch.equal(drawn.cosine, (1 - drawn.gap).float())
        assert torch.equal(drawn.sine, torch.sqrt(drawn.gap * (2 - drawn.gap)).float())


@needs_kernels
@pytest.mark.parametrize(("dim", "kappa"), [(2, 3.0), (3, 1e4), (17, 0.5), (128, 1024.0)])
def test_gradients_are_the_references(dim: int, kappa: float) -> None:
    weights = _units(40, dim, seed=9)
    found = []
    for path, dtype in (("native", torch.float32), ("reference", torch.float64)):
        mu = _units(40, dim).to(dtype).requires_grad_()
        kappas = torch.full((40,), kappa, dtype=dtype, requires_grad=True)
        z = vmf.sample(mu, kappas, noise=_noise(1), path=path)
        by_mu, by_kappa = torch.autograd.grad((weights * z).sum(), (mu, kappas))
        radial = (by_mu * mu).sum(dim=1, keepdim=True) * mu  # the normalisation of z removes it
        found.append(((by_mu - radial).detach().double(), by_kappa.double()))
    for ours, exact in zip(*found, strict=True):
        assert (ours - exact).abs().max() <= 3e-5 * exact.abs().max()


@needs_kernels
def test_gradient_in_mu_is_the_references_whole() -> None:
    """Its radial part too, and for a gradient that autograd hands over as one repeated number."""
    grads = []
    for path, dtype in (("native", torch.float32), ("reference", torch.float64)):
        mu = _units(9, 33).to(dtype).requires_grad_()
        vmf.sample(mu, 20.0, noise=_noise(2), path=path).sum().backward()
        assert mu.grad is not None
        grads.append(mu.grad.double())
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-5, atol=1e-5)


@needs_kernels
def test_a_scalar_kappa_and_one_that_is_asked_alone_get_gradients() -> None:
    mu = _units(12, 8)
    grads = []
    for path in ("native", "reference"):
        kappa = torch.tensor(30.0, requires_grad=True)
        (grad,) = torch.autograd.grad(
            (vmf.sample(mu, kappa, noise=_noise(3), path=path) ** 3).sum(), kappa
        )
        grads.append(grad)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-4, atol=0)


@needs_kernels
@pytest.mark.parametrize("dim", (2, 19, 128))
def test_rows_do_not_depend_on_their_company(dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    mu, noise = _units(300, dim), _noise(5, first=2)
    kappas = torch.linspace(0, 5000, 300)
    z = vmf.sample(mu, kappas, noise=noise, path="native")
    for begin, end in ((0, 1), (1, 7), (7, 299), (299, 300)):
        part = noise._replace(first=2 + begin)
        rows = slice(begin, end)
        assert torch.equal(vmf.sample(mu[rows], kappas[rows], noise=part, path="native"), z[rows])
    monkeypatch.setattr(kernels, "_LEAST_SHARE", 1)
    monkeypatch.setattr(threads.torch, "get_num_threads", lambda: 3)
    assert torch.equal(vmf.sample(mu, kappas, noise=noise, path="native"), z)


@needs_kernels
def test_rows_anywhere_in_memory() -> None:
    mu, noise = _units(64, 24), _noise(6)
    z = vmf.sample(mu, 7.0, noise=noise, path="native")
    apart = torch.stack((mu, mu), dim=2)[:, :, 1]
    assert not apart.is_contiguous()
    assert torch.equal(vmf.sample(apart, 7.0, noise=noise, path="native"), z)
    assert vmf.sample(mu[:0], 7.0, noise=noise, path="native").shape == (0, 24)


@needs_kernels
def test_a_row_that_is_not_a_number_spoils_itself_only() -> None:
    mu, noise = _units(11, 20), _noise(7)
    good = vmf.sample(mu, 50.0, noise=noise, path="native")
    kappas = torch.full((11,), 50.0)
    mu[3, 5], kappas[8] = torch.nan, torch.nan
    z = vmf.sample(mu, kappas, noise=noise, path="native")
    assert z[3].isnan().all() and z[8].isnan().all()
    rest = [i for i in range(11) if i not in (3, 8)]
    assert torch.equal(z[rest], good[rest])


@needs_kernels
def test_rows_have_numbers_from_0() -> None:
    for path in ("native", "reference"):
        with pytest.raises(RecipeError, match=r"first=-1 .* 0 or above"):
            vmf.sample(_units(4, 8), 10.0, noise=vmf.draw(first=-1), path=path)


@needs_kernels
def test_too_few_concentrations_are_refused() -> None:
    with pytest.raises(ValueError, match="3 concentrations do not fit 4 rows"):
        kernels.angles(kernels.Source(1, 0), torch.ones(3, dtype=torch.float64), 4, 8)


def _taken(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """Whether a call of sample reaches the kernels."""
    reached: list[bool] = []

    def place(*_: object) -> Tensor:
        reached.append(True)
        raise InterruptedError

    monkeypatch.setattr(kernels, "place", place)

    def taken(mu: Tensor, path: vmf_sampler.Path) -> bool:
        reached.clear()
        try:
            vmf.sample(mu, 1.0, path=path)
        except InterruptedError:
            pass
        return bool(reached)

    return taken


@needs_kernels
def test_kernels_are_taken_where_they_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = _taken(monkeypatch)
    mu = _units(4, 6)
    assert taken(mu, "auto") and taken(mu.bfloat16(), "auto")
    assert not taken(mu.double(), "auto") and not taken(mu, "reference")
    with pytest.raises(RunError, match=r"these are torch\.float64 on cpu\. Take path='auto'"):
        vmf.sample(mu.double(), 1.0, path="native")
    with pytest.raises(RunError, match=r"run on CUDA, the tensors lie on cpu\. Take path='auto'"):
        vmf.sample(mu, 1.0, path="triton")


@needs_kernels
def test_a_second_derivative_is_refused_not_wrong() -> None:
    mu = _units(4, 6).requires_grad_()
    plain = (vmf.sample(mu, 2.0, path="reference") ** 3).sum()
    (first,) = torch.autograd.grad(plain, mu, create_graph=True)
    assert torch.autograd.grad(first.sum(), mu)[0].abs().max() > 0
    with pytest.raises(RunError, match=r"no second derivative.* Pass path='reference'"):
        torch.autograd.grad((vmf.sample(mu, 2.0) ** 3).sum(), mu, create_graph=True)


def test_without_kernels_the_reference_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = vmf.sample(_units(4, 6), 1.0, noise=_noise(0), path="reference")
    monkeypatch.setattr(native, "library", lambda: None)
    assert torch.equal(vmf.sample(_units(4, 6), 1.0, noise=_noise(0)), expected)
    with pytest.raises(RunError, match="install a C compiler"):
        vmf.sample(_units(4, 6), 1.0, path="native")


_TRITON = """
import torch
from squint.ops import vmf
torch.manual_seed(0)
for n, d, first in ((9, 20, 5), (6, 2, 0), (3, 129, 1), (5, 3, 2**31)):
    mu = torch.nn.functional.normalize(torch.randn(n, d), dim=1).requires_grad_()
    noise, by = vmf.draw(first=first), torch.randn(n, d)
    for kappa in (0.0, 1024.0, torch.rand(n) * 500, torch.tensor(30.0, requires_grad=True)):
        leaves = [x for x in (mu, kappa) if isinstance(x, torch.Tensor) and x.requires_grad]
        ours, exact = (
            vmf.sample(mu, kappa, noise=noise, path=path) for path in ("triton", "reference")
        )
        torch.testing.assert_close(ours, exact, rtol=0, atol=2e-6)
        gradients = (torch.autograd.grad((z * by).sum(), leaves) for z in (ours, exact))
        for ours, exact in zip(*gradients, strict=True):
            torch.testing.assert_close(ours, exact, rtol=0, atol=2e-6 * exact.abs().max().item())
print("equal")
"""


@needs_triton
def test_the_triton_kernels_draw_the_reference_s_codes_in_triton_s_interpreter() -> None:
    run_interpreted(_TRITON)


@pytest.mark.gpu
def test_codes_on_the_device_are_those_of_the_cpu() -> None:
    mu, noise = _units(300, 128), _noise(8, first=3)
    exact = vmf.sample(mu.double(), 1024.0, noise=noise)
    there = noise._replace(key=noise.key.cuda())
    for path in ("auto", "triton", "reference"):
        z = vmf.sample(mu.cuda(), 1024.0, noise=there, path=path)
        torch.testing.assert_close(z.cpu().double(), exact, rtol=0, atol=4e-6)


@pytest.mark.gpu
def test_drawing_on_the_device_waits_for_nothing() -> None:
    mu = _units(300, 128).cuda()
    vmf.sample(mu, 1024.0)  # the trial of the kernels
    with no_waiting():
        vmf.sample(mu, 1024.0)


_COMPILED = """
import torch
from squint.ops import vmf
mu = torch.nn.functional.normalize(torch.randn(300, 128, device="cuda"), dim=1)
noise = vmf.draw(first=3, device="cuda")
drawn = torch.compile(vmf.sample, fullgraph=True)(mu, 1024.0, noise=noise)
torch.testing.assert_close(drawn, vmf.sample(mu, 1024.0, noise=noise), rtol=0, atol=1e-5)
"""


@pytest.mark.gpu
def test_compiled_on_the_device_it_draws_the_same_codes() -> None:
    """In a process of its own: the compiler can't trace the shape checks of this one."""
    done = subprocess.run([sys.executable, "-c", _COMPILED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
