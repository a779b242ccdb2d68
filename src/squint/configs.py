"""The parts of a recipe: one frozen dataclass each, checked when it is made.

Over 300 lines because every field carries the sentence that `--help` shows for it. Nothing here
imports torch.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from squint.errors import RecipeError


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderConfig:
    """The network whose features are kept."""

    name: str = "resnet50"
    """resnet10 … resnet152 and mocov3_vit_small, _base, _conv_small, _conv_base are ours; any other
    name is timm's or torchvision's."""
    stem: Literal["imagenet", "cifar"] = "imagenet"
    """imagenet: 7x7 stride 2 and max-pool. cifar: 3x3 stride 1, for images up to 64 px."""
    width: float = 1.0
    """Multiplies the channels of our ResNets; may be a fraction."""
    in_channels: int = 3
    """Channels of the images."""
    zero_init_residual: bool = True
    """Our ResNets: every residual block starts as its shortcut (not in MoCo v1 and v2)."""
    init: Literal["simclr", "torchvision", "haiku"] = "simclr"
    """Our ResNets, law of convolutions: truncated normal by fan-in, normal by fan-out (MoCo), or
    truncated normal by fan-in not widened for its cut (BYOL)."""
    freeze_patch: bool = True
    """mocov3_vit_small, _base: the patch projection keeps its random weights (published)."""

    def __post_init__(self) -> None:
        _positive("encoder.width", self.width)
        _positive("encoder.in_channels", self.in_channels)


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadConfig:
    """An MLP, all but the width of its output."""

    layers: int = 2
    """Dense layers."""
    hidden_dim: int | Literal["features"] = "features"
    """Width of the hidden layers; "features" is the encoder's feature width."""
    bias: bool = False
    """Whether hidden layers have a bias."""
    output_bias: bool = False
    """Whether the last layer has one."""
    hidden_norm: bool = True
    """Batch norm in front of every ReLU."""
    output_norm: Literal["none", "scale", "plain", "affine"] = "none"
    """Batch norm after the last layer: scale has gamma only, plain has neither gamma nor beta."""
    init: Literal["torch", "simclr", "cvr", "haiku"] = "torch"
    """Law of the initial weights: simclr is N(0, 0.01^2), cvr truncated normal by fan-in, haiku
    the same not widened for its cut (BYOL)."""

    def __post_init__(self) -> None:
        _positive("layers", self.layers)
        if self.hidden_dim != "features":
            _positive("hidden_dim", self.hidden_dim)


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectorConfig(HeadConfig):
    """The MLP between features and code."""

    out_dim: int = 128
    """Code width d."""

    def __post_init__(self) -> None:
        HeadConfig.__post_init__(self)  # slots: a bare super() would not find its class
        _positive("method.projector.out_dim", self.out_dim)


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictorConfig(HeadConfig):
    """The MLP from the online code to the target's; as wide as the code at both ends."""


TargetSchedule = Literal["constant", "cosine"]
"""Course of target_momentum: as it is, or along half a cosine to 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SimCLRConfig:
    """SimCLR (Chen et al. 2020)."""

    kind: ClassVar[str] = "simclr"

    temperature: float = 0.1
    """Similarities are divided by this before the softmax."""
    directions: Literal["mean", "sum"] = "mean"
    """The loss is the mean over both directions, as in the paper, or their sum (as released)."""
    projector: ProjectorConfig = field(
        default_factory=lambda: ProjectorConfig(layers=3, output_norm="scale", init="simclr")
    )

    def __post_init__(self) -> None:
        _positive("method.temperature", self.temperature)


@dataclass(frozen=True, kw_only=True, slots=True)
class MoCoConfig:
    """MoCo v1 and v2 (He et al. 2020, Chen et al. 2020): two recipes of one method."""

    kind: ClassVar[str] = "moco"

    temperature: float = 0.2
    """Similarities are divided by this before the softmax."""
    queue_size: int = 65536
    """Keys kept as negatives."""
    target_momentum: float = 0.999
    """Share of itself that the target keeps in each step."""
    target_schedule: TargetSchedule = "constant"
    """Course of target_momentum: constant, or along a cosine to 1."""
    symmetric: bool = False
    """Both views are queries and keys; published is view 1 query, view 2 key."""
    norm_groups: int = 8
    """Parts of the global batch that batch norm sees apart, keys shuffled among them; published
    with 8 GPUs. More hide better which key belongs to which query; 1 hides nothing."""
    projector: ProjectorConfig = field(
        default_factory=lambda: ProjectorConfig(bias=True, output_bias=True, hidden_norm=False)
    )

    def __post_init__(self) -> None:
        _positive("method.temperature", self.temperature)
        _positive("method.queue_size", self.queue_size)
        _positive("method.norm_groups", self.norm_groups)
        _share("method.target_momentum", self.target_momentum)


@dataclass(frozen=True, kw_only=True, slots=True)
class MoCoV3Config:
    """MoCo v3 (Chen et al. 2021)."""

    kind: ClassVar[str] = "moco-v3"

    temperature: float = 1.0
    """Similarities are divided by this before the softmax; the loss is multiplied by twice it."""
    target_momentum: float = 0.99
    """Share of itself that the target keeps in each step, at the beginning."""
    target_schedule: TargetSchedule = "cosine"
    """Course of target_momentum: constant, or along a cosine to 1."""
    projector: ProjectorConfig = field(
        default_factory=lambda: ProjectorConfig(hidden_dim=4096, out_dim=256, output_norm="plain")
    )
    predictor: PredictorConfig = field(default_factory=lambda: PredictorConfig(hidden_dim=4096))

    def __post_init__(self) -> None:
        _positive("method.temperature", self.temperature)
        _share("method.target_momentum", self.target_momentum)


@dataclass(frozen=True, kw_only=True, slots=True)
class BYOLConfig:
    """BYOL (Grill et al. 2020)."""

    kind: ClassVar[str] = "byol"

    kappa_d: float = 2.0
    """Concentration of the decoder d(y|z): the regression is weighted by half of it; 2 is BYOL,
    the models of Lee et al. have 10 (300 epochs) or 4 (1000 epochs)."""
    target_momentum: float = 0.99
    """Share of itself that the target keeps in each step, at the beginning."""
    target_schedule: TargetSchedule = "cosine"
    """Course of target_momentum: constant, or along a cosine to 1."""
    # differs from the released code, whose target is drawn by itself
    target_init: Literal["copy", "independent"] = "copy"
    """The target starts as a copy of the online network, or drawn by itself (as released)."""
    backward_view: Literal["same", "other"] = "same"
    """C-BYOL: the view that the backward encoder b(z|y) sees; same is the released code, other
    the published text."""
    projector: ProjectorConfig = field(
        default_factory=lambda: ProjectorConfig(hidden_dim=4096, out_dim=256, bias=True)
    )
    predictor: PredictorConfig = field(
        default_factory=lambda: PredictorConfig(hidden_dim=4096, bias=True)
    )

    def __post_init__(self) -> None:
        _positive("method.kappa_d", self.kappa_d)
        _share("method.target_momentum", self.target_momentum)


MethodConfig = SimCLRConfig | MoCoConfig | MoCoV3Config | BYOLConfig


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
    """Concentration of the backward encoder b(z|y); 1 / temperature where there is one."""
    sampling: bool = True
    """Draw z from e(z|x) while training; otherwise z is its mean direction."""
    # differs from the released code, which trains the rate on one sample
    residual: Literal["closed_form", "sampled"] = "closed_form"
    """How the rate is trained: expectation (KL, lower variance) or one sample (as published)."""
    beta_schedule: Literal["constant", "warmup", "cosine"] = "constant"
    """Course of beta over training."""
    beta_warmup_epochs: float = 0.0
    """Epochs until beta is reached, for beta_schedule=warmup."""
    target_rate_nats: float | Literal["off"] = "off"
    """Rate, as rate_nats logs it, that is held by moving beta after every step; beta is then where
    the price begins."""
    kappa_e_range: tuple[float, float] | Literal["off"] = "off"
    """Least and largest kappa_e, where each image learns its own, beginning at kappa_e."""

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
        if self.target_rate_nats != "off":
            _positive("compression.target_rate_nats", self.target_rate_nats)
            if self.beta == 0 or self.beta_schedule != "constant":
                raise RecipeError(
                    f"compression.target_rate_nats={self.target_rate_nats:g} moves beta itself, so "
                    f"it needs a beta above 0 to begin with (now {self.beta:g}) and "
                    f"beta_schedule=constant (now {self.beta_schedule})."
                )
        if self.kappa_e_range != "off":
            _check_kappa_e_range(self, *self.kappa_e_range)


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig:
    """Optimizer and learning-rate schedule."""

    name: Literal["sgd", "adamw", "lars"] = "lars"
    """sgd, adamw, or lars (You et al. 2017)."""
    lars_form: Literal["simclr", "byol", "mocov3", "solo"] = "simclr"
    """lars only. simclr: the learning rate sits inside the momentum buffer; others: outside; mocov3
    and solo never decay or adapt tensors of one axis, and solo steps no further than sgd would."""
    trust_coefficient: float = 1e-3
    """lars only: how far a step may go, relative to the weight's norm."""
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
    schedule: Literal["cosine", "epoch_cosine", "steps", "constant"] = "cosine"
    """Course of the learning rate after warm-up. cosine: to 0, per step. epoch_cosine: the same,
    changing once an epoch (MoCo v2). steps: a tenth from each of decay_epochs on (MoCo v1)."""
    decay_epochs: tuple[float, ...] = ()
    """Epochs at which the learning rate falls to a tenth, for schedule=steps."""
    clip_grad_norm: float | Literal["off"] = "off"
    """Largest norm of the whole gradient; longer ones are scaled down to it."""

    def __post_init__(self) -> None:
        _positive("optim.lr", self.lr)
        _positive("optim.trust_coefficient", self.trust_coefficient)
        _at_least("optim.weight_decay", self.weight_decay, 0)
        _at_least("optim.warmup_epochs", self.warmup_epochs, 0)
        if not 0 <= self.momentum < 1:
            raise RecipeError(f"optim.momentum={self.momentum} must be from 0 to below 1.")
        if self.clip_grad_norm != "off":
            _positive("optim.clip_grad_norm", self.clip_grad_norm)
        no_vectors = self.name == "lars" and self.lars_form in ("mocov3", "solo")
        if no_vectors and self.decay_norm_and_bias:
            raise RecipeError(
                f"optim.decay_norm_and_bias=True contradicts optim.lars_form={self.lars_form}, "
                "which never decays tensors of one axis. Drop it, or take --optim.lars-form byol."
            )
        if (self.schedule == "steps") != bool(self.decay_epochs):
            raise RecipeError(
                f"optim.decay_epochs={self.decay_epochs} and optim.schedule={self.schedule} do not "
                "fit: schedule=steps needs the epochs at which it falls, and no other has any. Set "
                "both or neither."
            )


MOST_EPOCHS = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """Length, batch, machine, and what is saved and shown."""

    epochs: float = 100.0
    """Passes over the images; may be a fraction."""
    step_count: Literal["whole_epochs", "byol", "simclr"] = "whole_epochs"
    """Steps of a run. whole_epochs: whole batches per epoch, times epochs. byol: epochs * images /
    batch, rounded down, which is longer by the rests of all epochs. simclr: one more (CVR too)."""
    batch_size: int = 256
    """Images per step over all devices; each gives two views."""
    micro_batch_size: int | Literal["auto", "off"] = "off"
    """Images that go through the encoder at once, over all devices, where memory is short; the
    step stays that of the whole batch. auto halves the batch until it fits."""
    initial_weights: str = "random"
    """What the encoder begins with: random, or a file of weights of its architecture, from a run
    (its folder will do) or any library. Heads begin at random."""
    seed: int = 0
    """Seed of every draw: weights, order, views, bottleneck noise."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    workers: int | Literal["auto"] = "auto"
    """Processes that decode files; small images in memory need none."""
    decode: Literal["workers", "nvjpeg"] = "workers"
    """Who decodes files. nvjpeg: a CUDA device decodes JPEG files and cuts their crops, for
    machines with few cores per GPU; pixels differ a little from those of workers."""
    views_path: Literal["auto", "native", "triton", "compiled", "reference"] = "auto"
    """Which code makes the views; all give the same. auto: the fastest that is there."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto is bfloat16 autocast where the device has it in hardware, else float32."""
    channels_last: bool = True
    """Memory layout of images and convolution weights."""
    compile: Literal["off", "on", "graphs"] = "off"
    """on: torch.compile the encoders before the first step; without a compiler, train as usual.
    graphs: also record them as CUDA graphs; where that can't be done, train without."""
    knn_every_epochs: int = 10
    """Epochs between online kNN evaluations, if there are labels; 0 never."""
    log_every_steps: int = 10
    """Steps between lines of metrics.jsonl, each the mean since the last; the screen has fewer."""
    health_every_steps: int = 50
    """Steps between looks at the geometry of the codes, each with a word on health; 0 never."""
    trackers: tuple[Literal["wandb", "mlflow"], ...] = ()
    """Services that get the numbers too, by their own settings; metrics.jsonl and TensorBoard's
    file are always written."""
    save_every_minutes: float = 5.0
    """Minutes between checkpoints; 0: at epoch ends only. One is also written at the end of every
    epoch, or of as many as make writing them cost at most a fiftieth of the time."""
    keep_every_epochs: int = 0
    """Epochs between checkpoints that are kept as step-*.pt; 0 keeps only the last."""

    def __post_init__(self) -> None:
        _positive("train.epochs", self.epochs)
        if self.epochs > MOST_EPOCHS:
            raise RecipeError(
                f"train.epochs={self.epochs:g} must be at most {MOST_EPOCHS:,}: a run has to end."
            )
        _at_least("train.batch_size", self.batch_size, 2)
        _at_least("train.seed", self.seed, 0)
        _positive("train.log_every_steps", self.log_every_steps)
        _at_least("train.health_every_steps", self.health_every_steps, 0)
        _at_least("train.save_every_minutes", self.save_every_minutes, 0)
        _at_least("train.knn_every_epochs", self.knn_every_epochs, 0)
        _at_least("train.keep_every_epochs", self.keep_every_epochs, 0)
        if isinstance(self.micro_batch_size, int):
            _at_least("train.micro_batch_size", self.micro_batch_size, 2)
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


def _check_kappa_e_range(config: CEBConfig, low: float, high: float) -> None:
    given = f"compression.kappa_e_range={low:g} {high:g}"
    if not 0 < low < config.kappa_e < high < math.inf:
        raise RecipeError(
            f"{given} must be two finite numbers above 0 with compression.kappa_e="
            f"{config.kappa_e:g}, where it begins, between them."
        )
    if not config.sampling:
        raise RecipeError(
            f"{given} has no use with compression.sampling off: without noise on the code nothing "
            "holds kappa_e up against the rate. Switch sampling on, or drop the range."
        )
    if config.residual != "closed_form":
        raise RecipeError(
            f"{given} needs compression.residual=closed_form (now {config.residual}): kappa_e is "
            "learned from the rate's expectation, not from one draw. Change one of the two."
        )


def _positive(name: str, value: float | int) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise RecipeError(f"{name}={value} must be above 0 and finite.")


def _at_least(name: str, value: float | int, least: int) -> None:
    if not (value >= least and math.isfinite(value)):
        raise RecipeError(f"{name}={value} must be at least {least:g} and finite.")


def _share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise RecipeError(f"{name}={value} must be from 0 (nothing is kept) to 1 (never moves).")
