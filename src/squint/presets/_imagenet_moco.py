"""ImageNet at 224 px with MoCo v1, v2 and v3; the compressed ones are ours and unpublished."""

from dataclasses import replace

from squint.configs import EncoderConfig, OptimConfig, PredictorConfig, TrainConfig
from squint.presets import Preset
from squint.presets._parts import (
    MOCO_RESNET50,
    MOCO_SGD,
    MOCO_V1,
    MOCO_V1_SGD,
    MOCO_V2,
    MOCO_V3,
    UNPUBLISHED,
    compress,
)
from squint.recipe import Recipe
from squint.views.recipes import moco_v1_224, moco_v2_224, moco_v3_224

_MOCO = "released code and README (github.com/facebookresearch/moco)"
_MOCO_V3 = "Chen et al. 2021, released code and CONFIG.md (github.com/facebookresearch/moco-v3)"


def moco_v1(length: str) -> Preset:
    """MoCo v1: temperature 0.07, one linear layer, batch 256 in 8 parts, queue of 65536."""
    epochs = float(length.removesuffix("ep"))
    recipe = Recipe(
        method=MOCO_V1,
        encoder=MOCO_RESNET50,
        views=moco_v1_224(),
        optim=MOCO_V1_SGD,
        train=TrainConfig(epochs=epochs, batch_size=256, knn_every_epochs=50),
    )
    expected = "linear 60.8 % (README), +-0.2 over 5 runs; 8 GPUs, not run by us"
    return Preset(recipe, f"MoCo v1 (He et al. 2020), {_MOCO}", expected)


def moco_v2(length: str) -> Preset:
    """MoCo v2: v1 with a two-layer head, blur, cosine and temperature 0.2."""
    plain = moco_v1(length).recipe
    recipe = plain.replace(method=MOCO_V2, views=moco_v2_224(), optim=MOCO_SGD)
    expected = {
        "200ep": "linear 67.5 % (README), +-0.1 over 5 runs; 8 GPUs, not run by us",
        "800ep": "linear 71.1 % (README); 8 GPUs, not run by us",
    }[length]
    return Preset(recipe, f"MoCo v2 (Chen et al. 2020), {_MOCO}", expected)


def moco_v3(variant: str) -> Preset:
    """MoCo v3: the ResNet-50 recipes by length, and the ViTs (vit-s, vit-b)."""
    if variant.startswith("vit-"):
        return _moco_v3_vit(variant)
    lr, decay, momentum, expected = {
        "100ep": (0.6, 1e-6, 0.99, "linear 68.9 % (README); 16 GPUs, not run by us"),
        "300ep": (0.3, 1e-6, 0.99, "linear 72.8 % (README); 16 GPUs, not run by us"),
        "1000ep": (0.3, 1.5e-6, 0.996, "linear 74.6 % (README); 16 GPUs, not run by us"),
    }[variant]
    epochs = float(variant.removesuffix("ep"))
    recipe = Recipe(
        method=replace(MOCO_V3, target_momentum=momentum),
        encoder=replace(MOCO_RESNET50, zero_init_residual=True),
        views=moco_v3_224(),
        optim=OptimConfig(lars_form="mocov3", lr=lr, weight_decay=decay),
        train=TrainConfig(epochs=epochs, batch_size=4096, knn_every_epochs=50),
    )
    return Preset(recipe, _MOCO_V3, expected)


def _moco_v3_vit(variant: str) -> Preset:
    """AdamW, everything decays, crops down to 0.08, a third projector layer, frozen patches."""
    name, expected = {
        "vit-s": ("mocov3_vit_small", "linear 73.2 % (README); 32 GPUs, not run by us"),
        "vit-b": ("mocov3_vit_base", "linear 76.7 % (README); 64 GPUs, not run by us"),
    }[variant]
    method = replace(
        MOCO_V3,
        temperature=0.2,
        projector=replace(MOCO_V3.projector, layers=3),
        predictor=PredictorConfig(layers=2, hidden_dim=4096, output_norm="plain"),
    )
    recipe = Recipe(
        method=method,
        encoder=EncoderConfig(name=name),
        views=moco_v3_224(least_area=0.08),
        optim=OptimConfig(
            name="adamw",
            lr=1.5e-4,
            weight_decay=0.1,
            decay_norm_and_bias=True,
            warmup_epochs=40.0,
        ),
        train=TrainConfig(epochs=300.0, batch_size=4096, knn_every_epochs=50),
    )
    return Preset(recipe, _MOCO_V3, expected)


def c_moco_v1(length: str) -> Preset:
    """C-MoCo v1; ours, no published result."""
    return compress(moco_v1(length), f"moco-v1@imagenet-{length} {UNPUBLISHED}")


def c_moco_v2(length: str) -> Preset:
    """C-MoCo v2; ours, no published result."""
    return compress(moco_v2(length), f"moco-v2@imagenet-{length} {UNPUBLISHED}")


def c_moco_v3(variant: str) -> Preset:
    """C-MoCo v3; ours, no published result."""
    return compress(moco_v3(variant), f"moco-v3@imagenet-{variant} {UNPUBLISHED}")
