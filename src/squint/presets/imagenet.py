"""ImageNet at 224 px, as published with Compressive Visual Representations (Lee et al. 2021).

Batch 4096, LARS (momentum 0.9, trust coefficient 1e-3), 10 warm-up epochs, cosine; global
batch norm over all devices; embeddings of 256 from the released two-layer projector.
"""

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
from squint.views.recipes import byol_224

_PROJECTOR = ProjectorConfig(layers=2, hidden_dim=4096, out_dim=256, output_norm="none", init="cvr")
_LENGTHS = {
    "300ep": (300.0, OptimConfig(lr=0.3, weight_decay=1e-6)),
    "1000ep": (1000.0, OptimConfig(lr=0.2, weight_decay=1.5e-6)),
}
_SOURCE = "Lee et al. 2021, released code and README (arXiv 2109.12909)"
_RESULTS = {
    ("simclr", "300ep"): "no figure published for 300 epochs; not run by us",
    ("simclr", "1000ep"): "linear top-1 70.8 % (README); not run by us",
    ("c-simclr", "300ep"): "no figure published for 300 epochs; not run by us",
    ("c-simclr", "1000ep"): "linear top-1 71.7 % (README); not run by us",
}


def simclr(length: str) -> Preset:
    """The SimCLR baseline of the compressed models: temperature 0.1, asymmetric views."""
    epochs, optim = _LENGTHS[length]
    recipe = Recipe(
        method=SimCLRConfig(temperature=0.1, projector=_PROJECTOR),
        encoder=EncoderConfig(name="resnet50"),
        views=byol_224(),
        optim=optim,
        train=TrainConfig(epochs=epochs, batch_size=4096, knn_every_epochs=50),
    )
    return Preset(recipe, _SOURCE, _RESULTS["simclr", length])


def c_simclr(length: str) -> Preset:
    """C-SimCLR: kappa_e 1024, kappa_b 10, beta 1, one sample, the rate trained on the sample."""
    plain = simclr(length)
    ceb = CEBConfig(beta=1.0, kappa_e=1024.0, kappa_b=10.0, residual="sampled")
    recipe = dataclasses.replace(plain.recipe, compression=ceb)
    return Preset(recipe, _SOURCE, _RESULTS["c-simclr", length])
