"""Small methods in float64 for tests: networks of a few numbers, every random part reproducible."""

from typing import Any

import torch
from torch import Tensor, nn

from squint.compression import CEB, Open
from squint.methods import BYOL, Method, MoCo, MoCoV3, SimCLR
from squint.nn import Queue, Target, mlp

NAMES = ("simclr", "moco", "moco-symmetric", "moco-v3", "byol")
PIXELS, FEATURES, CODE = 12, 6, 5
TEMPERATURE = 0.1


def encoder(*, norm: bool = False) -> nn.Module:
    """Images (n, 3, 2, 2) -> features (n, 6)."""
    between = [nn.BatchNorm1d(FEATURES)] if norm else []
    return nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, FEATURES), *between, nn.ReLU())


def make(
    name: str, bottleneck: Open | CEB | None = None, *, norm: bool = False, **settings: Any
) -> Method:
    """A method of `NAMES` in float64; the same weights for the same arguments."""
    torch.manual_seed(0)
    online = encoder(norm=norm), nn.Linear(FEATURES, CODE)
    predictor = mlp(CODE, 7, CODE, hidden_norm=norm)
    start = encoder(norm=norm), nn.Linear(FEATURES, CODE)  # unlike `online`, so that they differ
    target = Target(*start, momentum=settings.pop("momentum", 0.9))
    ceb: dict[str, Any] = {"bottleneck": bottleneck}
    if name == "simclr":
        return SimCLR(*online, temperature=TEMPERATURE, **ceb).double()
    if name.startswith("moco-v3"):
        v3 = MoCoV3(*online, predictor, target=target, temperature=TEMPERATURE, **ceb)
        return v3.double()
    if name.startswith("moco"):
        settings = {"shuffle": False, "symmetric": "symmetric" in name} | settings
        queue = Queue(11, CODE)
        moco = MoCo(*online, target=target, queue=queue, temperature=TEMPERATURE, **ceb, **settings)
        return moco.double()
    if isinstance(bottleneck, CEB):
        heads = {"readout": nn.Linear(CODE, CODE), "backward_encoder": nn.Linear(CODE, CODE)}
        settings = heads | settings
    return BYOL(*online, predictor, target=target, **ceb, **settings).double()


def views(n: int = 8, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Two views (n, 3, 2, 2) in float64."""
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, n, 3, 2, 2, generator=generator, dtype=torch.float64)
    return first, second


def kappa_b(name: str) -> float:
    """Concentration of b(z|y) that goes with the method."""
    return 4.0 if name == "byol" else 1 / TEMPERATURE
