"""CIFAR-10 and -100: ResNet-18 with the CIFAR stem at 32 px, SimCLR's own settings."""

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
from squint.views.recipes import simclr_32


def simclr() -> Preset:
    """SimCLR's CIFAR command: LARS lr 1.0, temperature 0.5, half colour strength, no blur."""
    recipe = Recipe(
        method=SimCLRConfig(
            temperature=0.5, projector=ProjectorConfig(layers=3, output_norm="scale", init="simclr")
        ),
        encoder=EncoderConfig(name="resnet18", stem="cifar"),
        views=simclr_32(),
        optim=OptimConfig(lr=1.0, weight_decay=1e-4),
        train=TrainConfig(epochs=1000.0, batch_size=512, knn_every_epochs=20),
    )
    return Preset(
        recipe,
        "SimCLR README, CIFAR-10 command (Chen et al. 2020, appendix B.9)",
        "linear top-1 about 91 % after 1000 epochs (README); not run by us",
    )


def c_simclr() -> Preset:
    """The same, compressed: kappa_b = 1 / temperature = 2, beta 0.1."""
    plain = simclr()
    ceb = CEBConfig(beta=0.1, kappa_e=1024.0, kappa_b=2.0)
    return Preset(
        dataclasses.replace(plain.recipe, compression=ceb),
        "simclr@cifar with CEB; no compressed CIFAR setting is published, beta is our choice",
        "not run by us",
    )
