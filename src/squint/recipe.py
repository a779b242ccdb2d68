"""Recipe: everything that decides a run, as one frozen tree of plain values.

Over 300 lines because every field carries the sentence that `--help` shows for it.

Nothing here imports torch, reads a file or draws a number. What is derived (scaled learning
rate, steps, warm-up) is a method of the recipe, printed at the start of a run and written
beside the raw value; a raw value is never rewritten.
"""

import dataclasses
import math
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from squint import codec
from squint.errors import RecipeError
from squint.views.recipes import ViewsConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderConfig:
    """The network whose features are kept."""

    name: str = "resnet50"
    """resnet10 … resnet152 are ours; any other name is timm's or torchvision's."""
    stem: Literal["imagenet", "cifar"] = "imagenet"
    """imagenet: 7x7 stride 2 and max-pool. cifar: 3x3 stride 1, for images up to 64 px."""
    width: float = 1.0
    """Multiplies the channels of our ResNets; may be a fraction."""
    in_channels: int = 3
    """Channels of the images."""

    def __post_init__(self) -> None:
        _positive("encoder.width", self.width)
        _positive("encoder.in_channels", self.in_channels)


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectorConfig:
    """The MLP between features and code."""

    layers: int = 3
    """Dense layers."""
    hidden_dim: int | Literal["features"] = "features"
    """Width of the hidden layers; "features" is the encoder's feature width."""
    out_dim: int = 128
    """Code width d."""
    output_norm: Literal["none", "scale", "plain", "affine"] = "scale"
    """Batch norm after the last layer: scale has gamma only, plain has neither gamma nor beta."""
    init: Literal["torch", "simclr", "cvr"] = "simclr"
    """Law of the initial weights: simclr is N(0, 0.01^2), cvr truncated normal by fan-in."""

    def __post_init__(self) -> None:
        _positive("method.projector.layers", self.layers)
        _positive("method.projector.out_dim", self.out_dim)
        if self.hidden_dim != "features":
            _positive("method.projector.hidden_dim", self.hidden_dim)


@dataclass(frozen=True, kw_only=True, slots=True)
class SimCLRConfig:
    """SimCLR (Chen et al. 2020)."""

    kind: ClassVar[str] = "simclr"

    temperature: float = 0.1
    """Similarities are divided by this before the softmax."""
    projector: ProjectorConfig = field(default_factory=ProjectorConfig)

    def __post_init__(self) -> None:
        _positive("method.temperature", self.temperature)


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenConfig:
    """No bottleneck: the method as its own paper has it."""

    kind: ClassVar[str] = "open"


@dataclass(frozen=True, kw_only=True, slots=True)
class CEBConfig:
    """Conditional Entropy Bottleneck on the code (Lee et al. 2021)."""

    kind: ClassVar[str] = "ceb"

    beta: float = 1.0
    """Weight of the residual information I(X;Z|Y); 0 does not compress."""
    kappa_e: float = 1024.0
    """Concentration of the forward encoder e(z|x): the noise put on the code."""
    kappa_b: float = 10.0
    """Concentration of the backward encoder b(z|y); equals 1 / temperature."""
    sampling: bool = True
    """Draw z from e(z|x) while training; otherwise z is its mean direction."""
    residual: Literal["closed_form", "sampled"] = "closed_form"
    """How the rate is trained: expectation (KL, lower variance) or one sample (as published)."""
    beta_schedule: Literal["constant", "warmup", "cosine"] = "constant"
    """Course of beta over training."""
    beta_warmup_epochs: float = 0.0
    """Epochs until beta is reached, for beta_schedule=warmup."""

    def __post_init__(self) -> None:
        _positive("compression.kappa_e", self.kappa_e)
        _positive("compression.kappa_b", self.kappa_b)
        _at_least("compression.beta", self.beta, 0)
        _at_least("compression.beta_warmup_epochs", self.beta_warmup_epochs, 0)
        if (self.beta_schedule == "warmup") != (self.beta_warmup_epochs > 0):
            raise RecipeError(
                f"compression.beta_warmup_epochs={self.beta_warmup_epochs:g} and "
                f"compression.beta_schedule={self.beta_schedule} do not fit: beta_schedule=warmup "
                "needs warm-up epochs above 0, and no other has any. Set both or neither."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig:
    """Optimizer and learning-rate schedule."""

    name: Literal["sgd", "adamw", "lars"] = "lars"
    """lars is SimCLR's form: the learning rate sits inside the momentum buffer."""
    lr: float = 0.3
    """Base learning rate, before scaling by batch size."""
    lr_scaling: Literal["linear", "sqrt", "none"] = "linear"
    """linear: lr * batch / 256. sqrt: lr * sqrt(batch)."""
    momentum: float = 0.9
    """Momentum of sgd and lars; the first beta of adamw."""
    weight_decay: float = 1e-6
    """Pull towards zero, per step and unit of learning rate."""
    decay_norm_and_bias: bool = False
    """Whether norm layers and biases decay (and, under lars, adapt) too."""
    warmup_epochs: float = 10.0
    """Epochs over which the learning rate rises linearly from 0."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Course of the learning rate after warm-up."""
    clip_grad_norm: float | Literal["off"] = "off"
    """Largest norm of the whole gradient; longer ones are scaled down to it."""

    def __post_init__(self) -> None:
        _positive("optim.lr", self.lr)
        _at_least("optim.weight_decay", self.weight_decay, 0)
        _at_least("optim.warmup_epochs", self.warmup_epochs, 0)
        if not 0 <= self.momentum < 1:
            raise RecipeError(f"optim.momentum={self.momentum} must be from 0 to below 1.")
        if self.clip_grad_norm != "off":
            _positive("optim.clip_grad_norm", self.clip_grad_norm)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """Length, batch, machine, and what is saved and shown."""

    epochs: float = 100.0
    """Passes over the images; may be a fraction."""
    batch_size: int = 256
    """Images per step over all devices; each gives two views."""
    seed: int = 0
    """Seed of every draw: weights, order, views, bottleneck noise."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    workers: int | Literal["auto"] = "auto"
    """Processes that decode files; small images in memory need none."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto is bfloat16 autocast where the device has it in hardware, else float32."""
    channels_last: bool = True
    """Memory layout of images and convolution weights."""
    knn_every_epochs: int = 10
    """Epochs between online kNN evaluations, if there are labels; 0 never."""
    log_every_steps: int = 10
    """Steps between lines of metrics.jsonl; each is the mean since the last."""
    save_every_minutes: float = 5.0
    """Minutes between checkpoints; one is also written at the end of every epoch."""
    keep_every_epochs: int = 0
    """Epochs between checkpoints that are kept as step-*.pt; 0 keeps only the last."""

    def __post_init__(self) -> None:
        _positive("train.epochs", self.epochs)
        _at_least("train.batch_size", self.batch_size, 2)
        _at_least("train.seed", self.seed, 0)
        _positive("train.log_every_steps", self.log_every_steps)
        _at_least("train.save_every_minutes", self.save_every_minutes, 0)
        _at_least("train.knn_every_epochs", self.knn_every_epochs, 0)
        _at_least("train.keep_every_epochs", self.keep_every_epochs, 0)
        if self.workers != "auto":
            _at_least("train.workers", self.workers, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """What is demanded of the images."""

    max_unreadable_percent: float = 1.0
    """Share of unreadable images, in percent, above which the run stops."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_unreadable_percent <= 100:
            raise RecipeError(
                f"data.max_unreadable_percent={self.max_unreadable_percent} must be from 0 to 100."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One complete recipe: method, compression and all around them."""

    method: SimCLRConfig = field(default_factory=SimCLRConfig)
    compression: OpenConfig | CEBConfig = field(default_factory=OpenConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    data: DataConfig = field(default_factory=DataConfig)

    def __post_init__(self) -> None:
        if isinstance(self.compression, CEBConfig):
            _check_critic(self.method.temperature, self.compression.kappa_b)
        if self.optim.warmup_epochs > self.train.epochs:
            raise RecipeError(
                f"optim.warmup_epochs={self.optim.warmup_epochs:g} is longer than "
                f"train.epochs={self.train.epochs:g}: the learning rate would never be reached. "
                f"Set --optim.warmup-epochs to at most {self.train.epochs:g}."
            )
        for name in ("mean", "std"):
            numbers = len(getattr(self.views, name))
            if numbers not in (1, self.encoder.in_channels):
                raise RecipeError(
                    f"views.{name} has {numbers} numbers for encoder.in_channels="
                    f"{self.encoder.in_channels}: give one per channel, or one for all."
                )

    @property
    def name(self) -> str:
        """The method as the command line has it: simclr or c-simclr."""
        prefix = "c-" if isinstance(self.compression, CEBConfig) else ""
        return prefix + self.method.kind

    @property
    def scaled_lr(self) -> float:
        """Peak learning rate after scaling by the global batch size."""
        factor = {
            "linear": self.train.batch_size / 256,
            "sqrt": math.sqrt(self.train.batch_size),
            "none": 1.0,
        }[self.optim.lr_scaling]
        return self.optim.lr * factor

    def steps_per_epoch(self, images: int) -> int:
        """Steps in one pass over so many images; the last partial batch is dropped."""
        return images // self.train.batch_size

    def total_steps(self, images: int) -> int:
        """Optimizer steps of the whole run, at least 1."""
        return max(1, round(self.train.epochs * self.steps_per_epoch(images)))

    def warmup_steps(self, images: int) -> int:
        """Steps over which the learning rate rises."""
        return round(self.optim.warmup_epochs * self.steps_per_epoch(images))

    @property
    def beta_warmup(self) -> float:
        """Share of training, 0 to 1, over which beta rises."""
        if isinstance(self.compression, CEBConfig):
            return min(1.0, self.compression.beta_warmup_epochs / self.train.epochs)
        return 0.0

    def replace(self, **changes: Any) -> "Recipe":
        """A recipe with some of its parts (method=, train=, …) replaced."""
        return dataclasses.replace(self, **changes)

    def override(self, changes: Mapping[str, Any]) -> "Recipe":
        """A recipe with fields replaced by dotted name: {"train.epochs": 5}.

        Raises:
            RecipeError: unknown field, wrong type, or a value out of range.
        """
        tree, known = to_dict(self), leaves(self)
        for dotted, value in changes.items():
            if dotted not in known:
                raise RecipeError(
                    f"No field {dotted!r} in this recipe.{codec.nearest(dotted, known)}"
                )
            node: dict[str, Any] = tree
            *groups, name = dotted.split(".")
            for group in groups:
                node = node[group]
            node[name] = codec.encode(value)
        return from_dict(tree)


SHORT_NAMES: Mapping[str, str] = types.MappingProxyType(
    {
        "epochs": "train.epochs",
        "batch_size": "train.batch_size",
        "lr": "optim.lr",
        "seed": "train.seed",
        "device": "train.device",
        "workers": "train.workers",
    }
)
"""Fields set so often that the command line and `squint.pretrain` take them without their path."""


def leaves(recipe: Recipe) -> dict[str, Any]:
    """Every field of a recipe by its dotted name, in order."""
    return codec.leaves(to_dict(recipe))


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """A recipe as JSON values: dicts, lists, numbers, strings."""
    return codec.encode(recipe)


def from_dict(tree: Mapping[str, Any]) -> Recipe:
    """The recipe written by `to_dict`, read strictly.

    Raises:
        RecipeError: an unknown, missing or ill-typed field, named by its dotted path.
    """
    return codec.decode(Recipe, tree)


def _check_critic(temperature: float, kappa_b: float) -> None:
    if not math.isclose(temperature * kappa_b, 1.0, rel_tol=1e-6):
        raise RecipeError(
            f"method.temperature={temperature:g} disagrees with compression.kappa_b={kappa_b:g}: "
            "the compressed critic is kappa_b * cosine, so kappa_b must be 1 / temperature. "
            f"Give --compression.kappa-b {1 / temperature:g} as well, or "
            f"--method.temperature {1 / kappa_b:g}."
        )


def _positive(name: str, value: float | int) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise RecipeError(f"{name}={value} must be above 0 and finite.")


def _at_least(name: str, value: float | int, least: int) -> None:
    if not (value >= least and math.isfinite(value)):
        raise RecipeError(f"{name}={value} must be at least {least:g} and finite.")
