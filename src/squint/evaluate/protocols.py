"""`squint.evaluate`: an encoder to numbers, each with the protocol that made it.

Numbers are those of the last weights, never of the best on test. A random encoder of the same
shape is measured beside the trained one: what the architecture gives away for free.

To add a protocol: a function `Bench -> {name: entry}` in a file of its own (`bench.py` says what an
entry holds), its settings and its name in `options.py`, and one line in `PROTOCOLS`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from squint.data import Images, open_source
from squint.device import choose_device
from squint.environment import environment
from squint.errors import RunError
from squint.evaluate import (
    augmentations,
    compare,
    compression,
    evaluation_file,
    fewshot,
    finetune,
    fitted,
    knn,
    linear,
    lipschitz,
    nuisance,
    pgd,
    robustness,
    sgd_probe,
    shifted,
    surprise,
    transfer,
)
from squint.evaluate.bench import Bench
from squint.evaluate.evaluation_file import Table
from squint.evaluate.options import Options, SubjectOptions
from squint.evaluate.subject import Subject, open_subject
from squint.runs import Run

PROTOCOLS: Mapping[str, Callable[[Bench], dict[str, Any]]] = {
    "knn": knn.measured,
    "linear": linear.measured,
    "linear-sgd": sgd_probe.measured,
    "fewshot": fewshot.measured,
    "finetune": finetune.measured,
    "transfer": transfer.measured,
    "compare": compare.measured,
    "compression": compression.measured,
    "fitted": fitted.measured,
    "augmentations": augmentations.measured,
    "nuisance": nuisance.measured,
    "lipschitz": lipschitz.measured,
    "surprise": surprise.measured,
    "robustness": robustness.measured,
    "pgd": pgd.measured,
    "shifted": shifted.measured,
}

_CHECKS: Mapping[str, Callable[[Bench], None]] = {
    "transfer": transfer.check,
    "nuisance": nuisance.check,
    "shifted": shifted.check,
}
"""What a protocol lacks is said before another one has been measured for hours."""


class Measured(NamedTuple):
    """What one call measured, and where it went."""

    table: Table
    """All that is known of these weights and images."""
    new: tuple[str, ...]
    """Names of the results of this call."""
    out: Path
    """The evaluation.json."""


def evaluate(
    target: str | Path | Run,
    *,
    data: str | Path | Images | None = None,
    protocols: str | Sequence[str] = ("knn", "linear"),
    device: str = "auto",
    options: Options | None = None,
    subject: SubjectOptions | None = None,
    out: str | Path | None = None,
) -> Table:
    """Measure an encoder and write evaluation.json, anew after each protocol.

    Results measured before stay in the file: of the same weights and data beside the new ones, of
    others under `others`.

    Args:
        target: a run folder, a weights file with timm's or torchvision's key names, timm:NAME or
            torchvision:NAME.
        data: a labelled source; by default the images the run was trained on. Its train split is
            the bank or the training set, its test or val split is tested.
        protocols: names out of `PROTOCOLS`, or one.
        device: auto (CUDA or the CPU), cpu, cuda, cuda:1, mps.
        options: settings of the protocols.
        subject: architecture, weights and size of a target that is no run.
        out: file of the results; by default evaluation.json in the run's folder, beside the weights
            file, or in the current folder.

    Raises:
        SquintError: no such run or protocol; no labels where accuracy is asked for.
    """
    return measure(
        target,
        data=data,
        protocols=protocols,
        device=device,
        options=options,
        subject=subject,
        out=out,
    ).table


def measure(
    target: str | Path | Run,
    *,
    data: str | Path | Images | None,
    protocols: str | Sequence[str],
    device: str,
    options: Options | None,
    subject: SubjectOptions | None,
    out: str | Path | None,
) -> Measured:
    """`evaluate`, which also tells what was measured now from what was known before."""
    protocols = (protocols,) if isinstance(protocols, str) else protocols
    check_protocols(protocols)
    under_test = open_subject(target, subject, out=out)
    images = images_of(under_test, data)
    bench = Bench(under_test, images, device_of(device), options or Options())
    head = under_test.described() | {
        "data": images.name,
        "fingerprint": images.fingerprint(),
        "environment": environment(),
    }
    table = evaluation_file.joined(under_test.out, head, {})
    new: list[str] = []
    for protocol in protocols:
        if protocol in _CHECKS:
            _CHECKS[protocol](bench)
    for protocol in protocols:
        began = time.monotonic()
        results = PROTOCOLS[protocol](bench)
        seconds = time.monotonic() - began
        timed = {name: entry | {"seconds": seconds} for name, entry in results.items()}
        table = evaluation_file.add(under_test.out, head, timed)
        new += timed
    return Measured(table, tuple(new), under_test.out)


def check_protocols(protocols: Sequence[str]) -> None:
    """Refuse protocols that don't exist.

    Raises:
        RunError: names the known ones.
    """
    if not protocols:
        raise RunError(f"No protocol is named: give at least one of {', '.join(PROTOCOLS)}.")
    for protocol in protocols:
        if protocol not in PROTOCOLS:
            raise RunError(f"No protocol {protocol!r}: it must be one of {', '.join(PROTOCOLS)}.")


def images_of(subject: Subject, data: str | Path | Images | None) -> Images:
    """The images asked for, or those of the subject's run.

    Raises:
        SquintError: there are none.
    """
    if isinstance(data, Images):
        return data
    if data is None:
        if subject.run is None:
            raise RunError("An encoder without a run has no images of its own: give --data SRC.")
        data = subject.run.source
    return open_source(data, channels=subject.encoder.config.in_channels)


def device_of(name: str) -> torch.device:
    """The device asked for; auto is CUDA or the CPU, as probes compute in float64.

    Raises:
        SquintError: it is unknown, or not on this machine.
    """
    return choose_device(name, mps=False)
