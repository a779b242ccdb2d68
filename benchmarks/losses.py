"""Contrastive losses, forward and backward: time and memory beside other libraries.

    python benchmarks/losses.py [--quick] [--threads 2] [--write]

Codes are float32 unit vectors on the CPU, as they leave a projector. Memory is what a process with
the codes grows by during one forward and backward pass. Products in bfloat16 are measured where
the processor has them in hardware.
"""

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import side_by_side
import torch
import torch.nn.functional as F
from side_by_side import Case, Section
from torch import Tensor

from squint.device import choose_precision
from squint.ops import contrast

TEMPERATURE = 0.1
Loss = Callable[..., Tensor]


def main() -> None:
    options = side_by_side.options(__doc__, dimensions=128, largest=8192)
    d = options.dimensions
    sections = [
        against_peers(n, d, options.seconds / 4)
        for n in (256, 1024, 4096, 8192)
        if n <= options.largest
    ]
    sections.append(compressed_against_plain(min(4096, options.largest), d, options.seconds / 4))
    sections.append(published_form(1024, d, options.seconds / 4))
    if choose_precision("auto", torch.device("cpu")) == "bfloat16":
        sections.append(bfloat16(min(4096, options.largest), d, options.seconds / 8))
    more = "" if options.quick else growth(d, options.largest)
    side_by_side.report("losses", sections, options, more)


def codes(n: int, d: int, count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    rows = F.normalize(torch.randn(count, n, d, generator=generator), dim=2)
    return [x.clone().requires_grad_() for x in rows]


def passes(loss: Loss, leaves: list[Tensor]) -> Callable[[], object]:
    """Forward and backward of a loss on these codes."""
    return lambda: torch.autograd.grad(loss(*leaves), leaves)


def against_peers(n: int, d: int, seconds: float) -> Section:
    leaves = codes(n, d, 2)
    losses: dict[str, Loss] = {"squint": nt_xent, "squint, all at once": dense}
    for name, load in PEERS.items():
        if name == "pytorch-metric-learning" and n > 1024:
            continue  # 20 GiB and more
        try:
            losses[name] = load()
        except Exception as error:  # not installed, or does not import here
            losses[name] = absent(error)
    cases = [Case(name, passes(loss, leaves)) for name, loss in losses.items()]
    timings = side_by_side.measure(cases, seconds=seconds)
    notes = {
        name: f"{memory(name, n, d):,.0f} MiB"
        for name in losses
        if next(t for t in timings if t.name == name).seconds
    }
    return Section(
        f"NT-Xent, N = {n:,}, d = {d}: time, and memory added", timings, "lightly", notes
    )


def compressed_against_plain(n: int, d: int, seconds: float) -> Section:
    z, queue = codes(n, d, 4), codes(65536, d, 1)[0].detach()
    query, key = z[:1], z[1].detach()
    cases = [
        Case("NT-Xent", passes(nt_xent, z[:2])),
        Case("NT-Xent, CEB (anchors are draws, keys their means)", passes(nt_xent, z)),
        Case("InfoNCE among the batch (MoCo v3), plain and CEB", passes(in_batch(key), query)),
        Case(
            "InfoNCE against 65,536 keys (MoCo), n = 256, plain and CEB",
            passes(in_queue(key[:256], queue), [query[0][:256].detach().requires_grad_()]),
        ),
    ]
    timings = side_by_side.measure(cases, seconds=seconds)
    return Section(f"Compressed against plain, N = {n:,}", timings, "NT-Xent")


def published_form(n: int, d: int, seconds: float) -> Section:
    z = codes(n, d, 4)
    cases = [
        Case("squint", passes(nt_xent, z)),
        Case("broadcast over (n, m, d), as published", passes(broadcast, z)),
    ]
    timings = side_by_side.measure(cases, seconds=seconds)
    return Section(f"CEB's NT-Xent, N = {n:,}", timings, cases[1].name)


def bfloat16(n: int, d: int, seconds: float) -> Section:
    z = codes(n, d, 2)
    cases = [Case("float32", passes(nt_xent, z)), Case("bfloat16 products", passes(coarse, z))]
    exact, rough = (torch.cat(torch.autograd.grad(loss(*z), z)) for loss in (nt_xent, coarse))
    error = float((rough - exact).norm() / exact.norm())
    timings = side_by_side.measure(cases, seconds=seconds)
    return Section(
        f"Products in bfloat16, N = {n:,}",
        timings,
        "float32",
        {"bfloat16 products": f"gradient off by {error:.1e}"},
    )


def growth(d: int, largest: int) -> str:
    """Time and memory of one pass against N and d."""
    lines = ["## Growth", "", "| N | d | seconds | MiB |", "|---:|---:|---:|---:|"]
    for n in (256, 1024, 4096, 16384, 65536):
        for width in sorted({64, d, 512, 2048}) if n == 4096 else (d,):
            if n > 8 * largest:
                continue
            run = passes(nt_xent, codes(n, width, 2))
            seconds = side_by_side.seconds_of(Case("", run))
            lines.append(f"| {n:,} | {width} | {seconds:.4g} | {memory('squint', n, width):,.0f} |")
    return "\n".join(lines)


def memory(name: str, n: int, d: int) -> float:
    """MiB added by one forward and backward pass in a process of its own."""
    loss = {"squint": "losses.nt_xent", "squint, all at once": "losses.dense"}.get(
        name, f"losses.PEERS[{name!r}]()"
    )
    return side_by_side.peak_mebibytes(
        "import losses, torch\n"
        f"torch.set_num_threads({torch.get_num_threads()})\n"
        f"loss = {loss}\n"
        "small = losses.codes(128, 128, 2)\n"
        "losses.passes(loss, small)()\n"
        f"leaves = losses.codes({n}, {d}, 2)\n"
        "# ---\n"
        "losses.passes(loss, leaves)()"
    )


def nt_xent(*leaves: Tensor) -> Tensor:
    return contrast.nt_xent(*leaves, temperature=TEMPERATURE)


def dense(*leaves: Tensor) -> Tensor:
    return contrast.nt_xent(*leaves, temperature=TEMPERATURE, path="dense")


def coarse(*leaves: Tensor) -> Tensor:
    return contrast.nt_xent(*leaves, temperature=TEMPERATURE, products=torch.bfloat16)


def in_batch(key: Tensor) -> Loss:
    return lambda query: contrast.batch_info_nce(query, key, temperature=TEMPERATURE)


def in_queue(key: Tensor, queue: Tensor) -> Loss:
    return lambda query: contrast.info_nce(query, key, queue, temperature=TEMPERATURE)


def broadcast(z1: Tensor, z2: Tensor, u1: Tensor, u2: Tensor) -> Tensor:
    """The log densities of every draw under every key, one coordinate at a time (formula: CVR)."""
    terms = []
    for z, other, same in ((z1, u2, u1), (z2, u1, u2)):
        among_other = (z[:, None] * other[None]).sum(dim=2) / TEMPERATURE  # via (n, m, d)
        among_same = (z[:, None] * same[None]).sum(dim=2) / TEMPERATURE
        among_same = among_same.masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
        logits = torch.cat((among_other, among_same), dim=1)
        terms.append(F.cross_entropy(logits, torch.arange(len(z))))
    return (terms[0] + terms[1]) / 2


def lightly() -> Loss:
    return importlib.import_module("lightly.loss").NTXentLoss(temperature=TEMPERATURE)


def solo_learn() -> Loss:
    """From its file: the package itself does not import without pl_bolts."""
    package = importlib.util.find_spec("solo")
    if package is None:
        raise ModuleNotFoundError("No module named 'solo'")
    path = Path(next(iter(package.submodule_search_locations or ()))) / "losses" / "simclr.py"
    spec: Any = importlib.util.spec_from_file_location("solo_simclr", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda z1, z2: module.simclr_loss_func(z1, z2, TEMPERATURE)


def stable_pretraining() -> Loss:
    ssl: Any = importlib.import_module("stable_pretraining.losses")
    return ssl.NTXEntLoss(temperature=TEMPERATURE)


def metric_learning() -> Loss:
    losses = importlib.import_module("pytorch_metric_learning.losses")
    rule = losses.NTXentLoss(temperature=TEMPERATURE)

    def loss(z1: Tensor, z2: Tensor) -> Tensor:
        return rule(torch.cat((z1, z2)), torch.arange(len(z1)).repeat(2))

    return loss


def absent(error: Exception) -> Loss:
    def loss(*_: Tensor) -> Tensor:
        raise error

    return loss


PEERS: dict[str, Callable[[], Loss]] = {
    "lightly": lightly,
    "solo-learn": solo_learn,
    "stable-pretraining": stable_pretraining,
    "pytorch-metric-learning": metric_learning,
}


if __name__ == "__main__":
    main()
