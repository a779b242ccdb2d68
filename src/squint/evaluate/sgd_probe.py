"""The papers' linear probes: SGD on the features of a frozen encoder in evaluation mode.

| setting | lr                        | schedule             | epochs | momentum | initial weights |
|---------|---------------------------|----------------------|--------|----------|-----------------|
| moco    | 30                        | x 0.1 at 60 %, 80 %  | 100    | 0.9      | N(0, 0.01)      |
| simclr  | 0.1 batch / 256           | cosine               | 90     | Nesterov | 0               |
| byol    | best of 5 x batch / 256   | cosine               | 80     | Nesterov | 0               |

No weight decay. moco: He et al. 2020, released main_lincls.py (batch 256, classifier N(0, 0.01^2));
simclr: Chen et al. 2020, appendix B.6 (batch 4096, lr 1.6), classifier from 0 as in the released
README; byol: Grill et al. 2020, appendix C.1 (batch 1024), learning rates 0.4, 0.3, 0.2, 0.1, 0.05,
per 256 images along a cosine as in the released schedules.py, # differs from it: chosen on a
held-out tenth of train, not on 10,009 images; classifier from 0, not of deviation 1 / sqrt(f).

# differs from MoCo's code: the last epoch counts, not the best on test.
# differs from the papers unless `augment`: features of one view are used in every epoch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from squint.evaluate.augment import Crops
from squint.evaluate.bench import Bench, Which
from squint.evaluate.features import extract
from squint.evaluate.inputs import BATCH
from squint.evaluate.linear import share_right, stratified_split
from squint.evaluate.options_labels import SGDProbeOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One paper's numbers."""

    lrs: tuple[float, ...]
    scaled: bool
    """Whether lr is per 256 images of a batch."""
    schedule: Literal["steps", "cosine"]
    epochs: int
    nesterov: bool
    init_std: float


SETTINGS = {
    "moco": Setting(
        lrs=(30.0,), scaled=False, schedule="steps", epochs=100, nesterov=False, init_std=0.01
    ),
    "simclr": Setting(
        lrs=(0.1,), scaled=True, schedule="cosine", epochs=90, nesterov=True, init_std=0.0
    ),
    "byol": Setting(
        lrs=(0.4, 0.3, 0.2, 0.1, 0.05),
        scaled=True,
        schedule="cosine",
        epochs=80,
        nesterov=True,
        init_std=0.0,
    ),
}
_MOMENTUM = 0.9
_HELD_OUT = 0.1


def measured(bench: Bench) -> dict[str, Any]:
    """The protocol; with augmentation only of the encoder under test, not of a random one."""
    options = bench.options.sgd
    setting = SETTINGS[options.setting]
    kinds: tuple[Which, ...] = ("trained",) if options.augment else bench.kinds
    values: dict[str, float] = {}
    rates: dict[str, float] = {}
    for which in kinds:
        test = bench.features(which)[1]
        views, labels = _epochs(bench, which, options)
        rates[which] = _best_lr(views, labels, setting, options)
        weight, bias = fit(views, labels, (rates[which],), setting, options)
        values[which] = share_right(test.features @ weight[0].T + bias[0], test.labels)
    protocol = _protocol(setting, options, len(bench.features()[0].labels))
    entry = bench.entry(values, protocol, lr=rates["trained"])
    return {f"linear_sgd_{options.setting}_top1": entry}


Features = Callable[[int], Float[Tensor, "k f"]]
"""Features of the train images in an epoch."""


def _epochs(
    bench: Bench, which: Which, options: SGDProbeOptions
) -> tuple[Features, Int[Tensor, " k"]]:
    if not options.augment:
        train = bench.features(which)[0]
        return lambda _: train.features, train.labels
    crops = Crops(bench.parts.train, bench.views, seed=options.seed, device=bench.device)

    def seen(epoch: int) -> Tensor:
        rows = torch.arange(len(crops)).split(BATCH)
        batches = (crops.batch(part, epoch) for part in rows)
        return extract(
            bench.module(which),
            batches,
            count=len(crops),
            device=bench.device,
            precision=bench.precision,
        )

    return seen, crops.labels


def _best_lr(views: Features, labels: Tensor, setting: Setting, options: SGDProbeOptions) -> float:
    """The learning rate best on a held-out part of train; of equals the first."""
    if len(setting.lrs) == 1:
        return setting.lrs[0]
    kept, held = (
        torch.from_numpy(rows)
        for rows in stratified_split(labels.numpy(), share=_HELD_OUT, seed=options.seed)
    )
    weight, bias = fit(
        lambda epoch: views(epoch)[kept], labels[kept], setting.lrs, setting, options
    )
    features = views(0)[held]
    scores = [
        share_right(features @ w.T + b, labels[held]) for w, b in zip(weight, bias, strict=True)
    ]
    return setting.lrs[scores.index(max(scores))]


def fit(
    views: Features,
    labels: Int[Tensor, " k"],
    lrs: Sequence[float],
    setting: Setting,
    options: SGDProbeOptions,
) -> tuple[Float[Tensor, "l classes f"], Float[Tensor, "l classes"]]:
    """Weights and biases after the last epoch, one per learning rate, in the same passes."""
    generator = torch.Generator().manual_seed(options.seed)
    epochs = setting.epochs if options.epochs == "paper" else options.epochs
    width, classes = views(0).shape[1], int(labels.max()) + 1
    weight = setting.init_std * torch.randn(classes, width, generator=generator)
    head = torch.cat([weight, torch.zeros(classes, 1)], dim=1).repeat(len(lrs), 1, 1)
    momentum = torch.zeros_like(head)
    size = min(options.batch_size, len(labels))
    scale = size / 256 if setting.scaled else 1.0
    rate = scale * torch.tensor(lrs)[:, None, None]  # (l, 1, 1)
    steps = len(labels) // size
    for epoch in range(epochs):
        features = views(epoch)
        order = torch.randperm(len(labels), generator=generator)
        for step, rows in enumerate(order[: steps * size].split(size)):
            gradient = _gradient(head, features[rows], labels[rows])
            momentum = _MOMENTUM * momentum + gradient
            update = gradient + _MOMENTUM * momentum if setting.nesterov else momentum
            head = head - rate * _factor(setting, epoch, step / steps, epochs) * update
    return head[..., :-1], head[..., -1]


def _gradient(head: Tensor, features: Tensor, labels: Tensor) -> Tensor:
    """Of mean cross entropy, (l, classes, f + 1)."""
    x = torch.cat([features, torch.ones(len(features), 1)], dim=1)  # (n, f + 1)
    odds = torch.einsum("nf,lcf->lnc", x, head).softmax(dim=2)
    odds[:, torch.arange(len(labels)), labels] -= 1
    return torch.einsum("lnc,nf->lcf", odds, x) / len(x)


def _factor(setting: Setting, epoch: int, part: float, epochs: int) -> float:
    if setting.schedule == "steps":
        return 0.1 ** ((epoch >= 0.6 * epochs) + (epoch >= 0.8 * epochs))
    return (1 + math.cos(math.pi * (epoch + part) / epochs)) / 2


def _protocol(setting: Setting, options: SGDProbeOptions, images: int) -> str:
    epochs = setting.epochs if options.epochs == "paper" else options.epochs
    rates = ", ".join(f"{lr:g}" for lr in setting.lrs)
    shown = (
        "random resized crops and flips in every epoch"
        if options.augment
        else "evaluation view, computed once (no augmentation, unlike the paper)"
    )
    return (
        f"linear top-1 by SGD as {options.setting}: raw encoder features, {shown}, {images} train "
        f"images, lr {{{rates}}}{' x batch / 256' if setting.scaled else ''}"
        f"{', chosen on 10 % of train' if len(setting.lrs) > 1 else ''}, batch "
        f"{options.batch_size}, {epochs} epochs, {setting.schedule}, "
        f"{'Nesterov' if setting.nesterov else 'momentum'} 0.9, no weight decay, seed "
        f"{options.seed}; tested in the evaluation view, last epoch, last weights"
    )
