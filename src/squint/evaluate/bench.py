"""What protocols share: the subject, its data, and features extracted once.

A protocol is a function `Bench -> {name of result: entry}` in a file of its own, registered by one
line of `protocols.PROTOCOLS`. An entry is JSON that tells its number and how to get it again:

    value      the number (a share 0 to 1 for accuracies)
    random     the same of an untrained encoder of that architecture, where this says something
    interval   half the width of its 95 % confidence interval, where there are several draws
    table      rows of named numbers {row: {column: number}}, where one number is not all
    protocol   all that decides the number in one line: features, normalisation, crop, split,
               epochs, seed

and whatever else the number follows from (chosen strength, number per draw). Settings come from
`bench.options`, one frozen dataclass a protocol in `options.py`; features from `bench.features`;
anything costly that two protocols need, such as the fitted probe, from `bench.once`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from squint.data import Images
from squint.errors import RunError
from squint.evaluate.inputs import (
    Halves,
    Labelled,
    Seen,
    check_labels,
    halves,
    labelled,
    seen_features,
)
from squint.evaluate.options import Options
from squint.evaluate.subject import Subject
from squint.interop.encoder import PretrainedEncoder, build
from squint.runs import Run
from squint.views.recipes import ViewsConfig

Which = Literal["trained", "random"]
"""The encoder under test, or a fresh one of its architecture (seed 0)."""

Entry = dict[str, Any]

Value = TypeVar("Value")


class Bench:
    """One subject on one source."""

    def __init__(
        self, subject: Subject, images: Images, device: torch.device, options: Options
    ) -> None:
        self.subject = subject
        self.images = images
        self.device = device
        self.options = options
        self.parts: Halves = halves(images)
        self.classes = len(images.classes)
        self._made: dict[object, Any] = {}

    @property
    def encoder(self) -> PretrainedEncoder:
        """The encoder under test with its input, (n, c, h, w) -> (n, f)."""
        return self.subject.encoder

    @property
    def views(self) -> ViewsConfig:
        """Its input: size, crop, normalisation."""
        return self.subject.encoder.views

    def run(self, protocol: str) -> Run:
        """The run behind the encoder, for protocols that read more than its encoder.

        Raises:
            RunError: the subject is a bare encoder.
        """
        if self.subject.run is None:
            raise RunError(
                f"The protocol {protocol} reads heads and settings of a run, and "
                f"{self.subject.name} is only an encoder. Give a run folder, or leave "
                f"{protocol} out."
            )
        return self.subject.run

    def module(self, which: Which) -> nn.Module:
        """The encoder under test itself, or a fresh one of its architecture."""
        return self.encoder.encoder if which == "trained" else self.once("fresh", self.fresh)

    def fresh(self) -> nn.Module:
        """A new encoder of the architecture, weights drawn under seed 0."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return build(self.encoder.config)

    @property
    def kinds(self) -> tuple[Which, ...]:
        """What is measured: trained and random, or random weights alone if that is the subject."""
        return ("trained", "random") if self.subject.trained else ("trained",)

    def features(self, which: Which = "trained") -> tuple[Labelled, Labelled]:
        """Features of the evaluation view of the train and test part, with their labels."""
        for part in self.parts[:2]:
            check_labels(part)
        train, test = self.seen(which)
        return labelled(train), labelled(test)

    def seen(self, which: Which = "trained") -> tuple[Seen, Seen]:
        """Features of the evaluation view of the train and test part, with or without labels."""

        def made() -> tuple[Seen, Seen]:
            module = self.module(which)
            train, test = (
                seen_features(module, part, self.views, device=self.device)
                for part in self.parts[:2]
            )
            return train, test

        return self.once(("features", which), made)

    def seen_all(self) -> Seen:
        """Features of the evaluation view of every image of the source, whatever its split."""
        module = self.module("trained")
        return seen_features(module, self.images, self.views, device=self.device)

    def once(self, key: object, make: Callable[[], Value]) -> Value:
        """What `make` gives, made at the first call with this key and kept."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def entry(self, values: Mapping[str, float], protocol: str, **more: Any) -> Entry:
        """An entry of the measured kinds; the protocol is completed by how the data was split."""
        random = {"random": values["random"]} if "random" in values else {}
        said = f"{protocol}; {self.parts.note}"
        return {"value": values["trained"], **random, "protocol": said, **more}
