"""Methods, encoders and optimizers that several settings share, with the published numbers.

Sources: SimCLR's README and TF2 code; MoCo's code (He et al. 2020, Chen et al. 2020) and MoCo
v3's (Chen et al. 2021); BYOL's (Grill et al. 2020); CVR, the code of Lee et al. 2021.
"""

from dataclasses import replace
from typing import Literal

from squint.configs import (
    BYOLConfig,
    CEBConfig,
    EncoderConfig,
    MoCoConfig,
    MoCoV3Config,
    OptimConfig,
    PredictorConfig,
    ProjectorConfig,
    SimCLRConfig,
)
from squint.presets import Preset

SIMCLR_V1 = SimCLRConfig(
    temperature=0.1, projector=ProjectorConfig(layers=2, output_norm="scale", init="simclr")
)
"""SimCLR with the two-layer head of its paper."""

CVR_PROJECTOR = ProjectorConfig(layers=2, hidden_dim=4096, out_dim=256, init="cvr")
CVR_PREDICTOR = PredictorConfig(layers=2, hidden_dim=4096, init="cvr")

MOCO_V1 = MoCoConfig(temperature=0.07, projector=ProjectorConfig(layers=1, output_bias=True))
MOCO_V2 = MoCoConfig(
    temperature=0.2,
    projector=ProjectorConfig(layers=2, bias=True, output_bias=True, hidden_norm=False),
)
MOCO_V3 = MoCoV3Config(
    temperature=1.0,
    projector=ProjectorConfig(layers=2, hidden_dim=4096, out_dim=256, output_norm="plain"),
    predictor=PredictorConfig(layers=2, hidden_dim=4096),
)
"""MoCo v3 of the ResNets."""

BYOL = BYOLConfig(
    kappa_d=2.0,
    target_init="independent",
    projector=ProjectorConfig(layers=2, hidden_dim=4096, out_dim=256, bias=True, init="haiku"),
    predictor=PredictorConfig(layers=2, hidden_dim=4096, bias=True, init="haiku"),
)
"""BYOL as released."""
CVR_BYOL = BYOLConfig(
    kappa_d=10.0, target_init="independent", projector=CVR_PROJECTOR, predictor=CVR_PREDICTOR
)
"""BYOL as the baseline of C-BYOL, 300 epochs: weight w = 5 = kappa_d / 2, no biases."""

MOCO_RESNET50 = EncoderConfig(name="resnet50", init="torchvision", zero_init_residual=False)
"""torchvision's ResNet-50, that of MoCo v1 and v2; MoCo v3 starts residual blocks at zero."""

MOCO_SGD = OptimConfig(
    name="sgd",
    lr=0.03,
    weight_decay=1e-4,
    decay_norm_and_bias=True,
    warmup_epochs=0.0,
    schedule="epoch_cosine",
)
MOCO_V1_SGD = replace(MOCO_SGD, schedule="steps", decay_epochs=(120.0, 160.0))

BETA = 0.1
"""Weight of the rate where none is published. It pulls a code to its partner by
beta / temperature, the softmax by at most 1 / temperature: 0.1 leaves the contrast in charge, also
at MoCo v1's kappa_b of 14."""
UNPUBLISHED = f"with CEB: ours, not published (kappa_b = 1 / temperature, beta {BETA})"
"""What is said of a compressed recipe after the name of its plain one."""
BYOL_BETA, BYOL_KAPPA_E = 0.01, 65536.0
"""The same for BYOL with its own kappa_d of 2, and the concentration beside it; published are 1 and
16384 with kappa_d 10 or 4. The rate holds the directions of all images together: on 10 epochs of
CIFAR-10 beta 0.1 cost five points of kNN, 0.01 two (three seeds), with this kappa_e 1.7
(benchmarks/results/cifar10-ten-methods.md)."""


def compress(
    plain: Preset,
    source: str,
    expected: str = "not run by us",
    *,
    beta: float = BETA,
    byol_kappa_e: float = 16384.0,
    residual: Literal["closed_form", "sampled"] = "closed_form",
) -> Preset:
    """A preset with the bottleneck of Lee et al. 2021.

    kappa_e 1024 and kappa_b 1 / temperature, as C-SimCLR has them; without a temperature
    `byol_kappa_e` and 10, by default as C-BYOL has them.
    """
    method = plain.recipe.method
    if isinstance(method, BYOLConfig):
        kappa_e, kappa_b = byol_kappa_e, 10.0
    else:
        kappa_e, kappa_b = 1024.0, 1 / method.temperature
    ceb = CEBConfig(beta=beta, kappa_e=kappa_e, kappa_b=kappa_b, residual=residual)
    return Preset(plain.recipe.replace(compression=ceb), source, expected)
