"""Draws from the von Mises-Fisher law: 4,096 rows, beside other libraries, and how cost grows.

    python benchmarks/sampler.py [--quick] [--write]
    python benchmarks/sampler.py --threads 2 [--write]

Ours draws one code per mean direction. SciPy draws all rows around one mean; TensorFlow
Probability runs compiled on JAX, one code per mean direction too. Tables give rows per second.
With two threads ours is compared with itself on one.
"""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import side_by_side
import torch
import torch.nn.functional as F
from side_by_side import Case, Section

from squint.ops import vmf

ROWS, DIM, KAPPA = 4096, 128, 1024.0
DIMS = (16, 64, 128, 256, 512, 1024, 2048)
COUNTS = (256, 1024, 4096, 16_384, 65_536)
TFP = "TensorFlow Probability on JAX"


def main() -> None:
    options = side_by_side.options(__doc__)
    if options.threads > 1:
        part = options.seconds / len(COUNTS)
        sections = [threads(n, options.threads, part) for n in COUNTS]
        return side_by_side.report("sampler_threads", sections, options)
    laws = [(d, kappa) for d in (128, 256) for kappa in (10.0, 1024.0, 16384.0)]
    sections = [section(d, kappa, options.seconds / len(laws)) for d, kappa in laws]
    side_by_side.report("sampler", sections, options, more=growth(options.seconds / 12))


def section(d: int, kappa: float, seconds: float) -> Section:
    mu = means(ROWS, d)
    asking = mu.clone().requires_grad_()
    cases = [
        Case("squint", lambda: vmf.sample(mu, kappa), ROWS),
        Case("squint, and the gradient in mu", lambda: gradient(asking, kappa), ROWS),
        Case("squint, torch reference", lambda: vmf.sample(mu, kappa, path="reference"), ROWS),
        Case("torch.randn of the same size", lambda: torch.randn(ROWS, d), ROWS),
        Case("SciPy", scipy(mu, kappa), ROWS),
        Case(TFP, tensorflow_probability(mu, kappa), ROWS),
    ]
    timings = side_by_side.measure(cases, seconds=seconds)
    return Section(f"d = {d}, kappa = {kappa:g}, {ROWS:,} rows", timings, TFP)


def growth(seconds: float) -> str:
    """Rows per second against the number of dimensions, then against the number of rows."""
    lines = [
        f"## Growth, kappa = {KAPPA:g}",
        "",
        "| rows | d | squint | of it per number, ns | " + TFP + " | squint times that |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for n, d in [*((ROWS, d) for d in DIMS), *((n, DIM) for n in COUNTS)]:
        mu = means(n, d)
        cases = [
            Case("squint", lambda mu=mu: vmf.sample(mu, KAPPA), n),
            Case(TFP, tensorflow_probability(mu, KAPPA), n),
        ]
        timings = side_by_side.measure(cases, seconds=seconds)
        ours, theirs = (n / np.median(t.seconds) if t.seconds else np.nan for t in timings)
        times = side_by_side.ratio(timings, "squint", TFP)[0] if timings[1].seconds else np.nan
        lines.append(
            f"| {n:,} | {d:,} | {ours:,.0f} | {1e9 / ours / d:.2f} | {theirs:,.0f} | {times:.1f} |"
        )
    return "\n".join(lines)


def threads(n: int, count: int, seconds: float) -> Section:
    mu = means(n, DIM)

    def on(number: int) -> Callable[[], object]:
        def run() -> object:
            torch.set_num_threads(number)
            return vmf.sample(mu, KAPPA)

        return run

    cases = [
        Case("one thread", on(1), n),
        Case(f"{count} threads", on(count), n),
        Case(TFP + f", {count} cores", tensorflow_probability(mu, KAPPA), n),
    ]
    timings = side_by_side.measure(cases, seconds=seconds)
    torch.set_num_threads(count)
    return Section(f"{n:,} rows, d = {DIM}, kappa = {KAPPA:g}", timings, "one thread")


def means(n: int, d: int) -> torch.Tensor:
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(0)), dim=1)


def gradient(mu: torch.Tensor, kappa: float) -> torch.Tensor:
    z = vmf.sample(mu, kappa)
    return torch.autograd.grad(z, mu, mu.detach())[0]


def scipy(mu: torch.Tensor, kappa: float) -> Callable[[], object]:
    law = importlib.import_module("scipy.stats").vonmises_fisher
    mean = mu[0].double().numpy()
    frozen = law(mean / np.linalg.norm(mean), kappa, seed=0)
    return lambda: frozen.rvs(ROWS)


def tensorflow_probability(mu: torch.Tensor, kappa: float) -> Callable[[], object]:
    compiled: list[Any] = []

    def run() -> object:
        if not compiled:  # a library that does not import is a line in the table, not the end
            jax = importlib.import_module("jax")
            tfp = importlib.import_module("tensorflow_probability.substrates.jax")
            law = tfp.distributions.VonMisesFisher
            compiled.append(jax.jit(lambda mean, key: law(mean, kappa).sample(seed=key)))
            compiled.extend((jax.numpy.asarray(mu.numpy()), jax.random.PRNGKey(0)))
        sample, mean, key = compiled
        return sample(mean, key).block_until_ready()

    return run


if __name__ == "__main__":
    main()
