"""Multinomial logistic regression for many l2 strengths at once.

All strengths share every pass over the features: one matrix product of (rows, f) with (f, strengths
* classes) forward, one back. The minimiser is L-BFGS (Nocedal & Wright 2006, algorithm 7.4) whose
first guess of the Hessian is not a multiple of the identity but that of Boehning (1992): the
features' second moments plus the strength. With features as correlated as an encoder's, that saves
most of the iterations (21 where scikit-learn stopped at its limit of 200, on one synthetic set of
20,000 x 512).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

HISTORY = 10
"""Pairs of steps and gradient changes that L-BFGS remembers."""

_CELLS = 1 << 20
"""Logits that exist at once, over all strengths: bounds memory beside the features."""
_ARMIJO = 1e-4
_HALVINGS = 20


class Fit(NamedTuple):
    """Minima of mean cross entropy in nats + strength / 2 * ||weight||^2, one per strength."""

    weight: Float[Tensor, "s classes f"]
    bias: Float[Tensor, "s classes"]
    loss: Float[Tensor, " s"]
    gradient: Float[Tensor, " s"]
    """Largest absolute entry of the gradient."""
    iterations: int

    def only(self, row: int) -> "Fit":
        """The fit of one strength."""
        rows = slice(row, row + 1)
        return Fit(
            self.weight[rows],
            self.bias[rows],
            self.loss[rows],
            self.gradient[rows],
            self.iterations,
        )


def fit(
    features: Float[Tensor, "rows f"],
    labels: Int[Tensor, " rows"],
    strengths: Sequence[float],
    *,
    classes: int,
    start: Fit | None = None,
    tolerance: float | Sequence[float] = 1e-4,
    max_iterations: int = 200,
) -> Fit:
    """Minimise for each strength until no entry of the gradient is above the tolerance.

    Args:
        features: centred, or nearly so, for speed; the minimum does not depend on it.
        labels: from 0 to classes - 1.
        strengths: above 0.
        classes: number of logits.
        start: where to begin, of as many strengths; otherwise at 0.
        tolerance: of the gradient, largest absolute entry; one number, or one per strength.
        max_iterations: steps after which a strength is left as it is.
    """
    device = features.device
    strength = torch.tensor(strengths, dtype=torch.float32, device=device)  # (s,)
    theta = torch.zeros(len(strength), classes, features.shape[1] + 1, device=device)
    if start is not None:
        theta[..., :-1], theta[..., -1] = start.weight, start.bias
    least = torch.tensor(tolerance, device=device).expand(len(strength))  # (s,)
    curvature = _Curvature(features, strength)
    loss, gradient = _value(features, labels, theta, strength)
    memory = _Memory()
    iterations = 0
    open_ones = _largest(gradient) > least  # (s,)
    while iterations < max_iterations and bool(open_ones.any()):
        direction = memory.direction(gradient, curvature)
        direction[~open_ones] = 0
        step, new_loss, new_gradient = _search(
            features, labels, theta, strength, loss, gradient, direction, open_ones
        )
        moved = step[:, None, None] * direction
        memory.add(moved, new_gradient - gradient)
        theta, loss, gradient = theta + moved, new_loss, new_gradient
        open_ones = (_largest(gradient) > least) & (step > 0)
        iterations += 1
    return Fit(theta[..., :-1], theta[..., -1], loss, _largest(gradient), iterations)


def _value(
    features: Tensor, labels: Tensor, theta: Tensor, strength: Tensor
) -> tuple[Tensor, Tensor]:
    """Objective (s,) and gradient (s, classes, f + 1), by blocks of rows."""
    count, classes = theta.shape[:2]
    weight = theta[..., :-1].reshape(count * classes, -1)  # (s classes, f)
    bias = theta[..., -1].reshape(-1)
    loss = torch.zeros(count, dtype=torch.float64, device=features.device)
    slope = torch.zeros_like(weight)
    slope_bias = torch.zeros_like(bias)
    block = max(1, _CELLS // (count * classes))
    for x, y in zip(features.split(block), labels.split(block), strict=True):
        logits = torch.addmm(bias, x, weight.T).view(len(x), count, classes)
        logits -= logits.amax(dim=2, keepdim=True)
        own = y[:, None, None].expand(-1, count, 1)  # (rows, s, 1)
        loss -= logits.gather(2, own)[..., 0].sum(dim=0, dtype=torch.float64)
        # by hand: torch's own softmax over so few classes takes ten times as long
        odds = logits.exp_()
        total = odds.sum(dim=2, keepdim=True)
        loss += total[..., 0].log().sum(dim=0, dtype=torch.float64)
        odds /= total
        odds.scatter_add_(2, own, odds.new_full((), -1.0).expand(own.shape))
        wrong = odds.view(len(x), -1)  # (rows, s classes), softmax - one-hot
        slope.addmm_(wrong.T, x)
        slope_bias += wrong.sum(dim=0)
    gradient = torch.cat([slope, slope_bias[:, None]], dim=1).view_as(theta) / len(features)
    gradient[..., :-1] += strength[:, None, None] * theta[..., :-1]
    penalty = theta[..., :-1].double().square().sum(dim=(1, 2)) * strength / 2
    return loss / len(features) + penalty, gradient


def _search(
    features: Tensor,
    labels: Tensor,
    theta: Tensor,
    strength: Tensor,
    loss: Tensor,
    gradient: Tensor,
    direction: Tensor,
    open_ones: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Step length per strength, halved from 1 until the loss falls enough; 0 where it can't."""
    descent = _dot(gradient, direction)  # (s,)
    step = open_ones.float()
    new_loss, new_gradient = loss.clone(), gradient.clone()
    pending = open_ones.nonzero()[:, 0]
    noise = 1e-7 * loss.abs()  # float32 products tell no finer differences
    for _ in range(_HALVINGS):
        trial = theta[pending] + step[pending, None, None] * direction[pending]
        value, slope = _value(features, labels, trial, strength[pending])
        enough = loss[pending] + _ARMIJO * step[pending] * descent[pending] + noise[pending]
        good = value <= enough
        new_loss[pending[good]], new_gradient[pending[good]] = value[good], slope[good]
        pending = pending[~good]
        if not len(pending):
            return step, new_loss, new_gradient
        step[pending] /= 2
    step[pending] = 0
    return step, new_loss, new_gradient


class _Curvature:
    """Boehning's bound of the Hessian, inverted: eigenvectors once, a scaling per strength."""

    def __init__(self, features: Tensor, strength: Tensor) -> None:
        moments = features.T @ features / len(features)  # (f, f)
        values, self.vectors = torch.linalg.eigh(moments.cpu().double())
        self.vectors = self.vectors.to(features)
        values = values.clamp(min=0).to(features)
        self.scale = 1 / (values / 2 + strength[:, None])  # (s, f)

    def solve(self, gradient: Tensor) -> Tensor:
        """The inverse times a gradient (s, classes, f + 1); 2 for the bias."""
        turned = (gradient[..., :-1] @ self.vectors) * self.scale[:, None]
        return torch.cat([turned @ self.vectors.T, 2 * gradient[..., -1:]], dim=2)


class _Memory:
    """The last steps and changes of the gradient, per strength."""

    def __init__(self) -> None:
        self.pairs: list[tuple[Tensor, Tensor, Tensor]] = []
        """Step, change, and 1 / their product per strength, which is 0 for a pair of no use."""

    def add(self, step: Tensor, change: Tensor) -> None:
        product = _dot(step, change)
        useful = product > 1e-10 * _dot(step, step)
        inverse = torch.where(useful, 1 / product.where(useful, product.new_ones(())), 0.0)
        self.pairs = [*self.pairs, (step, change, inverse)][-HISTORY:]

    def direction(self, gradient: Tensor, curvature: _Curvature) -> Tensor:
        """Minus the approximate inverse Hessian times the gradient (two-loop recursion)."""
        q = gradient.clone()
        shares: list[Tensor] = []
        for step, change, inverse in reversed(self.pairs):
            share = inverse * _dot(step, q)
            q -= share[:, None, None] * change
            shares.append(share)
        q = curvature.solve(q)
        if self.pairs:
            _, change, inverse = self.pairs[-1]
            scale = 1 / (inverse * _dot(change, curvature.solve(change)))  # as of the last step
            q = q * torch.where(inverse > 0, scale, 1.0)[:, None, None]
        for (step, change, inverse), share in zip(self.pairs, reversed(shares), strict=True):
            q += (share - inverse * _dot(change, q))[:, None, None] * step
        return -q


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=(1, 2))


def _largest(gradient: Tensor) -> Tensor:
    return gradient.abs().amax(dim=(1, 2))
