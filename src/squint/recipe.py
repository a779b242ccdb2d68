"""Recipe: everything that decides a run, as one frozen tree of plain values.

Nothing here imports torch, reads a file or draws a number. What is derived (scaled learning
rate, steps, warm-up) is a method of the recipe, printed at the start of a run and written
beside the raw value; a raw value is never rewritten.
"""

import dataclasses
import math
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from squint import codec
from squint.configs import (
    BYOLConfig,
    CEBConfig,
    DataConfig,
    EncoderConfig,
    MethodConfig,
    MoCoConfig,
    OpenConfig,
    OptimConfig,
    SimCLRConfig,
    TrainConfig,
)
from squint.errors import RecipeError
from squint.views.recipes import ViewsConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One complete recipe: method, compression and all around them."""

    method: MethodConfig = field(default_factory=SimCLRConfig)
    compression: OpenConfig | CEBConfig = field(default_factory=OpenConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    data: DataConfig = field(default_factory=DataConfig)

    def __post_init__(self) -> None:
        if isinstance(self.method, BYOLConfig):
            _check_backward_view(self.method, self.compression)
        elif isinstance(self.compression, CEBConfig):
            _check_critic(self.method.temperature, self.compression.kappa_b)
        if isinstance(self.compression, CEBConfig):
            _check_beta_warmup(self.compression.beta_warmup_epochs, self.train.epochs)
        if isinstance(self.method, MoCoConfig):
            _check_norm_groups(self.method.norm_groups, self.train)
        _check_micro_batch(self.train)
        if self.optim.warmup_epochs > self.train.epochs:
            raise RecipeError(
                f"optim.warmup_epochs={self.optim.warmup_epochs:g} is longer than "
                f"train.epochs={self.train.epochs:g}: the learning rate would never be reached. "
                f"Set --optim.warmup-epochs to at most {self.train.epochs:g}."
            )
        if max(self.optim.decay_epochs, default=0) >= self.train.epochs:
            end = self.train.epochs
            raise RecipeError(
                f"optim.decay_epochs={self.optim.decay_epochs} must come before the end, "
                f"train.epochs={end:g}, or the learning rate never falls. Give "
                f"--optim.decay-epochs {0.6 * end:g} {0.8 * end:g}, where MoCo v1 has them, or "
                "longer training."
            )
        if self.optim.schedule == "epoch_cosine" and self.train.step_count != "whole_epochs":
            raise RecipeError(
                f"optim.schedule=epoch_cosine ends with the last whole epoch, but train.step_count="
                f"{self.train.step_count} goes on after it, with a learning rate of 0. Take "
                "--optim.schedule cosine, or --train.step-count whole_epochs."
            )
        for name in ("mean", "std"):
            numbers = len(getattr(self.views, name))
            if numbers not in (1, self.encoder.in_channels):
                raise RecipeError(
                    f"views.{name} has {numbers} numbers for encoder.in_channels="
                    f"{self.encoder.in_channels}: give one per channel, or one for all, such as "
                    "--views.mean 0.5 --views.std 0.25. For those of your images look at "
                    f"`squint doctor --data SRC --encoder.in-channels {self.encoder.in_channels}`."
                )

    @property
    def name(self) -> str:
        """The method, with c- if it is compressed: c-simclr. MoCo v1 and v2 are both moco."""
        prefix = "c-" if isinstance(self.compression, CEBConfig) else ""
        return prefix + self.method.kind

    @property
    def negatives(self) -> int:
        """Codes that each code has to be told apart from."""
        return {
            "simclr": 2 * self.train.batch_size - 2,
            "moco": self.method.queue_size if isinstance(self.method, MoCoConfig) else 0,
            "moco-v3": self.train.batch_size - 1,
            "byol": 0,
        }[self.method.kind]

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
        one_more = self.train.step_count == "simclr"  # as released
        return max(1, self._steps(self.train.epochs, images) + one_more)

    def warmup_steps(self, images: int) -> int:
        """Steps over which the learning rate rises."""
        return self._steps(self.optim.warmup_epochs, images)

    def beta_warmup(self, images: int | None = None) -> float:
        """Share of training, 0 to 1, over which beta rises: of its steps, or of its epochs."""
        if not isinstance(self.compression, CEBConfig):
            return 0.0
        epochs = self.compression.beta_warmup_epochs
        if images is None or not epochs:
            return min(1.0, epochs / self.train.epochs)
        return min(1.0, max(1, self._steps(epochs, images)) / self.total_steps(images))

    def _steps(self, epochs: float, images: int) -> int:
        """Steps of so many epochs, as `train.step_count` counts them."""
        if self.train.step_count == "whole_epochs":
            return round(epochs * self.steps_per_epoch(images))
        return int(epochs * images // self.train.batch_size)

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
                plain = dotted.startswith("compression.") and "compression.beta" not in known
                hint = " Only compressed recipes, c-…, have one." if plain else ""
                raise RecipeError(
                    f"No field {dotted!r} in this recipe.{hint or codec.nearest(dotted, known)} "
                    "`squint recipes NAME` lists the fields."
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
    if not math.isclose(temperature * kappa_b, 1.0, rel_tol=1e-5):  # six digits will do
        raise RecipeError(
            f"method.temperature={temperature:g} disagrees with compression.kappa_b={kappa_b:g}: "
            "the compressed critic is kappa_b * cosine, so kappa_b must be 1 / temperature. "
            f"Give --compression.kappa-b {1 / temperature:g} as well, or "
            f"--method.temperature {1 / kappa_b:g}."
        )


def _check_beta_warmup(warmup: float, epochs: float) -> None:
    if warmup > epochs:
        raise RecipeError(
            f"compression.beta_warmup_epochs={warmup:g} is longer than train.epochs={epochs:g}: "
            "beta would never be reached. Set --compression.beta-warmup-epochs to at most "
            f"{epochs:g}."
        )


def _check_backward_view(method: BYOLConfig, compression: OpenConfig | CEBConfig) -> None:
    if isinstance(compression, OpenConfig) and method.backward_view != "same":
        raise RecipeError(
            f"method.backward_view={method.backward_view} has no effect without compression: only "
            "C-BYOL has a backward encoder. Drop it, or take the recipe c-byol."
        )


def _check_norm_groups(groups: int, train: TrainConfig) -> None:
    name, images = "train.batch_size", train.batch_size
    if isinstance(train.micro_batch_size, int):  # what batch norm sees at once
        name, images = "train.micro_batch_size", train.micro_batch_size
    if images % groups or images // groups < 2:
        raise RecipeError(
            f"{name}={images} can't be split into method.norm_groups={groups} equal parts of at "
            f"least 2 images: batch norm sees each part by itself. Give a {name} that is a larger "
            f"multiple of {groups}, or another --method.norm-groups."
        )


def _check_micro_batch(train: TrainConfig) -> None:
    micro = train.micro_batch_size
    if isinstance(micro, int) and (micro > train.batch_size or train.batch_size % micro):
        raise RecipeError(
            f"train.micro_batch_size={micro} does not divide train.batch_size="
            f"{train.batch_size}: a batch goes through the encoder in equal parts. Give a divisor "
            "of the batch size, or auto."
        )
