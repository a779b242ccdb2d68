"""Your own images at 224 px on one or a few devices."""

import dataclasses

from squint.configs import (
    CEBConfig,
    EncoderConfig,
    OptimConfig,
    ProjectorConfig,
    SimCLRConfig,
    TrainConfig,
)
from squint.presets import Preset
from squint.recipe import Recipe
from squint.views.recipes import simclr_224


def simclr() -> Preset:
    """SimCLR at batch 256 with the square-root rule, which suits batches below 4096."""
    recipe = Recipe(
        method=SimCLRConfig(
            temperature=0.1, projector=ProjectorConfig(layers=2, output_norm="scale", init="simclr")
        ),
        encoder=EncoderConfig(name="resnet50"),
        views=simclr_224(),
        optim=OptimConfig(lr=0.075, lr_scaling="sqrt", weight_decay=1e-4),
        train=TrainConfig(epochs=200.0, batch_size=256),
    )
    return Preset(
        recipe,
        "SimCLR README's 100-epoch command (sqrt rule, 0.075, decay 1e-4) at batch 256",
        "depends on your images; ImageNet, 100 epochs, batch 4096: linear about 64.5 % (README)",
    )


def c_simclr() -> Preset:
    """The same, compressed as published: kappa_e 1024, kappa_b 10, beta 1."""
    plain = simclr()
    ceb = CEBConfig(beta=1.0, kappa_e=1024.0, kappa_b=10.0)
    return Preset(
        dataclasses.replace(plain.recipe, compression=ceb),
        "simclr@folder with the bottleneck of Lee et al. 2021; the rate in closed form",
        "depends on your images; not run by us",
    )
