"""Your own images at 224 px, batch 256, ResNet-50, on one GPU or a few."""

from dataclasses import replace

from squint.configs import EncoderConfig, OptimConfig, TrainConfig
from squint.presets import Preset
from squint.presets._parts import (
    CVR_BYOL,
    MOCO_RESNET50,
    MOCO_SGD,
    MOCO_V1,
    MOCO_V1_SGD,
    MOCO_V2,
    MOCO_V3,
    SIMCLR_V1,
    UNPUBLISHED,
    compress,
)
from squint.recipe import Recipe
from squint.views.recipes import byol_224, moco_v1_224, moco_v2_224, moco_v3_224, simclr_224

_TRAIN = TrainConfig(epochs=200.0, batch_size=256)
# differs from MoCo v1 and v2, which keep 65536 keys
_QUEUE = 4096  # own images are often few: 65536 keys would hold several of each image
_TARGET_MOMENTUM = 0.996  # of the longest runs: a batch of 256 makes 16 times as many steps
_UNKNOWN = "depends on your images; not run by us"


def simclr() -> Preset:
    """SimCLR at batch 256 with the square-root rule, which suits batches below 4096."""
    recipe = Recipe(
        method=SIMCLR_V1,
        encoder=EncoderConfig(name="resnet50"),
        views=simclr_224(),
        optim=OptimConfig(lr=0.075, lr_scaling="sqrt", weight_decay=1e-4),
        train=_TRAIN,
    )
    return Preset(
        recipe,
        "SimCLR README's 100-epoch command (sqrt rule, 0.075, decay 1e-4) at batch 256",
        "depends on your images; ImageNet, 100 epochs, batch 4096: linear 64.5 % (README); "
        "not run by us",
    )


def c_simclr() -> Preset:
    """The same, compressed as published: kappa_e 1024, kappa_b 10, beta 1."""
    source = "simclr@folder with the bottleneck of Lee et al. 2021; the rate in closed form"
    return compress(simclr(), source, _UNKNOWN, beta=1.0)


def moco_v1() -> Preset:
    """MoCo v1 as published, batch 256 over 200 epochs, but for the length of its queue."""
    recipe = Recipe(
        method=replace(MOCO_V1, queue_size=_QUEUE),
        encoder=MOCO_RESNET50,
        views=moco_v1_224(),
        optim=MOCO_V1_SGD,
        train=_TRAIN,
    )
    return Preset(
        recipe,
        f"moco-v1@imagenet-200ep (He et al. 2020) with {_QUEUE} keys, not 65536",
        "depends on your images; ImageNet, 65536 keys: linear 60.8 % (README); not run by us",
    )


def moco_v2() -> Preset:
    """MoCo v2 as published, batch 256 over 200 epochs, but for the length of its queue."""
    recipe = moco_v1().recipe.replace(
        method=replace(MOCO_V2, queue_size=_QUEUE), views=moco_v2_224(), optim=MOCO_SGD
    )
    return Preset(
        recipe,
        f"moco-v2@imagenet-200ep (Chen et al. 2020) with {_QUEUE} keys, not 65536",
        "depends on your images; ImageNet, 65536 keys: linear 67.5 % (README); not run by us",
    )


def moco_v3() -> Preset:
    """MoCo v3's ResNet-50 recipe of 300 epochs, scaled from batch 4096 to 256."""
    recipe = Recipe(
        method=replace(MOCO_V3, target_momentum=_TARGET_MOMENTUM),
        encoder=replace(MOCO_RESNET50, zero_init_residual=True),
        views=moco_v3_224(),
        optim=OptimConfig(lars_form="mocov3", lr=0.3, weight_decay=1e-6),
        train=_TRAIN,
    )
    source = (
        "moco-v3@imagenet-300ep (Chen et al. 2021) at batch 256: learning rate by the linear rule, "
        f"target momentum {_TARGET_MOMENTUM} for the many more steps"
    )
    return Preset(recipe, source, _UNKNOWN)


def byol() -> Preset:
    """BYOL as the baseline of C-BYOL over 300 epochs, scaled from batch 4096 to 256."""
    recipe = Recipe(
        method=replace(CVR_BYOL, target_momentum=_TARGET_MOMENTUM, target_init="copy"),
        encoder=EncoderConfig(name="resnet50"),
        views=byol_224(),
        optim=OptimConfig(lr=0.3, weight_decay=1e-6),
        train=_TRAIN,
    )
    source = (
        "byol@imagenet-cvr-300ep (Lee et al. 2021) at batch 256: learning rate by the linear rule, "
        f"target momentum {_TARGET_MOMENTUM} for the many more steps, target starting as a copy"
    )
    return Preset(recipe, source, _UNKNOWN)


def c_moco_v1() -> Preset:
    """C-MoCo v1; ours, no published result."""
    return compress(moco_v1(), f"moco-v1@folder {UNPUBLISHED}", _UNKNOWN)


def c_moco_v2() -> Preset:
    """C-MoCo v2; ours, no published result."""
    return compress(moco_v2(), f"moco-v2@folder {UNPUBLISHED}", _UNKNOWN)


def c_moco_v3() -> Preset:
    """C-MoCo v3; ours, no published result."""
    return compress(moco_v3(), f"moco-v3@folder {UNPUBLISHED}", _UNKNOWN)


def c_byol() -> Preset:
    """C-BYOL's bottleneck as published: kappa_d 10, kappa_e 16384, kappa_b 10, beta 1."""
    source = "byol@folder with the bottleneck of Lee et al. 2021; the rate in closed form"
    return compress(byol(), source, _UNKNOWN, beta=1.0)
