"""View recipes of other libraries' CIFAR benchmarks: solo-learn (da Costa et al. 2022), lightly.

Both compose torchvision's operations. Evaluation shows whole images.
"""

from dataclasses import replace

from squint.views.recipes import (
    BYOL_STRENGTH,
    CIFAR_MEAN,
    CIFAR_STD,
    HALF_STRENGTH,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Blur,
    Crop,
    EvalView,
    Jitter,
    View,
    ViewsConfig,
)


def solo_simclr_32() -> ViewsConfig:
    """solo-learn's pair for SimCLR on CIFAR: full strength, and blur.

    # differs from the released code: the blur ends after one pixel, a twentieth of the side.
    """
    view = View(jitter=Jitter())
    return _pair_32(view, view)


def solo_moco_32() -> ViewsConfig:
    """solo-learn's pair for MoCo v2+ on CIFAR: half the strength, and blur.

    # differs from the released code: the blur ends after one pixel, a twentieth of the side.
    """
    view = View(jitter=HALF_STRENGTH)
    return _pair_32(view, view)


def solo_byol_32() -> ViewsConfig:
    """solo-learn's pair for BYOL and MoCo v3 on CIFAR: no blur, the second view solarized."""
    first = View(jitter=BYOL_STRENGTH, blur=Blur(probability=0.0))
    return _pair_32(first, replace(first, solarize=0.2))


def lightly_simclr_32() -> ViewsConfig:
    """The pair of lightly's CIFAR benchmark for SimCLR and MoCo: half the strength, no blur."""
    view = View(
        crop=Crop(interpolation="bilinear"), jitter=HALF_STRENGTH, blur=Blur(probability=0.0)
    )
    return replace(_pair_32(view, view), mean=IMAGENET_MEAN, std=IMAGENET_STD)


def lightly_byol_32() -> ViewsConfig:
    """The pair of lightly's CIFAR benchmark for BYOL: no blur, the second view solarized."""
    crop = Crop(interpolation="bilinear")
    first = View(crop=crop, jitter=BYOL_STRENGTH, blur=Blur(probability=0.0))
    pair = _pair_32(first, replace(first, solarize=0.2))
    return replace(pair, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def _pair_32(first: View, second: View) -> ViewsConfig:
    return ViewsConfig(
        size=32,
        first=first,
        second=second,
        evaluation=EvalView(size=32, crop=1.0),
        mean=CIFAR_MEAN,
        std=CIFAR_STD,
    )
