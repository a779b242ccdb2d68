"""Draws from the von Mises-Fisher law: 4,096 rows, beside other libraries.

    python benchmarks/sampler.py [--quick] [--write]

Ours draws one code per mean direction. SciPy draws all rows around one mean; TensorFlow
Probability runs compiled on JAX. The table gives rows per second.
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

ROWS = 4096


def main() -> None:
    options = side_by_side.options(__doc__)
    laws = [(d, kappa) for d in (128, 256) for kappa in (10.0, 1024.0, 16384.0)]
    sections = [section(d, kappa, options.seconds / len(laws)) for d, kappa in laws]
    side_by_side.report("sampler", sections, options)


def section(d: int, kappa: float, seconds: float) -> Section:
    mu = F.normalize(torch.randn(ROWS, d, generator=torch.Generator().manual_seed(0)), dim=1)
    noise = vmf.draw(ROWS, d)
    cases = [
        Case("squint", lambda: vmf.sample(mu, kappa), ROWS),
        Case("squint, noise given", lambda: vmf.sample(mu, kappa, noise=noise), ROWS),
        Case("torch.randn of the same size", lambda: torch.randn(ROWS, d), ROWS),
        Case("SciPy", scipy(mu, kappa), ROWS),
        Case("TensorFlow Probability on JAX", tensorflow_probability(mu, kappa), ROWS),
    ]
    timings = side_by_side.measure(cases, seconds=seconds)
    return Section(f"d = {d}, kappa = {kappa:g}, {ROWS:,} rows", timings, "SciPy")


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
            law = tfp.distributions.VonMisesFisher(jax.numpy.asarray(mu.numpy()), kappa)
            compiled.append(jax.jit(lambda key: law.sample(seed=key)))
            compiled.append(jax.random.PRNGKey(0))
        sample, key = compiled
        return sample(key).block_until_ready()

    return run


if __name__ == "__main__":
    main()
