"""View recipes as data: what may happen to an image, with which probability and range.

Over 300 lines because each field has its check, and its sentence for `--help`, beside it.
No randomness and no pixels here: `draw` turns a recipe into parameters per image, `apply`
turns parameters into pixels. Fields follow the order in which operations are applied.
Every named recipe cites its table (methods sheet numbers are those of the papers and of the
released code).
"""

from dataclasses import dataclass
from typing import Literal

from squint.errors import RecipeError

Interpolation = Literal["bilinear", "bicubic"]
Padding = Literal["zero", "reflect"]

TENSORFLOW_LEAST_AREA = 0.1
"""SimCLR's code asks TensorFlow's box sampler to cover this share of a box that is the whole image
(data_util.py, min_object_covered): it refuses smaller crops although its area starts at 0.08."""

STRONGEST_JITTER = 100.0
"""Far beyond any recipe; without a limit float32 would overflow."""


def _check_probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise RecipeError(f"{name}={value} must be a probability, from 0 to 1.")


def _check_range(name: str, value: tuple[float, float], least: float, most: float) -> None:
    low, high = value
    if not least <= low <= high <= most:
        raise RecipeError(
            f"{name}={low}..{high} must be a range, low to high, within {least} to {most}."
        )


def _check_size(name: str, value: int) -> None:
    if not 8 <= value <= 4096:
        raise RecipeError(f"{name}={value} must be from 8 to 4096 pixels.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Crop:
    """Random resized crop."""

    area: tuple[float, float] = (0.08, 1.0)
    """Share of the image's area, drawn uniformly."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Width over height."""
    ratio_law: Literal["log_uniform", "uniform", "byol"] = "log_uniform"
    """log_uniform: torchvision, boxes until one fits. uniform: the TensorFlow box sampler SimCLR
    uses, whose smallest crop has a tenth of the area and whose height, not area, is uniform.
    byol: one box of log-uniform ratio, its sides cut off at the image's."""
    interpolation: Interpolation = "bicubic"

    def __post_init__(self) -> None:
        _check_range("area", self.area, 0.0, 1.0)
        _check_range("ratio", self.ratio, 1e-2, 1e2)
        if self.area[1] == 0:
            raise RecipeError(
                f"area={self.area} has no pixels: it is the least and the largest share of the "
                "image that a crop takes. Let it end above 0; 1 is usual."
            )
        if self.ratio_law == "uniform" and self.area[1] < TENSORFLOW_LEAST_AREA:
            raise RecipeError(
                f"area={self.area} ends below {TENSORFLOW_LEAST_AREA}, the least area "
                "of the uniform ratio law: no crop would fit. Take ratio_law log_uniform."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Jitter:
    """Colour jitter in one random order of its four operations, each drawn per image."""

    probability: float = 0.8
    brightness: float = 0.8
    contrast: float = 0.8
    saturation: float = 0.8
    hue: float = 0.2
    """Largest turn of the hue circle, in turns (0 to 0.5)."""
    form: Literal["torchvision", "simclr", "byol"] = "torchvision"
    """torchvision: contrast about the image's mean grey, saturation blends with grey.
    simclr: TensorFlow's contrast about each channel's mean, saturation and hue in HSV.
    byol: as simclr, but brightness is added instead of multiplied."""

    def __post_init__(self) -> None:
        _check_probability("probability", self.probability)
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= STRONGEST_JITTER:
                raise RecipeError(
                    f"{name}={getattr(self, name)} is outside 0 to {STRONGEST_JITTER:g}: it is "
                    "half the width of the range around 1 (0 for added brightness). 0.4 is usual."
                )
        if not 0 <= self.hue <= 0.5:
            raise RecipeError(
                f"hue={self.hue} is outside 0 to 0.5: it is a share of the hue "
                "circle, and half a turn reaches every hue."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Blur:
    """Gaussian blur."""

    probability: float = 0.5
    sigma: tuple[float, float] = (0.1, 2.0)
    """Standard deviation in pixels of the view, drawn uniformly per image."""
    padding: Padding = "reflect"
    """zero: SimCLR, BYOL and CVR code (dark borders). reflect: torchvision."""

    def __post_init__(self) -> None:
        _check_probability("probability", self.probability)
        _check_range("sigma", self.sigma, 1e-3, 1e3)


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """One view: crop, flip, jitter, grey, blur, solarize, in this order.

    The place of the flip is free: it commutes with all that follows.
    """

    crop: Crop = Crop()
    flip: float = 0.5
    """Probability of a horizontal flip."""
    jitter: Jitter = Jitter()
    gray: float = 0.2
    """Probability of losing all colour."""
    gray_before_jitter: bool = False
    """Lose colour before the jitter, not after it (MoCo v1)."""
    blur: Blur = Blur()
    solarize: float = 0.0
    """Probability of inverting every pixel at or above the threshold 0.5; of 8-bit pixels these
    are the ones at or above 128 (MoCo v3)."""

    def __post_init__(self) -> None:
        for name in ("flip", "gray", "solarize"):
            _check_probability(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalView:
    """What evaluation shows the encoder: one deterministic view."""

    size: int = 224
    """Side of the square, in pixels."""
    crop: float = 0.875
    """Side of the central square that is kept, as a share of the image's shorter side."""
    interpolation: Interpolation = "bicubic"

    def __post_init__(self) -> None:
        _check_size("views.evaluation.size", self.size)
        if not 0 < self.crop <= 1:
            raise RecipeError(
                f"views.evaluation.crop={self.crop} must be above 0 and at most 1: it is the share "
                "of the image's shorter side that is kept. 0.875 is usual; 1 keeps it whole."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewsConfig:
    """The two views of every image, their size and the normalisation all images share."""

    size: int = 224
    """Side of a training view, in pixels."""
    first: View = View()
    second: View = View()
    evaluation: EvalView = EvalView()
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    """Subtracted per channel from pixels in 0..1; one number serves every channel."""
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    """Divides per channel after the mean is subtracted; one number serves every channel."""
    exact: bool = True
    """Decode JPEG files at their own scale. Off: at 1/2, 1/4 or 1/8 where both crops of an image
    stay at least twice as large as their views, which saves time with photographs of several
    megapixels and moves pixels by a fraction of a grey level."""

    def __post_init__(self) -> None:
        _check_size("views.size", self.size)
        finite = all(abs(number) < float("inf") for number in (*self.mean, *self.std))
        if not (finite and len(self.mean) == len(self.std) > 0 and min(self.std) > 0):
            raise RecipeError(
                f"views.mean={self.mean} and views.std={self.std} do not fit: both need one finite "
                "number per channel, and every std must be above 0."
            )


IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2470, 0.2435, 0.2616)

HALF_STRENGTH = Jitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
"""MoCo v2's jitter, and in the torchvision form what others took for SimCLR's at strength 0.5."""
BYOL_STRENGTH = Jitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
"""BYOL's jitter in the torchvision form, which MoCo v3 has too."""

_MOCO_CROP = Crop(area=(0.2, 1.0), interpolation="bilinear")


def simclr_224(strength: float = 1.0) -> ViewsConfig:
    """SimCLR's pair at 224 px (Chen et al. 2020, appendix A; released TF2 code, data_util.py).

    # differs from the released code: blur draws one sigma per image, not per batch; crops are
    # resized with antialiasing, as in all recipes.
    """
    view = View(
        crop=Crop(ratio_law="uniform"),
        jitter=_simclr_jitter(strength),
        blur=Blur(padding="zero"),
    )
    return ViewsConfig(size=224, first=view, second=view)


def simclr_32(strength: float = 0.5, size: int = 32) -> ViewsConfig:
    """SimCLR's pair for CIFAR (Chen et al. 2020, appendix B.9): half the strength, no blur.

    Evaluation shows whole images at 32 px, whatever the size of the training views.
    """
    view = View(
        crop=Crop(ratio_law="uniform"), jitter=_simclr_jitter(strength), blur=Blur(probability=0.0)
    )
    return ViewsConfig(size=size, first=view, second=view, evaluation=EvalView(size=32, crop=1.0))


def _simclr_jitter(strength: float) -> Jitter:
    return Jitter(
        brightness=0.8 * strength,
        contrast=0.8 * strength,
        saturation=0.8 * strength,
        hue=0.2 * strength,
        form="simclr",
    )


def byol_224() -> ViewsConfig:
    """BYOL's asymmetric pair, also that of all CVR models (Grill et al. 2020, appendix B).

    # differs from the CVR code: blur draws one sigma per image, as BYOL's does, not per batch.
    """
    crop = Crop(ratio_law="byol")
    jitter = Jitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, form="byol")
    return ViewsConfig(
        size=224,
        first=View(crop=crop, jitter=jitter, blur=Blur(probability=1.0, padding="zero")),
        second=View(
            crop=crop, jitter=jitter, blur=Blur(probability=0.1, padding="zero"), solarize=0.2
        ),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )


def moco_v1_224() -> ViewsConfig:
    """MoCo v1's pair (He et al. 2020; released code, main_moco.py): grey before jitter, no blur.

    # differs from the released code: pixels are not rounded to 8 bits after each operation.
    """
    view = View(
        crop=_MOCO_CROP,
        jitter=Jitter(probability=1.0, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.4),
        gray_before_jitter=True,
        blur=Blur(probability=0.0),
    )
    return _moco(view, view)


def moco_v2_224() -> ViewsConfig:
    """MoCo v2's pair (Chen et al. 2020, "aug+"; released code, main_moco.py).

    # differs from the released code: pixels are not rounded to 8 bits after each operation, and
    # the blur is a Gaussian; PIL's GaussianBlur approaches one by three box blurs.
    """
    view = View(crop=_MOCO_CROP, jitter=HALF_STRENGTH)
    return _moco(view, view)


def moco_v3_224(least_area: float = 0.2) -> ViewsConfig:
    """MoCo v3's asymmetric pair (Chen et al. 2021; released code, main_moco.py).

    # differs from the released code: as MoCo v2's.

    Args:
        least_area: Of a crop: 0.2 for the released ResNets, 0.08 for the ViTs.
    """
    crop = Crop(area=(least_area, 1.0), interpolation="bilinear")
    return _moco(
        View(crop=crop, jitter=BYOL_STRENGTH, blur=Blur(probability=1.0)),
        View(crop=crop, jitter=BYOL_STRENGTH, blur=Blur(probability=0.1), solarize=0.2),
    )


def _moco(first: View, second: View) -> ViewsConfig:
    """Evaluation: the central 0.875 of the shorter side, to 224 px.

    # differs from the released code (main_lincls.py), which resizes the shorter side to 256 and
    # cuts 224 out of that: the square lies up to a pixel elsewhere, and its edges are filtered
    # with what lies beyond them.
    """
    evaluation = EvalView(size=224, crop=0.875, interpolation="bilinear")
    return ViewsConfig(
        size=224,
        first=first,
        second=second,
        evaluation=evaluation,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )
