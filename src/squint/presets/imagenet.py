"""ImageNet at 224 px as published: SimCLR, BYOL, MoCo v1, v2 and v3, and the compressed models.

Unless said otherwise batch 4096, LARS (momentum 0.9, trust coefficient 1e-3), 10 warm-up epochs,
cosine; global batch norm over all devices. None of these was run by us.
"""

from dataclasses import replace
from typing import Literal

from squint.configs import EncoderConfig, OptimConfig, SimCLRConfig, TrainConfig
from squint.presets import Preset
from squint.presets._imagenet_moco import (
    c_moco_v1,
    c_moco_v2,
    c_moco_v3,
    moco_v1,
    moco_v2,
    moco_v3,
)
from squint.presets._parts import BYOL, CVR_BYOL, CVR_PROJECTOR, SIMCLR_V1, compress
from squint.recipe import Recipe
from squint.views.recipes import byol_224, simclr_224

__all__ = [
    "byol",
    "c_byol",
    "c_moco_v1",
    "c_moco_v2",
    "c_moco_v3",
    "c_simclr",
    "moco_v1",
    "moco_v2",
    "moco_v3",
    "simclr",
]

_CVR = "Lee et al. 2021, released code and README (arXiv 2109.12909)"
_CVR_OPTIM = {
    "300ep": OptimConfig(lr=0.3, weight_decay=1e-6),
    "1000ep": OptimConfig(lr=0.2, weight_decay=1.5e-6),
}
_NO_FIGURE = "no published figure; not run by us"


def simclr(length: str) -> Preset:
    """SimCLR: 100 epochs are its own README's, the others the baseline of the compressed models."""
    if length == "100ep":
        recipe = Recipe(
            method=replace(SIMCLR_V1, directions="sum"),
            encoder=EncoderConfig(name="resnet50"),
            views=simclr_224(),
            optim=OptimConfig(lr=0.075, lr_scaling="sqrt", weight_decay=1e-4),
            train=_train(length, "simclr"),
        )
        source = "SimCLR README, 100-epoch command (Chen et al. 2020); the paper's two-layer head"
        return Preset(recipe, source, "linear 64.5 % (README); not run by us")
    recipe = Recipe(
        method=SimCLRConfig(temperature=0.1, directions="sum", projector=CVR_PROJECTOR),
        encoder=EncoderConfig(name="resnet50"),
        views=byol_224(),
        optim=_CVR_OPTIM[length],
        train=_train(length, "simclr"),
    )
    published = {"300ep": _NO_FIGURE, "1000ep": "linear 70.8 % (README); not run by us"}
    return Preset(recipe, f"{_CVR}, baseline of C-SimCLR", published[length])


def c_simclr(length: str) -> Preset:
    """C-SimCLR: kappa_e 1024, kappa_b 10, beta 1, one sample, the rate trained on the sample."""
    published = {"300ep": _NO_FIGURE, "1000ep": "linear 71.7 % (README); not run by us"}
    return compress(simclr(length), _CVR, published[length], beta=1.0, residual="sampled")


def byol(variant: str) -> Preset:
    """BYOL: as released, or (cvr-...) the baseline of C-BYOL."""
    if variant.startswith("cvr-"):
        return _cvr_byol(variant.removeprefix("cvr-"))
    lr, decay, momentum, expected = {
        "40ep": (0.45, 1e-6, 0.97, _NO_FIGURE),
        "100ep": (0.45, 1e-6, 0.99, _NO_FIGURE),
        "300ep": (0.3, 1e-6, 0.99, _NO_FIGURE),
        "1000ep": (0.2, 1.5e-6, 0.996, "linear 74.4 % (README), paper 74.3 %; not run by us"),
    }[variant]
    recipe = Recipe(
        method=replace(BYOL, target_momentum=momentum),
        encoder=EncoderConfig(name="resnet50", zero_init_residual=False, init="haiku"),
        views=byol_224(),
        optim=OptimConfig(lars_form="byol", lr=lr, weight_decay=decay),
        train=_train(variant, "byol"),
    )
    source = (
        "Grill et al. 2020, released code (configs/byol.py); residual blocks start with gamma 1, "
        "as in the paper (Haiku has since changed to 0)"
    )
    return Preset(recipe, source, expected)


def _cvr_byol(length: str) -> Preset:
    """kappa_d is twice the weight w of the regression: 5 for 300 epochs, 2 for 1000."""
    kappa_d, momentum, expected = {
        "300ep": (10.0, 0.99, _NO_FIGURE),
        "1000ep": (4.0, 0.996, "linear 74.3 % (README); not run by us"),
    }[length]
    recipe = Recipe(
        method=replace(CVR_BYOL, kappa_d=kappa_d, target_momentum=momentum),
        encoder=EncoderConfig(name="resnet50"),
        views=byol_224(),
        optim=_CVR_OPTIM[length],
        train=_train(length, "simclr"),
    )
    return Preset(recipe, f"{_CVR}, baseline of C-BYOL", expected)


def c_byol(length: str) -> Preset:
    """C-BYOL: kappa_e 16384, kappa_b 10, beta 1, the rate trained on the sample."""
    lr, expected = {
        "300ep": (0.35, _NO_FIGURE),
        "1000ep": (0.25, "linear 75.8 % (README), with the paper 75.6 %; not run by us"),
    }[length]
    plain = _cvr_byol(length)
    optim = replace(plain.recipe.optim, lr=lr)
    plain = plain._replace(recipe=plain.recipe.replace(optim=optim))
    return compress(plain, _CVR, expected, beta=1.0, residual="sampled")


def _train(length: str, step_count: Literal["byol", "simclr"]) -> TrainConfig:
    epochs = float(length.removesuffix("ep"))
    return TrainConfig(epochs=epochs, step_count=step_count, batch_size=4096, knn_every_epochs=50)
