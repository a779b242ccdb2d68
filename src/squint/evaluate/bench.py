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
from functools import cached_property
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from squint.data import Images
from squint.device import Precision, choose_precision
from squint.errors import RunError
from squint.evaluate.inputs import Labelled, Seen, labelled, seen_features
from squint.evaluate.labels import check_classes
from squint.evaluate.options import Options
from squint.evaluate.parts import Halves, check_labels, halves
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
        self.classes = len(images.classes)
        self.precision: Precision = choose_precision(options.features.precision, device)
        self._made: dict[object, Any] = {}

    @cached_property
    def parts(self) -> Halves:
        """What is learned from and what is tested.

        Raises:
            DataError: there is but one image.
        """
        return halves(self.images)

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
        """The encoder under test itself, or a fresh one of its architecture; channels last."""
        module = self.encoder.encoder if which == "trained" else self.once("fresh", self.fresh)
        return module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

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
        """Features of the evaluation view of the train and test part, with their labels.

        Raises:
            DataError: there are no labels, or nothing can be learned from them.
        """
        for part in self.parts[:2]:
            check_labels(part)
        train, test = map(labelled, self.features_and_images(which))
        check_classes(train.labels.numpy(), test.labels.numpy(), self.images.classes)
        return train, test

    def features_and_images(self, which: Which = "trained") -> tuple[Seen, Seen]:
        """Features of the evaluation view of the train and test part, with or without labels."""

        def make() -> tuple[Seen, Seen]:
            module = self.module(which)
            return self._extract(module, self.parts.train), self._extract(module, self.parts.test)

        return self.once(("features", which), make)

    def features_of_all(self) -> Seen:
        """Features of the evaluation view of every image of the source, whatever its split."""
        return self._extract(self.module("trained"), self.images)

    def _extract(self, module: nn.Module, images: Images) -> Seen:
        return seen_features(
            module, images, self.views, device=self.device, precision=self.precision
        )

    def once(self, key: object, make: Callable[[], Value]) -> Value:
        """What `make` gives, made at the first call with this key and kept."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def entry(
        self,
        values: Mapping[str, float],
        protocol: str,
        *,
        own_view: bool = True,
        own_test: bool = True,
        **more: Any,
    ) -> Entry:
        """An entry of the measured kinds; the protocol is completed by how the data was split.

        Args:
            values: by kind.
            protocol: all else that decides the number.
            own_view: whether it is of the encoder's evaluation view, which is then described.
            own_test: whether it is counted on the source's test part, which is then described.
            **more: whatever else the number follows from.
        """
        random = {"random": values["random"]} if "random" in values else {}
        view = f"; {self._describe_view()}" if own_view else ""
        test = f"; {self.parts.note}" if own_test else ""
        said = f"{protocol}{view}{test}"
        return {"value": values["trained"], **random, "protocol": said, **more}

    def _describe_view(self) -> str:
        """The evaluation view in words."""
        view = self.views.evaluation
        mean, std = (
            ", ".join(f"{x:g}" for x in numbers) for numbers in (self.views.mean, self.views.std)
        )
        return (
            f"evaluation view: {view.size} px, central square of {100 * view.crop:g} % of the "
            f"shorter side, {view.interpolation}, less ({mean}) over ({std}), features of it in "
            f"{self.precision}"
        )
