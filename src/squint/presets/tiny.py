"""A laptop CPU and an hour: a narrow ResNet on views of 16 px, for images of about 32 px."""

from dataclasses import replace

from squint.configs import (
    BYOLConfig,
    EncoderConfig,
    MethodConfig,
    MoCoConfig,
    MoCoV3Config,
    OptimConfig,
    PredictorConfig,
    ProjectorConfig,
    SimCLRConfig,
    TrainConfig,
)
from squint.presets import Preset
from squint.presets._parts import BETA, BYOL_BETA, BYOL_KAPPA_E, compress
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

_RANDOM = "random encoder 29.6 and 33.3 %"

_MOCO = MoCoConfig(temperature=0.2, queue_size=4096, target_momentum=0.99)


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
        "CIFAR-10: kNN 67.1 %, linear 70.8 %, 28 minutes on 2 CPU cores (AVX-512, one seed); "
        f"{_RANDOM}",
    )


def moco_v1() -> Preset:
    """MoCo v1's linear head, on the views of all @tiny recipes."""
    head = ProjectorConfig(layers=1, out_dim=128, output_bias=True)
    return _moco(head, _after_10_epochs(53.0, 56.4))


def moco_v2() -> Preset:
    """MoCo v2's two-layer head without batch norm."""
    head = ProjectorConfig(
        hidden_dim=512, out_dim=128, bias=True, output_bias=True, hidden_norm=False
    )
    return _moco(head, _after_10_epochs(51.0, 55.6))


def moco_v3() -> Preset:
    """MoCo v3's heads, at the width of @tiny."""
    config = MoCoV3Config(
        temperature=0.2,
        target_momentum=0.99,
        projector=ProjectorConfig(hidden_dim=512, out_dim=128, output_norm="plain"),
        predictor=PredictorConfig(hidden_dim=512),
    )
    return _plain(config, _after_10_epochs(53.0, 58.6))


def byol() -> Preset:
    """BYOL's heads, at the width of @tiny; a target as quick as that of BYOL's 40-epoch recipe."""
    config = BYOLConfig(
        target_momentum=0.97,
        projector=ProjectorConfig(hidden_dim=512, out_dim=128, bias=True),
        predictor=PredictorConfig(hidden_dim=512, bias=True),
    )
    return _plain(config, _after_10_epochs(47.5, 54.7))


def c_simclr() -> Preset:
    """The same, compressed: kappa_b = 1 / temperature = 5, beta 0.1."""
    expected = f"CIFAR-10: kNN 66.3 %, linear 70.2 %, 31 minutes (as simclr@tiny); {_RANDOM}"
    return _compressed(simclr(), expected)


def c_moco_v1() -> Preset:
    """The same, compressed: kappa_b = 1 / temperature = 5, beta 0.1."""
    return _compressed(moco_v1(), _after_10_epochs(51.8, 56.7))


def c_moco_v2() -> Preset:
    """The same, compressed: kappa_b = 1 / temperature = 5, beta 0.1."""
    return _compressed(moco_v2(), _after_10_epochs(50.1, 54.9))


def c_moco_v3() -> Preset:
    """The same, compressed: kappa_b = 1 / temperature = 5, beta 0.1."""
    return _compressed(moco_v3(), _after_10_epochs(52.0, 57.6))


def c_byol() -> Preset:
    """The same, compressed: kappa_e 65536, kappa_b 10, beta 0.01."""
    return _compressed(byol(), _after_10_epochs(46.0, 54.5), beta=BYOL_BETA)


def _after_10_epochs(knn: float, linear: float) -> str:
    """As measured in benchmarks/results/cifar10-ten-methods.md."""
    return f"CIFAR-10 after 10 epochs: kNN {knn:.1f} %, linear {linear:.1f} % (one seed); {_RANDOM}"


def _plain(method: MethodConfig, expected: str, *, lr: float = 0.6) -> Preset:
    base = simclr().recipe
    recipe = base.replace(method=method, optim=replace(base.optim, lr=lr))
    return Preset(recipe, "ours: simclr@tiny with the method's own heads and schedule", expected)


def _moco(head: ProjectorConfig, expected: str) -> Preset:
    return _plain(replace(_MOCO, projector=head), expected, lr=0.3)


def _compressed(plain: Preset, expected: str, *, beta: float = BETA) -> Preset:
    source = "ours: the plain recipe with CEB; no compressed setting of this size is published"
    return compress(plain, source, expected, beta=beta, byol_kappa_e=BYOL_KAPPA_E)
