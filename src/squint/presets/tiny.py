"""A laptop CPU and an hour: a narrow ResNet on 32-px images."""

import dataclasses

from squint.presets import Preset
from squint.recipe import (
    CEBConfig,
    EncoderConfig,
    OptimConfig,
    ProjectorConfig,
    Recipe,
    SimCLRConfig,
    TrainConfig,
)
from squint.views.recipes import simclr_32


def simclr() -> Preset:
    """SimCLR small enough for two CPU cores: narrow encoder, 24-px views."""
    recipe = Recipe(
        method=SimCLRConfig(
            temperature=0.2,
            projector=ProjectorConfig(layers=2, hidden_dim=512, out_dim=128),
        ),
        encoder=EncoderConfig(name="resnet10", stem="cifar", width=0.5),
        views=simclr_32(size=24),
        optim=OptimConfig(name="sgd", lr=0.12, weight_decay=1e-4, warmup_epochs=1),
        train=TrainConfig(epochs=20, batch_size=256, knn_every_epochs=5),
    )
    return Preset(recipe, "tuned by us on CIFAR-10", "to be measured")


def c_simclr() -> Preset:
    """The same, compressed."""
    plain = simclr()
    ceb = CEBConfig(beta=0.1, kappa_e=1024.0, kappa_b=5.0)
    return Preset(
        dataclasses.replace(plain.recipe, compression=ceb),
        "tuned by us on CIFAR-10",
        "to be measured",
    )
