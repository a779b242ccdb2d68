"""CIFAR-10 and -100: ResNet-18 with the CIFAR stem at 32 px.

Without a variant: SimCLR's own setting, and for the other methods solo-learn's. -solo is
solo-learn's for all (da Costa et al. 2022, scripts/pretrain/cifar), -lightly that of lightly's
CIFAR-10 benchmark. The compressed ones are ours and unpublished.
"""

from dataclasses import replace

from squint.configs import (
    BYOLConfig,
    EncoderConfig,
    MethodConfig,
    MoCoConfig,
    OptimConfig,
    PredictorConfig,
    ProjectorConfig,
    SimCLRConfig,
    TrainConfig,
)
from squint.presets import Preset
from squint.presets._parts import BYOL_BETA, BYOL_KAPPA_E, MOCO_V1, MOCO_V3, UNPUBLISHED, compress
from squint.recipe import Recipe
from squint.views.cifar_recipes import (
    lightly_byol_32,
    lightly_simclr_32,
    solo_byol_32,
    solo_moco_32,
    solo_simclr_32,
)
from squint.views.recipes import ViewsConfig, simclr_32

_RESNET18 = EncoderConfig(
    name="resnet18", stem="cifar", init="torchvision", zero_init_residual=False
)
_UNPUBLISHED_BYOL = (
    f"with CEB: ours, not published (kappa_b of C-BYOL, kappa_e {BYOL_KAPPA_E:g}, beta {BYOL_BETA})"
)


def simclr(variant: str = "") -> Preset:
    """SimCLR's CIFAR command: LARS lr 1.0, temperature 0.5, half colour strength, no blur."""
    if variant:
        return _simclr_solo() if variant == "solo" else _simclr_lightly()
    recipe = Recipe(
        method=SimCLRConfig(
            temperature=0.5,
            directions="sum",
            projector=ProjectorConfig(layers=3, output_norm="scale", init="simclr"),
        ),
        encoder=EncoderConfig(name="resnet18", stem="cifar"),
        views=simclr_32(),
        optim=OptimConfig(lr=1.0, weight_decay=1e-4),
        train=TrainConfig(epochs=1000.0, step_count="simclr", batch_size=512, knn_every_epochs=20),
    )
    return Preset(
        recipe,
        "SimCLR README, CIFAR-10 command (Chen et al. 2020, appendix B.9)",
        "linear about 91 % (README), after 1000 epochs; not run by us",
    )


def _simclr_solo() -> Preset:
    method = SimCLRConfig(temperature=0.2, projector=_MLP_SOLO)
    optim = replace(_LARS_SOLO, lr=0.4, weight_decay=1e-4)
    # differs from solo-learn: both views pass the encoder at once, so batch norm sees them together
    differs = "its views go through the encoder one by one, here together; "
    return _solo(
        method, solo_simclr_32(), optim, "simclr", "90.74 % (theirs), CIFAR-100 65.78 %", differs
    )


def _simclr_lightly() -> Preset:
    head = ProjectorConfig(layers=2, hidden_dim=512, out_dim=128, output_norm="affine")
    method = SimCLRConfig(temperature=0.5, projector=head)
    return _lightly(method, lightly_simclr_32(), "84.7")


def byol(variant: str = "") -> Preset:
    """solo-learn's BYOL, or lightly's: no blur, the second view solarized."""
    if variant == "lightly":
        head = ProjectorConfig(layers=2, hidden_dim=1024, out_dim=256, output_bias=True)
        predictor = PredictorConfig(layers=2, hidden_dim=1024, output_bias=True)
        # kappa_d 0.5: half the sum of the two negative cosines
        method = BYOLConfig(
            kappa_d=0.5, target_schedule="constant", projector=head, predictor=predictor
        )
        return _lightly(method, lightly_byol_32(), "86.9")
    method = BYOLConfig(
        projector=ProjectorConfig(
            layers=2, hidden_dim=4096, out_dim=256, bias=True, output_bias=True
        ),
        predictor=PredictorConfig(layers=2, hidden_dim=4096, bias=True, output_bias=True),
    )
    optim = replace(_LARS_SOLO, lr=1.0, weight_decay=1e-5)
    return _solo(method, solo_byol_32(), optim, "byol", "92.58 % (theirs), CIFAR-100 70.46 %")


def moco_v2(variant: str = "") -> Preset:
    """solo-learn's MoCo v2+, or lightly's MoCo: both views are queries."""
    if variant == "lightly":
        head = ProjectorConfig(
            layers=2, hidden_dim=512, bias=True, output_bias=True, hidden_norm=False
        )
        method = MoCoConfig(
            temperature=0.1,
            queue_size=4096,
            target_momentum=0.99,
            symmetric=True,
            norm_groups=8,
            projector=head,
        )
        return _lightly(method, lightly_simclr_32(), "83.8")
    # differs from solo-learn: one queue for both views, not two; momentum to 1, not to 0.999
    method = MoCoConfig(
        temperature=0.2,
        queue_size=32768,
        target_momentum=0.99,
        target_schedule="cosine",
        symmetric=True,
        norm_groups=1,
        projector=_MLP_SOLO,
    )
    optim = OptimConfig(name="sgd", lr=0.3, weight_decay=1e-4, decay_norm_and_bias=True)
    differs = (
        "its target momentum rises to 0.999, here to 1; it has two queues of 32768, one per view, "
        "here one holds the keys of both; "
    )
    return _solo(
        method, solo_moco_32(), optim, "mocov2plus", "92.94 % (theirs), CIFAR-100 69.89 %", differs
    )


def moco_v3(variant: str = "") -> Preset:
    """solo-learn's MoCo v3: BYOL's views, temperature 0.2."""
    del variant  # solo, under both names
    method = replace(MOCO_V3, temperature=0.2)
    optim = replace(_LARS_SOLO, lr=0.3, weight_decay=1e-6)
    return _solo(method, solo_byol_32(), optim, "mocov3", "93.10 % (theirs), CIFAR-100 68.83 %")


def moco_v1() -> Preset:
    """moco-v2@cifar with what sets v1 apart in the loss: a linear head, temperature 0.07."""
    recipe = moco_v2().recipe
    assert isinstance(recipe.method, MoCoConfig)
    method = replace(recipe.method, temperature=MOCO_V1.temperature, projector=MOCO_V1.projector)
    return Preset(
        recipe.replace(method=method),
        "moco-v2@cifar with MoCo v1's head and temperature (He et al. 2020): ours, not published",
        "not run by us",
    )


def c_simclr() -> Preset:
    """C-SimCLR: kappa_b = 1 / temperature = 2, beta 0.1; ours, no published result."""
    return compress(simclr(), f"simclr@cifar {UNPUBLISHED}")


def c_byol() -> Preset:
    """C-BYOL: kappa_e 65536, kappa_b 10, beta 0.01; ours, no published result."""
    return compress(
        byol(), f"byol@cifar {_UNPUBLISHED_BYOL}", beta=BYOL_BETA, byol_kappa_e=BYOL_KAPPA_E
    )


def c_moco_v1() -> Preset:
    """C-MoCo v1; ours, no published result."""
    return compress(moco_v1(), f"moco-v1@cifar {UNPUBLISHED}")


def c_moco_v2() -> Preset:
    """C-MoCo v2; ours, no published result."""
    return compress(moco_v2(), f"moco-v2@cifar {UNPUBLISHED}")


def c_moco_v3() -> Preset:
    """C-MoCo v3; ours, no published result."""
    return compress(moco_v3(), f"moco-v3@cifar {UNPUBLISHED}")


_MLP_SOLO = ProjectorConfig(
    layers=2, hidden_dim=2048, out_dim=256, bias=True, output_bias=True, hidden_norm=False
)
_LARS_SOLO = OptimConfig(lars_form="solo", trust_coefficient=0.02)


def _solo(
    method: MethodConfig,
    views: ViewsConfig,
    optim: OptimConfig,
    script: str,
    top1: str,
    differs: str = "",
) -> Preset:
    recipe = Recipe(
        method=method,
        encoder=_RESNET18,
        views=views,
        optim=optim,
        train=TrainConfig(epochs=1000.0, batch_size=256, knn_every_epochs=20),
    )
    source = (
        f"solo-learn, scripts/pretrain/cifar/{script}.yaml; differs: {differs}its stem pads by 2 "
        "(maps of 34 px) and its warm-up starts at 3e-5"
    )
    return Preset(recipe, source, f"linear {top1}, after 1000 epochs, online; not run by us")


def _lightly(method: MethodConfig, views: ViewsConfig, knn: str) -> Preset:
    recipe = Recipe(
        method=method,
        encoder=_RESNET18,
        views=views,
        optim=OptimConfig(
            name="sgd",
            lr=0.12,  # 0.06 for a batch of 128
            weight_decay=5e-4,
            decay_norm_and_bias=True,
            warmup_epochs=0.0,
            schedule="epoch_cosine",
        ),
        train=TrainConfig(epochs=200.0, batch_size=128),
    )
    source = (
        "lightly, CIFAR-10 benchmark at batch 128; differs: it drops the ReLU of the stem, its "
        "convolutions start as PyTorch draws them, and views go through the encoder one by one"
    )
    return Preset(recipe, source, f"kNN {knn} % (theirs), after 200 epochs; not run by us")
