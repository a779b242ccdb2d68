"""Settings of the protocols: one frozen dataclass each, checked when it is made.

A protocol reads its own from `bench.options` and writes whatever decides its number into its
protocol string. Those that learn from labels are in `options_labels.py`. Nothing imports torch.
"""

from dataclasses import dataclass, field
from typing import Literal

from squint.evaluate.limits import above_zero, at_least, some
from squint.evaluate.options_labels import (
    CompareOptions,
    FewshotOptions,
    FinetuneOptions,
    KNNOptions,
    LinearOptions,
    SGDProbeOptions,
    TransferOptions,
)

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


@dataclass(frozen=True, kw_only=True, slots=True)
class FeaturesOptions:
    """Features of the evaluation view, which most protocols share."""

    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """Precision of the encoder's products; auto is bfloat16 where the device has it."""


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
    """Seed of the corruptions' random numbers."""
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
    """Seed of the random starts."""

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
