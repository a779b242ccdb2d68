"""The papers' linear probes: SGD on the features of a frozen encoder in evaluation mode.

| setting       | lr          | decay | batch | epochs | schedule             | momentum | start   |
|---------------|-------------|-------|-------|--------|----------------------|----------|---------|
| moco          | 30          | 0     | 256   | 100    | x 0.1 at 60 %, 80 %  | 0.9      | N(0.01) |
| mocov3        | 0.1 x       | 0     | 1024  | 90     | cosine, per epoch    | 0.9      | N(0.01) |
| mocov3-vit    | 3 x         | 0     | 1024  | 90     | cosine, per epoch    | 0.9      | N(0.01) |
| simclr        | 0.1 x       | 1e-6  | 4096  | 90     | cosine               | Nesterov | 0       |
| simclr-cifar  | 0.1 x       | 0     | 512   | 100    | cosine               | Nesterov | 0       |
| byol          | best of 5 x | 0     | 1024  | 80     | cosine               | Nesterov | 0       |
| byol-released | 0.2 x       | 0     | 4096  | 80     | cosine               | Nesterov | 0       |

x: batch / 256. N(0.01): normal, of deviation 0.01. moco: He et al. 2020, released main_lincls.py.
mocov3 (ResNets) and mocov3-vit: Chen et al. 2021, released main_lincls.py and README. simclr and
simclr-cifar: Chen et al. 2020, README and appendix B.6. byol: Grill et al. 2020, appendix C.1, of
0.4, 0.3, 0.2, 0.1, 0.05; byol-released: configs/eval.py and schedules.py, from which we also have
that the paper's rates are per 256 images. Decay is of weights and biases, as in SimCLR's code.

# differs from MoCo's code: the last epoch counts, not the best on test.
# differs from the codes: a batch that an epoch can't fill is left out.
# differs from BYOL: chosen on a held-out tenth of train, not on 10,009 images; classifier from 0,
# not of deviation 1 / sqrt(f).
# differs from the papers unless `augment`: features of one view are used in every epoch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from squint.evaluate.augment import Crops
from squint.evaluate.bench import Bench, Which
from squint.evaluate.features import extract
from squint.evaluate.inputs import BATCH, Labelled
from squint.evaluate.linear import share_right, stratified_split
from squint.evaluate.options_labels import SGDProbeOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """How to train the classifier, with nothing left open."""

    lrs: tuple[float, ...]
    """Of several the best on held-out train images is taken."""
    scaled: bool = True
    """Whether lr is per 256 images of a batch."""
    weight_decay: float = 0.0
    batch_size: int
    epochs: int
    schedule: Literal["steps", "cosine", "epoch_cosine"] = "cosine"
    nesterov: bool = True
    init_std: float = 0.0


_MOCO_V3 = Setting(
    lrs=(0.1,),
    batch_size=1024,
    epochs=90,
    schedule="epoch_cosine",
    nesterov=False,
    init_std=0.01,
)
_BYOL = Setting(lrs=(0.4, 0.3, 0.2, 0.1, 0.05), batch_size=1024, epochs=80)

SETTINGS = {
    "moco": Setting(
        lrs=(30.0,),
        scaled=False,
        batch_size=256,
        epochs=100,
        schedule="steps",
        nesterov=False,
        init_std=0.01,
    ),
    "mocov3": _MOCO_V3,
    "mocov3-vit": replace(_MOCO_V3, lrs=(3.0,)),
    "simclr": Setting(lrs=(0.1,), weight_decay=1e-6, batch_size=4096, epochs=90),
    "simclr-cifar": Setting(lrs=(0.1,), batch_size=512, epochs=100),
    "byol": _BYOL,
    "byol-released": replace(_BYOL, lrs=(0.2,), batch_size=4096),
}
_MOMENTUM = 0.9
_HELD_OUT = 0.1


def setting_of(options: SGDProbeOptions) -> Setting:
    """The published setting with what the options say otherwise."""
    published = SETTINGS[options.setting]
    return replace(
        published,
        lrs=published.lrs if options.lr == "published" else (options.lr,),
        weight_decay=published.weight_decay
        if options.weight_decay == "published"
        else options.weight_decay,
        batch_size=published.batch_size
        if options.batch_size == "published"
        else options.batch_size,
        epochs=published.epochs if options.epochs == "published" else options.epochs,
    )


def measured(bench: Bench) -> dict[str, Any]:
    """The protocol; with augmentation only of the encoder under test, not of a random one."""
    options = bench.options.sgd
    setting = setting_of(options)
    kinds: tuple[Which, ...] = ("trained",) if options.augment else bench.kinds
    values: dict[str, float] = {}
    rates: dict[str, float] = {}
    for which in kinds:
        train, test = bench.features(which)
        views = _epochs(bench, which, options)
        rates[which] = _best_lr(views, train, setting, seed=options.seed)
        weight, bias = fit(
            views,
            train.labels,
            (rates[which],),
            setting,
            width=train.features.shape[1],
            seed=options.seed,
        )
        values[which] = share_right(test.features @ weight[0].T + bias[0], test.labels)
    protocol = _protocol(setting, options, len(bench.features()[0].labels))
    entry = bench.entry(values, protocol, lr=rates["trained"])
    return {f"linear_sgd_{options.setting.replace('-', '_')}_top1": entry}


Features = Callable[[int], Float[Tensor, "k f"]]
"""Features of the train images in an epoch."""


def _epochs(bench: Bench, which: Which, options: SGDProbeOptions) -> Features:
    """Of the images of `bench.features`, in their order."""
    train = bench.features_and_images(which)[0]
    if not options.augment:
        return lambda _: train.features
    crops = Crops(train.images, bench.views, seed=options.seed, device=bench.device)

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

    return seen


def _best_lr(views: Features, train: Labelled, setting: Setting, *, seed: int) -> float:
    """The learning rate best on held-out train images in the evaluation view; of equals the first.

    Args:
        views: what is learned from.
        train: the same images in the evaluation view.
        setting: all else.
        seed: of what is held out, order and initial weights.
    """
    features, labels = train
    if len(setting.lrs) == 1:
        return setting.lrs[0]
    kept, held = (
        torch.from_numpy(rows)
        for rows in stratified_split(labels.numpy(), share=_HELD_OUT, seed=seed)
    )
    weight, bias = fit(
        lambda epoch: views(epoch)[kept],
        labels[kept],
        setting.lrs,
        setting,
        width=features.shape[1],
        seed=seed,
    )
    scores = [
        share_right(features[held] @ w.T + b, labels[held])
        for w, b in zip(weight, bias, strict=True)
    ]
    return setting.lrs[scores.index(max(scores))]


def fit(
    views: Features,
    labels: Int[Tensor, " k"],
    lrs: Sequence[float],
    setting: Setting,
    *,
    width: int,
    seed: int,
) -> tuple[Float[Tensor, "l classes f"], Float[Tensor, "l classes"]]:
    """Weights and biases after the last epoch, one per learning rate, in the same passes.

    Args:
        views: features of k images, asked for once an epoch.
        labels: of these.
        lrs: learning rates.
        setting: all else.
        width: of the features.
        seed: of order and initial weights.
    """
    generator = torch.Generator().manual_seed(seed)
    classes = int(labels.max()) + 1
    weight = setting.init_std * torch.randn(classes, width, generator=generator)
    head = torch.cat([weight, torch.zeros(classes, 1)], dim=1).repeat(len(lrs), 1, 1)
    momentum = torch.zeros_like(head)
    size = min(setting.batch_size, len(labels))
    scale = size / 256 if setting.scaled else 1.0
    rate = scale * torch.tensor(lrs)[:, None, None]  # (l, 1, 1)
    steps = len(labels) // size
    for epoch in range(setting.epochs):
        features = views(epoch)
        order = torch.randperm(len(labels), generator=generator)
        for step, rows in enumerate(order[: steps * size].split(size)):
            gradient = _gradient(head, features[rows], labels[rows])
            gradient = gradient + setting.weight_decay * head
            momentum = _MOMENTUM * momentum + gradient
            update = gradient + _MOMENTUM * momentum if setting.nesterov else momentum
            head = head - rate * _factor(setting, epoch, step / steps) * update
    return head[..., :-1], head[..., -1]


def _gradient(head: Tensor, features: Tensor, labels: Tensor) -> Tensor:
    """Of mean cross entropy, (l, classes, f + 1)."""
    x = torch.cat([features, torch.ones(len(features), 1)], dim=1)  # (n, f + 1)
    odds = torch.einsum("nf,lcf->lnc", x, head).softmax(dim=2)
    odds[:, torch.arange(len(labels)), labels] -= 1
    return torch.einsum("lnc,nf->lcf", odds, x) / len(x)


def _factor(setting: Setting, epoch: int, part: float) -> float:
    """Learning rate as a share of its peak, that part of an epoch into it."""
    epochs = setting.epochs
    if setting.schedule == "steps":
        return 0.1 ** ((epoch >= 0.6 * epochs) + (epoch >= 0.8 * epochs))
    now = epoch if setting.schedule == "epoch_cosine" else epoch + part
    return (1 + math.cos(math.pi * now / epochs)) / 2


_COURSE = {
    "steps": "a tenth from 60 % and from 80 % on",
    "cosine": "cosine",
    "epoch_cosine": "cosine, per epoch",
}


def _protocol(setting: Setting, options: SGDProbeOptions, images: int) -> str:
    rates = ", ".join(f"{lr:g}" for lr in setting.lrs)
    shown = (
        "random resized crops and flips in every epoch"
        if options.augment
        else "evaluation view, computed once (no augmentation, unlike the paper)"
    )
    chosen = ", chosen on 10 % of train" if len(setting.lrs) > 1 else ""
    chosen += " in the evaluation view" if chosen and options.augment else ""
    size = min(setting.batch_size, images)
    fewer = f" (asked {setting.batch_size}, there are no more)" if size < setting.batch_size else ""
    return (
        f"linear top-1 by SGD as {options.setting}: raw encoder features, {shown}, {images} train "
        f"images, lr {{{rates}}}{' x batch / 256' if setting.scaled else ''}"
        f"{chosen}, batch {size}{fewer}, {setting.epochs} epochs, {_COURSE[setting.schedule]}, "
        f"{'Nesterov' if setting.nesterov else 'momentum'} 0.9, weight decay "
        f"{setting.weight_decay:g}, classifier from {_start(setting)}, seed {options.seed}; tested "
        "in the evaluation view, last epoch, last weights"
    )


def _start(setting: Setting) -> str:
    return f"N(0, {setting.init_std:g}^2)" if setting.init_std else "0"
