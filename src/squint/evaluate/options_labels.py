"""Settings of the protocols that learn from labels: what is learned, on how many, and how.

Nothing here imports torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from squint.errors import RecipeError
from squint.evaluate.limits import above_zero, at_least, some

LINEAR_STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class KNNOptions:
    """Weighted k-nearest-neighbour vote."""

    k: int = 200
    """Neighbours that vote."""
    temperature: float = 0.1
    """Votes weigh exp(cosine / temperature)."""

    def __post_init__(self) -> None:
        at_least("knn.k", self.k, 1)
        above_zero("knn.temperature", self.temperature)


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearOptions:
    """Logistic regression on standardised features."""

    strengths: tuple[float, ...] = LINEAR_STRENGTHS
    """l2 strengths to choose from; all are fitted at once."""
    held_out: float = 0.1
    """Share of every class of train that chooses."""
    seed: int = 0
    """Seed of the choice of the held-out images."""

    def __post_init__(self) -> None:
        check_linear(self.strengths, self.held_out)
        at_least("linear.seed", self.seed, 0)


def check_linear(strengths: Sequence[float], held_out: float) -> None:
    """Refuse settings the linear probe can't be fitted with.

    Raises:
        RecipeError: with the setting's name and value.
    """
    if not strengths or not all(strength > 0 for strength in strengths):
        raise RecipeError(
            f"linear.strengths={tuple(strengths)} must hold at least one number, all above 0: "
            "without a penalty separable features have no best fit. The default is "
            f"{LINEAR_STRENGTHS}."
        )
    if not 0 < held_out < 1:
        raise RecipeError(
            f"linear.held_out={held_out} must be a share of train, above 0 and below 1, usually "
            "0.1."
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SGDProbeOptions:
    """The papers' linear probes by SGD."""

    setting: Literal[
        "moco", "mocov3", "mocov3-vit", "simclr", "simclr-cifar", "byol", "byol-released"
    ] = "moco"
    """Whose learning rate, decay, batch, schedule, epochs and initial weights. byol: the paper's
    five learning rates; byol-released: the one of its code."""
    lr: float | Literal["published"] = "published"
    """30 (moco); per 256 images 0.1 (mocov3, simclr), 3 (mocov3-vit), 0.2 (byol-released), or the
    best of five on held-out train images (byol)."""
    weight_decay: float | Literal["published"] = "published"
    """Weight decay of weights and biases: 1e-6 (simclr), else 0."""
    batch_size: int | Literal["published"] = "published"
    """Images per step, at most all: 256 (moco), 512 (simclr-cifar), 1024 (mocov3, byol), 4096
    (simclr, byol-released). All but moco scale the learning rate with it."""
    epochs: int | Literal["published"] = "published"
    """Passes over train: 100 (moco, simclr-cifar), 90 (mocov3, simclr), 80 (byol)."""
    augment: bool = False
    """New random crops and flips in every epoch, as in the papers: one encoder pass per epoch.
    Otherwise the features of the evaluation view are computed once and used in every epoch."""
    seed: int = 0
    """Seed of order, crops and initial weights."""

    def __post_init__(self) -> None:
        at_least("sgd.seed", self.seed, 0)
        if self.lr != "published":
            above_zero("sgd.lr", self.lr)
        if self.weight_decay != "published":
            at_least("sgd.weight_decay", self.weight_decay, 0)
        if self.batch_size != "published":
            at_least("sgd.batch_size", self.batch_size, 1)
        if self.epochs != "published":
            at_least("sgd.epochs", self.epochs, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class FewshotOptions:
    """Linear probes on few labels."""

    shares: tuple[float, ...] = (0.01, 0.1)
    """Shares of the labels of every class."""
    shots: tuple[int, ...] = ()
    """Labelled images per class."""
    draws: int = 5
    """Choices of the labelled images, each a number; the mean and its interval are told."""
    seed: int = 0
    """Seed of the draws."""

    def __post_init__(self) -> None:
        at_least("fewshot.draws", self.draws, 2)
        at_least("fewshot.seed", self.seed, 0)
        some("fewshot.shares, fewshot.shots", (*self.shares, *self.shots))
        for share in self.shares:
            if not 0 < share <= 1:
                raise RecipeError(f"fewshot.shares={share:g} must be above 0 and at most 1.")
        for shots in self.shots:
            at_least("fewshot.shots", shots, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class FinetuneOptions:
    """Training the encoder with its classifier, end to end."""

    labels: tuple[float, ...] = (1.0,)
    """Shares of the labels of every class, one result each."""
    setting: Literal["squint", "simclr", "byol"] = "squint"
    """squint: AdamW, layer-wise decay, EMA. simclr, byol: their semi-supervised settings."""
    epochs: int | Literal["setting"] = "setting"
    """Passes over the labelled images; squint 10, simclr 60 (up to 1 %) or 30, byol 30."""
    batch_size: int = 256
    """Images per step; the learning rate is scaled with it."""
    lr: float | Literal["setting"] = "setting"
    """Per 256 images; squint 1e-3, simclr 0.05, byol the best of five on held-out train images."""
    layer_decay: float | Literal["setting"] = "setting"
    """Learning rate of a layer as a share of the next one's; squint 0.75, others 1."""
    ema: float | Literal["setting"] = "setting"
    """Share that the averaged weights, which are counted, keep per step; squint 0.99, others 0."""
    seed: int = 0
    """Seed of the labelled images, order and crops."""

    def __post_init__(self) -> None:
        at_least("finetune.batch_size", self.batch_size, 2)
        at_least("finetune.seed", self.seed, 0)
        some("finetune.labels", self.labels)
        if self.lr != "setting":
            above_zero("finetune.lr", self.lr)
        if self.layer_decay != "setting" and not 0 < self.layer_decay <= 1:
            raise RecipeError(
                f"finetune.layer_decay={self.layer_decay:g} must be above 0 and at most 1."
            )
        if self.ema != "setting" and not 0 <= self.ema < 1:
            raise RecipeError(
                f"finetune.ema={self.ema:g} must be at least 0 and below 1: 1 never moves."
            )
        for share in self.labels:
            if not 0 < share <= 1:
                raise RecipeError(f"finetune.labels={share:g} must be above 0 and at most 1.")
        if self.epochs != "setting":
            at_least("finetune.epochs", self.epochs, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferOptions:
    """Learning on one source, testing on another."""

    train_data: str = ""
    """Labelled source to learn on; --data is tested."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CompareOptions:
    """What an encoder is compared with, beside a fresh one."""

    checkpoint: str = ""
    """Another run, weights file, or timm:NAME."""
    encoder: str = ""
    """Architecture of that weights file."""
