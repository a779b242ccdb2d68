"""Backward encoders fitted after the fact, so that any encoder can be given a rate.

A compressed method learns b(z|y) while it trains. A plain or foreign encoder has none, and the
best one is found for it afterwards: b(z|y) = vMF(n(head(y)), kappa_b) with the head and kappa_b of
maximum likelihood under e(z|x) = vMF(h, kappa_e). With kappa_e given, the expected log-likelihood
depends on the head only through c, the mean cosine of h and n(head(y)): the head maximises c, and
then kappa_b solves A(kappa_b) = A(kappa_e) c. Among all functions of y, the direction of E[h|y] has
the largest c; hence the fit starts from least squares. c is measured on held-out images, because on
its own images the head has memorised more of h than y tells.
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from squint.compression import information
from squint.ops import vmf

HeadKind = Literal["linear", "mlp"]

EPOCHS = 40
"""Passes of the fit over its pairs; the best on held-out pairs is kept."""

_BATCH = 256
_LR = 3e-3
_HELD_OUT = 0.1
_RIDGES = (1e-4, 1e-2, 1.0)
"""Strengths of ridge regression that are tried, relative to the mean square of its inputs."""


class BackwardEncoder(nn.Module):
    """Mean direction of b(z|y) from the direction of the other view; starts as the identity.

    Args:
        dim: of both directions.
        kind: linear: W y + c. mlp: the same plus one hidden layer of twice the width.
        generator: draws the hidden layer.
    """

    def __init__(
        self, dim: int, kind: HeadKind = "linear", *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim)
        nn.init.eye_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.hidden = None
        if kind == "mlp":
            first, last = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)
            nn.init.normal_(first.weight, generator=generator)  # y is a unit row
            for zero in (first.bias, last.weight, last.bias):  # the hidden part starts as 0
                nn.init.zeros_(zero)
            self.hidden = nn.Sequential(first, nn.ReLU(), last)

    def forward(self, y: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Unit rows."""
        mean = self.linear(y)
        if self.hidden is not None:
            mean = mean + self.hidden(y)
        return F.normalize(mean, dim=1)


class Fit(NamedTuple):
    """A fitted backward encoder."""

    encoder: BackwardEncoder
    kappa_b: float
    """Concentration of maximum likelihood on the held-out pairs."""
    cosine: float
    """Mean cosine of h and the encoder's direction on the held-out pairs."""
    epoch: int
    """Passes after which held-out pairs were predicted best; 0 is the starting point."""
    held: Int[Tensor, " k"]
    """Rows of the held-out pairs."""


def fit_backward(
    y: Float[Tensor, "n d"],
    h: Float[Tensor, "n d"],
    *,
    kappa_e: float,
    images: Int[Tensor, " n"] | None = None,
    kind: HeadKind = "linear",
    epochs: int = EPOCHS,
    seed: int = 0,
) -> Fit:
    """The backward encoder that predicts h best from y, and its concentration.

    Starts from the identity or least squares and maximises the mean cosine with Adam. The pairs of
    a tenth of the images are held out: they select the start and the best pass, and give the
    concentration. torch's own generators are left alone.

    Args:
        y: unit directions of the other view.
        h: unit directions to be predicted; the means of e(z|x).
        kappa_e: concentration of e(z|x).
        images: number of each pair's image, from 0 on; default: every pair is another image's.
        kind: of the head.
        epochs: passes over the pairs.
        seed: of order, held-out images and first weights.
    """
    generator = torch.Generator().manual_seed(seed)
    held, fitted = _split(torch.arange(len(y)) if images is None else images.cpu(), generator)
    held, fitted = held.to(y.device), fitted.to(y.device)
    state = torch.get_rng_state()
    encoder = BackwardEncoder(y.shape[1], kind, generator=generator).to(y.device, y.dtype)
    torch.set_rng_state(state)  # layers draw from it although their weights are replaced
    _start_from_least_squares(encoder, y[fitted], h[fitted], y[held], h[held])
    best, best_cosine, best_epoch = _weights(encoder), _cosine(encoder, y[held], h[held]), 0
    optimizer = torch.optim.Adam(encoder.parameters(), lr=_LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in range(1, epochs + 1):
        order = fitted[torch.randperm(len(fitted), generator=generator).to(y.device)]
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            _adam_step(encoder, optimizer, y[rows], h[rows])
        schedule.step()
        if (cosine := _cosine(encoder, y[held], h[held])) > best_cosine:
            best, best_cosine, best_epoch = _weights(encoder), cosine, epoch
    encoder.load_state_dict(best)
    resultant = float(vmf.mean_resultant(kappa_e, y.shape[1])) * best_cosine
    kappa_b = information.concentration(resultant, y.shape[1])
    return Fit(encoder.eval().requires_grad_(False), kappa_b, best_cosine, best_epoch, held)


def _split(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows of a held-out tenth of the images, and of the others; both the same for one image."""
    count = int(images.max()) + 1
    shuffled = torch.randperm(count, generator=generator)
    is_held = torch.isin(images, shuffled[: max(1, round(_HELD_OUT * count))])
    held = is_held.nonzero()[:, 0]
    return held, held if is_held.all() else (~is_held).nonzero()[:, 0]


@torch.no_grad()
def _start_from_least_squares(
    encoder: BackwardEncoder, y: Tensor, h: Tensor, y_held: Tensor, h_held: Tensor
) -> None:
    """Set the linear part to ridge regression if that predicts held-out pairs better."""
    inputs = torch.cat([y, torch.ones_like(y[:, :1])], dim=1).double()  # (n, d + 1)
    square, product = inputs.T @ inputs, inputs.T @ h.double()
    unit = torch.eye(len(square), dtype=square.dtype, device=y.device) * square.diagonal().mean()
    best, best_cosine = _weights(encoder), _cosine(encoder, y_held, h_held)
    for ridge in _RIDGES:
        solution = ((square + ridge * unit).inverse() @ product).to(y.dtype)  # (d + 1, d)
        encoder.linear.weight.copy_(solution[:-1].T)
        encoder.linear.bias.copy_(solution[-1])
        if (cosine := _cosine(encoder, y_held, h_held)) > best_cosine:
            best, best_cosine = _weights(encoder), cosine
    encoder.load_state_dict(best)


@torch.enable_grad()
def _adam_step(encoder: nn.Module, optimizer: torch.optim.Optimizer, y: Tensor, h: Tensor) -> None:
    """One step up the mean cosine of h and the encoder's direction."""
    optimizer.zero_grad(set_to_none=True)
    loss = -(encoder(y) * h).sum(dim=1).mean()
    torch.autograd.backward(loss)
    optimizer.step()


@torch.no_grad()
def _cosine(encoder: nn.Module, y: Tensor, h: Tensor) -> float:
    return (encoder(y) * h).sum(dim=1).mean().item()


def _weights(encoder: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in encoder.state_dict().items()}
