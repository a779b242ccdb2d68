"""A laptop CPU and an hour: a narrow ResNet on 32-px images."""

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
from squint.views.recipes import (
    CIFAR_MEAN,
    CIFAR_STD,
    Blur,
    Crop,
    EvalView,
    Jitter,
    View,
    ViewsConfig,
)


def simclr() -> Preset:
    """SimCLR small enough for two CPU cores: a narrow ResNet-10, trained on 16-px views.

    Views of half the side cost a quarter. A crop shows things larger than the whole image does,
    so an encoder trained on crops is best shown images above its training size (Touvron et al.
    2019, "FixRes"): 24 px here, a point or two better than 32.
    """
    view = View(
        crop=Crop(area=(0.2, 1.0), interpolation="bilinear"),
        jitter=Jitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
        blur=Blur(probability=0.0),
    )
    recipe = Recipe(
        method=SimCLRConfig(
            temperature=0.2,
            projector=ProjectorConfig(layers=2, hidden_dim=512, out_dim=128, output_norm="scale"),
        ),
        encoder=EncoderConfig(name="resnet10", stem="cifar", width=0.375),
        views=ViewsConfig(
            size=16,
            first=view,
            second=view,
            evaluation=EvalView(size=24, crop=1.0),
            mean=CIFAR_MEAN,
            std=CIFAR_STD,
        ),
        optim=OptimConfig(name="sgd", lr=0.6, weight_decay=3e-4, warmup_epochs=1.0),
        train=TrainConfig(epochs=32.0, batch_size=256, knn_every_epochs=5),
    )
    return Preset(
        recipe,
        "ours, for CIFAR-10 on a CPU; temperature, optimizer and crop from short trials",
        "CIFAR-10: kNN 67.2 %, linear 70.1 %, about 41 minutes on 2 CPU cores (AVX2, one seed); "
        "random encoder 29.6 and 33.3 %",
    )


def c_simclr() -> Preset:
    """The same, compressed: kappa_b = 1 / temperature = 5, beta 0.1."""
    plain = simclr()
    ceb = CEBConfig(beta=0.1, kappa_e=1024.0, kappa_b=5.0)
    return Preset(
        dataclasses.replace(plain.recipe, compression=ceb),
        "simclr@tiny with CEB; beta is our choice, no compressed setting of this size is published",
        "CIFAR-10: kNN 66.2 %, linear 70.3 %, about 38 minutes on 2 CPU cores (AVX2, one seed)",
    )
