"""Settings of the protocols: one frozen dataclass each, checked when it is made.

Over 300 lines because every field carries the sentence that `--help` shows for it. A protocol
reads its own from `bench.options` and writes whatever decides its number into its protocol string.
Nothing here imports torch.
"""

from dataclasses import dataclass, field
from typing import Literal

from squint.errors import RecipeError

Protocol = Literal[
    "knn",
    "linear",
    "linear-sgd",
    "fewshot",
    "finetune",
    "transfer",
    "compare",
    "compression",
    "fitted",
    "augmentations",
    "nuisance",
    "lipschitz",
    "surprise",
    "robustness",
    "pgd",
    "shifted",
]
"""Names of the protocols, the keys of `protocols.PROTOCOLS`."""


LINEAR_STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class FeaturesOptions:
    """Features of the evaluation view, which most protocols share."""

    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """Of the encoder's products; auto is bfloat16 where the device has it in hardware."""


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
class FittedOptions:
    """The channel that is fitted to any encoder after the fact."""

    kappa_e: float = 1024.0
    """Concentration of e(z|x) around the direction of the features."""
    head: Literal["linear", "mlp"] = "linear"
    """From the other view's direction to the mean of b(z|y)."""

    def __post_init__(self) -> None:
        above_zero("fitted.kappa_e", self.kappa_e)


@dataclass(frozen=True, kw_only=True, slots=True)
class NuisanceOptions:
    """What is recorded of each image beside its label."""

    attributes: str = ""
    """A .csv whose first column is the image's path in the source, the others what is known of it;
    a heading may end in :number, :turns or :category. Without one, what the source records."""
    content: tuple[str, ...] = ()
    """Attributes that are content like the label, not nuisance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearOptions:
    """Logistic regression on standardised features."""

    strengths: tuple[float, ...] = LINEAR_STRENGTHS
    """l2 strengths to choose from; all are fitted at once."""
    held_out: float = 0.1
    """Share of every class of train that chooses."""
    seed: int = 0
    """Of the choice of the held-out images."""

    def __post_init__(self) -> None:
        at_least("linear.seed", self.seed, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class LipschitzOptions:
    """Slopes of the features."""

    images: int = 50
    """Held-out images they are measured at."""
    iterations: int = 30
    """Steps of the power iteration, at most."""

    def __post_init__(self) -> None:
        at_least("lipschitz.images", self.images, 1)
        at_least("lipschitz.iterations", self.iterations, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class SurpriseOptions:
    """Residual information as a sign of strange images."""

    images: int = 200
    """Held-out images, and as many strange ones."""
    other: str = ""
    """A second source, whose images are to be told from the held-out ones."""

    def __post_init__(self) -> None:
        at_least("surprise.images", self.images, 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class RobustnessOptions:
    """The linear probe on corrupted test images."""

    images: int = 1000
    """Test images, chosen at random under seed 0; 0 for all."""
    seed: int = 0
    """Of the corruptions' random numbers."""
    extra: bool = False
    """Also the four corruptions that the benchmark keeps apart; no mean has them."""
    data: str = ""
    """A folder of CIFAR-10-C, CIFAR-100-C or ImageNet-C; without one, images are corrupted here."""
    baseline: str = "random"
    """Whose errors mCE divides by: random (encoder), alexnet (ImageNet only), or the
    evaluation.json of another encoder measured with the same settings."""

    def __post_init__(self) -> None:
        at_least("robustness.images", self.images, 0)
        at_least("robustness.seed", self.seed, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class PGDOptions:
    """Projected gradient descent against encoder and linear probe."""

    norm: Literal["linf", "l2"] = "linf"
    """Largest change of a value, or Euclidean length of the change of an image; values 0 to 1."""
    eps: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0)
    """Radii in 1/255 of the range of values."""
    steps: int = 20
    """Gradient steps, each of 2.5 * eps / steps."""
    images: int = 200
    """Test images, chosen at random under seed 0; 0 for all."""
    seed: int = 0
    """Of the random starts."""

    def __post_init__(self) -> None:
        at_least("pgd.steps", self.steps, 1)
        at_least("pgd.images", self.images, 0)
        at_least("pgd.seed", self.seed, 0)
        some("pgd.eps", self.eps)
        for eps in self.eps:
            above_zero("pgd.eps", eps)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShiftedOptions:
    """Other test images of the same classes, classified by the linear probe."""

    data: str = ""
    """The test set's folder."""
    kind: Literal["imagenet-a", "imagenet-r", "imagenet-sketch", "imagenet-v2", "objectnet"] = (
        "imagenet-v2"
    )
    """Which test set it is: they name their folders differently."""
    images: int = 0
    """Images, chosen at random under seed 0; 0 for all."""

    def __post_init__(self) -> None:
        at_least("shifted.images", self.images, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class SGDProbeOptions:
    """The papers' linear probes by SGD."""

    setting: Literal["moco", "simclr", "byol"] = "moco"
    """Whose learning rate, schedule, epochs and initial weights."""
    epochs: int | Literal["paper"] = "paper"
    """Passes over train: 100 (moco), 90 (simclr), 80 (byol)."""
    batch_size: int = 256
    """Images per step; simclr and byol scale the learning rate with it."""
    augment: bool = False
    """New random crops and flips in every epoch, as in the papers: one encoder pass per epoch.
    Otherwise the features of the evaluation view are computed once and used in every epoch."""
    seed: int = 0
    """Of order, crops and initial weights."""

    def __post_init__(self) -> None:
        at_least("sgd.batch_size", self.batch_size, 1)
        at_least("sgd.seed", self.seed, 0)
        if self.epochs != "paper":
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
    """Of the draws."""

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
    """Of the labelled images, order and crops."""

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


@dataclass(frozen=True, kw_only=True, slots=True)
class SubjectOptions:
    """What a target that is no run does not tell by itself."""

    encoder: str = ""
    """Architecture of a weights file: resnet18, timm/NAME, torchvision/NAME."""
    stem: Literal["imagenet", "cifar"] = "imagenet"
    """Stem of our ResNets."""
    width: float = 1.0
    """Width of our ResNets."""
    weights: str = ""
    """Weights file for timm:NAME or torchvision:NAME; without one the weights are random."""
    size: int | Literal["own"] = "own"
    """Side of the input in pixels, if not the architecture's own."""
    out: str = ""
    """Where the results go; by default evaluation.json in the run's folder, beside the weights
    file, or in the current folder."""

    def __post_init__(self) -> None:
        above_zero("width", self.width)
        if self.size != "own":
            at_least("size", self.size, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """Settings of all protocols."""

    features: FeaturesOptions = field(default_factory=FeaturesOptions)
    knn: KNNOptions = field(default_factory=KNNOptions)
    fitted: FittedOptions = field(default_factory=FittedOptions)
    nuisance: NuisanceOptions = field(default_factory=NuisanceOptions)
    linear: LinearOptions = field(default_factory=LinearOptions)
    lipschitz: LipschitzOptions = field(default_factory=LipschitzOptions)
    surprise: SurpriseOptions = field(default_factory=SurpriseOptions)
    robustness: RobustnessOptions = field(default_factory=RobustnessOptions)
    pgd: PGDOptions = field(default_factory=PGDOptions)
    shifted: ShiftedOptions = field(default_factory=ShiftedOptions)
    sgd: SGDProbeOptions = field(default_factory=SGDProbeOptions)
    fewshot: FewshotOptions = field(default_factory=FewshotOptions)
    finetune: FinetuneOptions = field(default_factory=FinetuneOptions)
    transfer: TransferOptions = field(default_factory=TransferOptions)
    compare: CompareOptions = field(default_factory=CompareOptions)


def at_least(name: str, value: float | int, least: float | int) -> None:
    """Refuse a setting below the least.

    Raises:
        RecipeError: with the setting's name and value.
    """
    if not value >= least:
        raise RecipeError(f"{name}={value:g} must be at least {least:g}.")


def some(name: str, values: tuple[float | int, ...]) -> None:
    """Refuse a list without a value.

    Raises:
        RecipeError: with the setting's name.
    """
    if not values:
        raise RecipeError(f"{name} must have at least one value. Give some, or drop the flag.")


def above_zero(name: str, value: float | int) -> None:
    """Refuse a setting that is 0 or negative.

    Raises:
        RecipeError: with the setting's name and value.
    """
    if not value > 0:
        raise RecipeError(f"{name}={value:g} must be above 0.")
