"""Fine-tuning: encoder and a linear classifier trained end to end on all or some of the labels.

| setting | optimizer               | lr per 256    | epochs       | layer decay | EMA  |
|---------|-------------------------|---------------|--------------|-------------|------|
| squint  | AdamW, weight decay .05 | 1e-3          | 10           | 0.75        | 0.99 |
| simclr  | SGD, Nesterov 0.9       | 0.05          | 60 to 1 %, else 30 | 1     | 0    |
| byol    | SGD, Nesterov 0.9       | best of 0.01, 0.02, 0.05, 0.1, 0.005 | 30 | 1 | 0    |

simclr: Chen et al. 2020, appendix B.5 (batch 4096, lr 0.8; 60 epochs for 1 %, 30 for 10 %).
byol: Grill et al. 2020, appendix C.1 (batch 1024). Rates per 256 images, and the cosine to 0, are
from their released code. Random crops and flips; no gradient clipping, no dropout.

# differs from SimCLR's README, whose 1 % uses LARS, lr 0.005 sqrt(batch) and batch 1024, and keeps
# the projector's first layer.
# differs from BYOL: 30 epochs only, not also 50; the classifier starts at 0, not with deviation
# 1 / sqrt(f).
"""

import copy
import math
import re
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from squint.data import Images
from squint.errors import DataError
from squint.evaluate.augment import Crops
from squint.evaluate.bench import Bench
from squint.evaluate.fewshot import subset
from squint.evaluate.inputs import labelled_features
from squint.evaluate.labels import check_classes
from squint.evaluate.linear import share_right, stratified_split
from squint.evaluate.options_labels import FinetuneOptions
from squint.evaluate.parts import check_labels
from squint.views.recipes import ViewsConfig

_HELD_OUT = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """How to fine-tune, with nothing left open."""

    optimizer: Literal["adamw", "sgd"]
    lrs: tuple[float, ...]
    """Per 256 images; of several the best on held-out train images is taken."""
    weight_decay: float
    epochs: int
    layer_decay: float
    ema: float
    batch_size: int
    seed: int


def setting_of(options: FinetuneOptions, share: float) -> Setting:
    """The options with what their setting says about everything left open."""
    squint = options.setting == "squint"
    lrs = {"squint": (1e-3,), "simclr": (0.05,), "byol": (0.01, 0.02, 0.05, 0.1, 0.005)}
    epochs = {"squint": 10, "simclr": 60 if share <= 0.01 else 30, "byol": 30}
    return Setting(
        optimizer="adamw" if squint else "sgd",
        lrs=lrs[options.setting] if options.lr == "setting" else (options.lr,),
        weight_decay=0.05 if squint else 0.0,
        epochs=epochs[options.setting] if options.epochs == "setting" else options.epochs,
        layer_decay=(0.75 if squint else 1.0)
        if options.layer_decay == "setting"
        else options.layer_decay,
        ema=(0.99 if squint else 0.0) if options.ema == "setting" else options.ema,
        batch_size=options.batch_size,
        seed=options.seed,
    )


def measured(bench: Bench) -> dict[str, Any]:
    """The protocol: one result per share of the labels."""
    options = bench.options.finetune
    found: dict[str, Any] = {}
    for share in options.labels:
        setting = setting_of(options, share)
        for part in bench.parts[:2]:
            check_labels(part)
        labels, truth = bench.parts.train.labels, bench.parts.test.labels
        assert labels is not None and truth is not None, "checked above"
        check_classes(labels, truth, bench.images.classes)
        train = bench.parts.train.select(subset(labels, share, seed=options.seed, draw=0))
        lr = _best_lr(bench, train, setting)
        model = fit(bench.encoder.encoder, train, bench.views, setting, lr, bench.device)
        top1 = _top1(model, bench.parts.test, bench.views, bench.device)
        name = f"finetune_{100 * share:g}pct_top1"
        found[name] = bench.entry({"trained": top1}, _protocol(setting, len(train), share), lr=lr)
    return found


class Classifier(nn.Module):
    """An encoder with a linear classifier that starts at 0."""

    def __init__(self, encoder: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(width, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, classes) of images (n, c, h, w)."""
        return self.head(self.encoder(images))


def fit(
    encoder: nn.Module,
    images: Images,
    views: ViewsConfig,
    setting: Setting,
    lr: float,
    device: torch.device,
) -> Classifier:
    """A fine-tuned copy of the encoder with its classifier, averaged over steps if asked.

    Raises:
        DataError: the images have no labels, or one class only.
    """
    crops = Crops(images, views, seed=setting.seed, device=device)
    if len(crops.labels.unique()) < 2:
        raise DataError(
            f"All {len(crops)} images of {images.name} are of one class: a classifier needs two."
        )
    width: Any = encoder.dim
    model = Classifier(copy.deepcopy(encoder), int(width), len(images.classes)).to(device)
    model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    averaged = copy.deepcopy(model)
    size = min(setting.batch_size, len(crops))
    optimizer = _optimizer(model, setting, lr * size / 256)
    steps = len(crops) // size
    total = steps * setting.epochs
    order = torch.Generator().manual_seed(setting.seed)
    model.train()
    progress = _Progress(total)
    for epoch in range(setting.epochs):
        shuffled = torch.randperm(len(crops), generator=order)
        for step, rows in enumerate(shuffled[: steps * size].split(size), start=epoch * steps):
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * (1 + math.cos(math.pi * step / total)) / 2
            pixels = crops.batch(rows, epoch).contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(model(pixels), crops.labels[rows].to(device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            # a short memory at first, or the first weights would stay in it
            _average(averaged, model, min(setting.ema, (1 + step) / (10 + step)))
            progress.show(step + 1, loss)
    return (averaged if setting.ema else model).eval()


def layer_of(names: list[str]) -> dict[str, int]:
    """Depth of every parameter: 0 for what comes before the blocks, then block by block.

    Blocks are residual blocks (layer2.0, stages.1.blocks.0) or transformer blocks (blocks.3); what
    comes after them has the depth of the last, as in timm.
    """
    blocks: dict[str, int] = {}
    depths: dict[str, int] = {}
    for name in names:
        found = _BLOCK.search(name)
        if found:
            depths[name] = blocks.setdefault(found.group(), len(blocks) + 1)
        else:
            depths[name] = 0 if _STEM.search(name) else -1
    return {name: depth if depth >= 0 else len(blocks) for name, depth in depths.items()}


_BLOCK = re.compile(
    r"(layer\d+\.\d+|stages\.\d+\.(blocks|layers)\.\d+|blocks\.\d+(\.\d+)?(?=\.)"
    r"|encoder_layer_\d+|features\.\d+(\.\d+)?(?=\.)|layers\.\d+(\.blocks\.\d+)?(?=\.))"
)
_STEM = re.compile(r"(^|\.)(conv1|bn1|stem|conv_stem|cls_token|pos_embed|patch_embed|class_token)")


def groups_of(model: Classifier, setting: Setting, lr: float) -> list[dict[str, Any]]:
    """Parameter groups: the rate of the head, times the decay for each layer further down.

    Biases, norms and other vectors are not decayed towards 0.
    """
    depths = layer_of([name for name, _ in model.encoder.named_parameters()])
    top = max(depths.values(), default=0) + 1  # that of the head
    groups: dict[tuple[int, bool], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        part = name.removeprefix("encoder.")
        depth = top if name.startswith("head.") else depths[part]
        groups.setdefault((depth, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "peak": lr * setting.layer_decay ** (top - depth),
            "weight_decay": setting.weight_decay if matrices else 0.0,
        }
        for (depth, matrices), parameters in groups.items()
    ]


def _optimizer(model: Classifier, setting: Setting, lr: float) -> torch.optim.Optimizer:
    groups = groups_of(model, setting, lr)
    if setting.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=lr)
    return torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True)


@torch.no_grad()
def _average(averaged: nn.Module, model: nn.Module, keep: float) -> None:
    """Weights and running statistics; what is no real number is copied."""
    for mean, now in zip(averaged.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(now, 1 - keep)
        else:
            mean.copy_(now)


def _best_lr(bench: Bench, train: Images, setting: Setting) -> float:
    """The learning rate best on a held-out part of the labelled images."""
    if len(setting.lrs) == 1:
        return setting.lrs[0]
    assert train.labels is not None, "checked before"
    kept, held = stratified_split(train.labels, share=_HELD_OUT, seed=setting.seed)
    if not len(held):
        raise DataError(
            "Every class has one labelled image: none can be held out to choose the learning "
            "rate. Give one with --finetune.lr."
        )
    scores: dict[float, float] = {}
    for lr in setting.lrs:
        model = fit(
            bench.encoder.encoder, train.select(kept), bench.views, setting, lr, bench.device
        )
        scores[lr] = _top1(model, train.select(held), bench.views, bench.device)
    return max(scores, key=lambda lr: scores[lr])


def _top1(model: nn.Module, images: Images, views: ViewsConfig, device: torch.device) -> float:
    logits, labels = labelled_features(model, images, views, device=device)
    return share_right(logits, labels)


class _Progress:
    """One line on the terminal, now and then."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.console = Console(stderr=True, highlight=False)

    def show(self, step: int, loss: Tensor) -> None:
        every = max(1, self.total // 10)
        if step % every == 0 or step == self.total:
            self.console.print(f"fine-tuning, step {step}/{self.total}  loss {loss.item():.3f}")


def _protocol(setting: Setting, images: int, share: float) -> str:
    rates = ", ".join(f"{lr:g}" for lr in setting.lrs)
    chosen = ", chosen on a held-out tenth" if len(setting.lrs) > 1 else ""
    size = min(setting.batch_size, images)
    fewer = f" (asked {setting.batch_size}, there are no more)" if size < setting.batch_size else ""
    return (
        f"fine-tuned top-1: encoder and linear classifier (from 0) end to end on {images} train "
        f"images ({100 * share:g} % of every class), random resized crops and flips, "
        f"{setting.optimizer}, lr {{{rates}}} x batch / 256{chosen}, cosine, weight decay "
        f"{setting.weight_decay:g}, batch {size}{fewer}, {setting.epochs} epochs, layer "
        f"decay {setting.layer_decay:g}, EMA {setting.ema:g}, seed {setting.seed}; tested in the "
        "evaluation view, last weights"
    )
