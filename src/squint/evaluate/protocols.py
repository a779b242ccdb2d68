"""`squint.evaluate`: a run folder to numbers, each with the protocol that made it.

Numbers are those of the last weights, never of the best on test. A random encoder of the same
shape is measured beside the trained one: what the architecture gives away for free.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from squint import methods, runs
from squint.data import Images, open_source
from squint.errors import CheckpointError, RunError
from squint.evaluate import compression
from squint.evaluate.inputs import Halves, Labelled, halves, labelled_features, view_pairs
from squint.evaluate.knn import knn_protocol, knn_top1
from squint.evaluate.linear import linear_probe
from squint.interop import encoder as encoder_file
from squint.interop.encoder import PretrainedEncoder
from squint.runs import Run

KNN_NEIGHBORS, KNN_TEMPERATURE = 200, 0.1
COMPRESSION_IMAGES = 2_000
"""Held-out images on which compression is measured."""

Table = dict[str, Any]
"""What evaluation.json holds: `results` by name, each with value, random and protocol."""


def evaluate(
    run: str | Path | Run,
    *,
    data: str | Path | Images | None = None,
    protocols: Sequence[str] = ("knn", "linear"),
    device: str = "auto",
) -> Table:
    """Measure a run's encoder and write evaluation.json.

    Protocols measured before on the same run stay in the file.

    Args:
        run: the run folder.
        data: a labelled source; by default the images the run was trained on. Its train split is
            the bank or the training set, its test or val split is tested.
        protocols: knn, linear, compression.
        device: auto, cpu, cuda, cuda:1, mps.

    Raises:
        SquintError: no such run or protocol; no labels where accuracy is asked for.
    """
    run = run if isinstance(run, Run) else Run(Path(run))
    for protocol in protocols:
        if protocol not in PROTOCOLS:
            raise RunError(f"No protocol {protocol!r}: it must be one of {', '.join(PROTOCOLS)}.")
    recipe = run.recipe
    source = run.source if data is None else data
    if isinstance(source, Images):
        images = source
    else:
        images = open_source(source, channels=recipe.encoder.in_channels)
    table: Table = {
        "run": str(run.path),
        "recipe": recipe.name,
        "data": images.name,
        "step": _step(run),
        "environment": runs.environment(),
        "results": _earlier_results(run, images),
    }
    bench = Bench(run, images, _device(device))
    for protocol in protocols:
        began = time.monotonic()
        results = PROTOCOLS[protocol](bench)
        seconds = time.monotonic() - began
        table["results"] |= {name: entry | {"seconds": seconds} for name, entry in results.items()}
        runs.write_json(run.path / "evaluation.json", table)
    return table


class Bench:
    """What protocols share: the parts of the data, and features extracted once."""

    def __init__(self, run: Run, images: Images, device: torch.device) -> None:
        self.run = run
        self.device = device
        self.parts: Halves = halves(images)
        self.classes = len(images.classes)
        self.encoder: PretrainedEncoder = encoder_file.load(run.path)
        self._features: dict[str, tuple[Labelled, Labelled]] = {}

    def features(self, which: str) -> tuple[Labelled, Labelled]:
        """Features of the train and test part, by the "trained" or a "random" encoder."""
        if which not in self._features:
            encoder = self.encoder.encoder if which == "trained" else self._random_encoder()
            train, test = (
                labelled_features(encoder, part, self.encoder.views, device=self.device)
                for part in self.parts[:2]
            )
            self._features[which] = train, test
        return self._features[which]

    def _random_encoder(self) -> torch.nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return encoder_file.build(self.encoder.config)


def knn(bench: Bench) -> dict[str, Any]:
    """Weighted kNN on cosine similarity (Wu et al. 2018)."""
    values = {
        which: knn_top1(
            *bench.features(which)[0],
            *bench.features(which)[1],
            k=KNN_NEIGHBORS,
            temperature=KNN_TEMPERATURE,
            num_classes=bench.classes,
            device=bench.device,
        )
        for which in ("trained", "random")
    }
    protocol = knn_protocol(
        k=KNN_NEIGHBORS,
        temperature=KNN_TEMPERATURE,
        bank_images=len(bench.features("trained")[0].labels),
        leave_one_out=False,
    )
    return {"knn_top1": _entry(values, f"{protocol}; {bench.parts.note}")}


def linear(bench: Bench) -> dict[str, Any]:
    """Logistic regression on frozen features."""
    probes = {
        which: linear_probe(*bench.features(which)[0], *bench.features(which)[1])
        for which in ("trained", "random")
    }
    values = {which: probe.top1 for which, probe in probes.items()}
    protocol = f"{probes['trained'].protocol}; {bench.parts.note}"
    entry = _entry(values, protocol) | {"strength": probes["trained"].strength}
    return {"linear_top1": entry}


def measured_compression(bench: Bench) -> dict[str, Any]:
    """Rate and information of the code on held-out images."""
    recipe = bench.run.recipe
    method = methods.build(recipe)
    try:
        method.load_state_dict(bench.run.state()["method"])
    except RuntimeError as error:
        raise CheckpointError(f"{bench.run.checkpoint} does not fit its recipe: {error}") from None
    method.to(bench.device)
    channel = compression.channel_of(method)
    pairs = view_pairs(
        bench.parts.test, recipe.views, device=bench.device, limit=COMPRESSION_IMAGES
    )
    measured = compression.measure(method, pairs, channel=channel)
    protocol = (
        f"projector codes of two training views of up to {COMPRESSION_IMAGES} images, evaluation "
        f"mode, seed 0; e(z|x) = vMF(kappa_e = {channel.kappa_e:g}), b(z|y) = vMF(kappa_b = "
        f"{channel.kappa_b:g}); rate in closed form, information by contrast with the codes "
        f"given in a batch, at most {measured.info_cap_nats:.2f} nats; {bench.parts.note}"
    )
    values = {name: value for name, value in measured._asdict().items() if name != "info_cap_nats"}
    return {name: {"value": value, "protocol": protocol} for name, value in values.items()} | {
        "info_cap_nats": {"value": measured.info_cap_nats, "protocol": protocol}
    }


PROTOCOLS: Mapping[str, Callable[[Bench], dict[str, Any]]] = {
    "knn": knn,
    "linear": linear,
    "compression": measured_compression,
}


def _entry(values: Mapping[str, float], protocol: str) -> dict[str, Any]:
    return {"value": values["trained"], "random": values["random"], "protocol": protocol}


def _step(run: Run) -> int:
    """Optimizer steps behind the weights that are measured."""
    return run.state()["position"]["step"]


def _earlier_results(run: Run, images: Images) -> dict[str, Any]:
    """Results already in evaluation.json, if they are of the same weights and images."""
    earlier = run.evaluation()
    same = earlier.get("data") == images.name and earlier.get("step") == _step(run)
    return dict(earlier["results"]) if same else {}


def _device(name: str) -> torch.device:
    """The device asked for, once it is known to work.

    Raises:
        RunError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError):  # torch without CUDA asserts
        raise RunError(
            f"Device {name!r} is unknown or not on this machine. Use --device auto or --device cpu."
        ) from None
