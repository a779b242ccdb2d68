"""The bottleneck between a direction and the objective: one line per direction of a method.

    z, rate = self.bottleneck(h, given=y)

`Open` lets everything through. `CEB`, the Conditional Entropy Bottleneck (Fischer 2020; Lee et
al. 2021), draws z from e(z|x) = vMF(h, kappa_e) and charges what b(z|y) = vMF(y, kappa_b), which
has seen only the other view, does not already know: I(X;Z|Y) <= E[log e(z|x) - log b(z|y)].
A method minimises objective + beta * rate.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from squint.compression import information
from squint.compression.kappa_head import KappaHead
from squint.errors import RecipeError
from squint.ops import gather, vmf
from squint.shapes import Codes, Scalar

Residual = Literal["closed_form", "sampled"]
BetaSchedule = Literal["constant", "warmup", "cosine"]

Pair = tuple[Codes, Codes]
"""Unit directions h of e(z|x) and y of b(z|y): what is coded, and what predicts the code."""

Price = float | Scalar
"""beta, the price of one nat of rate; a tensor where `steer` adjusts it."""

GAIN = 0.02
"""Step size of `steer`: the log price moves by GAIN per nat that the rate misses its target, by at
most GAIN a step."""
_LOG_PRICES = (math.log(1e-6), math.log(1e6))


class Open(nn.Module):
    """No bottleneck: the code is the direction itself and costs nothing."""

    def forward(
        self, h: Float[Tensor, "n d"], *, given: Float[Tensor, "n d"]
    ) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
        """`h` itself, and a rate of 0 nats per image."""
        return h, h.new_zeros(len(h))

    def beta_at(self, progress: float) -> float:
        """0, at any time."""
        return 0.0

    def logs(self, pairs: Sequence[Pair], beta: Price) -> dict[str, Scalar]:
        """Nothing to log."""
        return {}

    def steer(self, logs: Mapping[str, Tensor]) -> None:
        """No price to adjust."""


class CEB(nn.Module):
    """Conditional Entropy Bottleneck on the sphere.

    Args:
        beta: Price of a nat of rate, in nats of the objective; >= 0. 1 is the point of minimum
            necessary information (Fischer 2020), 0 samples but does not compress.
        kappa_e: Concentration of e(z|x); > 0. The code of d = 256 dimensions has mean cosine
            0.883 to its direction at 1024 (C-SimCLR), 0.992 at 16384 (C-BYOL).
        kappa_b: Concentration of b(z|y); > 0. In C-SimCLR and C-MoCo the critic is log b, so
            their temperature must be 1/kappa_b.
        sampling: Draw z in training mode; otherwise, and always in evaluation, z is h.
        residual: Estimator of the rate. "closed_form": KL(e || b), no sampling noise.
            "sampled": log e(z|x) - log b(z|y) at the drawn z, as in the released code; its mean
            is the closed form.
        beta_schedule: How beta moves over training, see `beta_at`.
        beta_warmup: Share of training over which "warmup" raises beta; in [0, 1].
        target_rate_nats: Rate that `steer` holds by adjusting the price, which begins at beta and
            is kept in checkpoints. Ours, not in the papers.
        kappa_e_range: Least and largest kappa_e, where each image learns its own; it begins at
            kappa_e. Needs sampling and the closed form. Ours, not in the papers.
        dim: Of the directions; only a learned kappa_e needs it.

    Raises:
        RecipeError: A setting is out of range, unknown, or has no effect.
    """

    log_price: Tensor

    def __init__(
        self,
        *,
        beta: float = 1.0,
        kappa_e: float = 1024.0,
        kappa_b: float = 10.0,
        sampling: bool = True,
        # differs from the released code, which trains the rate on one sample
        residual: Residual = "closed_form",
        beta_schedule: BetaSchedule = "constant",
        beta_warmup: float = 0.0,
        target_rate_nats: float | Literal["off"] = "off",
        kappa_e_range: tuple[float, float] | Literal["off"] = "off",
        dim: int | None = None,
    ) -> None:
        super().__init__()
        _check_concentration("kappa_e", kappa_e)
        _check_concentration("kappa_b", kappa_b)
        _check_beta(beta, beta_schedule, beta_warmup)
        _check_choice("residual", residual, get_args(Residual))
        self.beta = beta
        self.kappa_e = kappa_e
        self.kappa_b = kappa_b
        self.sampling = sampling
        self.residual: Residual = residual
        self.beta_schedule: BetaSchedule = beta_schedule
        self.beta_warmup = beta_warmup
        self.target_rate_nats: float | Literal["off"] = target_rate_nats
        if target_rate_nats != "off":
            _check_target(target_rate_nats, beta, beta_schedule)
            self.register_buffer("log_price", torch.tensor(math.log(beta)))
        self.kappa_e_range: tuple[float, float] | Literal["off"] = kappa_e_range
        self.kappa_head: KappaHead | None = None
        if kappa_e_range != "off":
            _check_range(kappa_e_range, kappa_e, sampling, residual, dim)
            assert dim is not None
            self.kappa_head = KappaHead(dim, start=kappa_e, bounds=kappa_e_range)

    def forward(
        self, h: Float[Tensor, "n d"], *, given: Float[Tensor, "n d"]
    ) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
        """Code and rate (nats) of each image; gradients flow into both arguments.

        Args:
            h: Mean directions of e(z|x): unit rows, used as they are.
            given: Mean directions of b(z|y): unit rows.

        Returns:
            z: Codes, unit rows; the tensor `h` itself when nothing is drawn.
            rate: log e(z|x) - log b(z|y) or its mean over z, in at least float32.
        """
        z = self._draw(h) if self.sampling and self.training else h
        if self.residual == "closed_form":
            return z, self.closed_form_rate(h, given)
        return z, information.sampled_rate(z, h, given, self.kappa_e, self.kappa_b)

    def closed_form_rate(
        self, h: Float[Tensor, "n d"], given: Float[Tensor, "n d"]
    ) -> Float[Tensor, " n"]:
        """KL(e(z|x) || b(z|y)) in nats per image: the rate's mean over z, whatever `residual`."""
        return information.rate(h, given, self.kappa_e_of(h), self.kappa_b)

    def kappa_e_of(self, h: Float[Tensor, "n d"]) -> float | Float[Tensor, " n"]:
        """Concentration of e(z|x): kappa_e, or what each image has learned."""
        return self.kappa_e if self.kappa_head is None else self.kappa_head(h)

    def beta_at(self, progress: float) -> Price:
        """The price beta at a share of training, from 0 (first step) to 1 (end).

        constant: beta. warmup: from 0 up to beta in a straight line over the first `beta_warmup`.
        cosine: beta (1 - cos(pi progress)) / 2, from 0 up to beta at the end. With a target rate:
        the price `steer` last set, whatever the progress; a tensor, so reading it never waits for
        the device.
        """
        if self.target_rate_nats != "off":
            return self.log_price.exp()
        if self.beta_schedule == "warmup":
            return self.beta * min(1.0, progress / self.beta_warmup)
        if self.beta_schedule == "cosine":
            return self.beta * (1 - math.cos(math.pi * min(1.0, progress))) / 2
        return self.beta

    @torch.no_grad()
    def logs(self, pairs: Sequence[Pair], beta: Price) -> dict[str, Scalar]:
        """Mean rate in nats per image over all directions, its price, and a learned kappa_e."""
        rates = [self.closed_form_rate(h, y).mean() for h, y in pairs]
        device = pairs[0][0].device
        logs = {
            "rate_nats": torch.stack(rates).mean(),
            "beta": beta if isinstance(beta, Tensor) else torch.full((), beta, device=device),
        }
        if self.kappa_head is not None:
            logs["kappa_e"] = torch.cat([self.kappa_head(h) for h, _ in pairs]).mean()
        return logs

    @torch.no_grad()
    def steer(self, logs: Mapping[str, Tensor]) -> None:
        """Raise the price when the rate is above its target, lower it when below.

        A no-op without a target. Dual ascent on the log price, the same on all ranks.

        Args:
            logs: a step's, with `rate_nats`, the mean over this rank's images.
        """
        if self.target_rate_nats == "off":
            return
        rates = gather.rows(logs["rate_nats"].reshape(1, 1))  # (ranks, 1)
        above = rates.mean() - self.target_rate_nats
        self.log_price.add_((GAIN * above).clamp(-GAIN, GAIN)).clamp_(*_LOG_PRICES)

    def extra_repr(self) -> str:
        """What `print(model)` shows inside the brackets."""
        return (
            f"beta={self.beta}, kappa_e={self.kappa_e}, kappa_b={self.kappa_b}, "
            f"sampling={self.sampling}, residual={self.residual!r}, "
            f"beta_schedule={self.beta_schedule!r}, beta_warmup={self.beta_warmup}, "
            f"target_rate_nats={self.target_rate_nats}, kappa_e_range={self.kappa_e_range}"
        )

    def _draw(self, h: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Draw z ~ vMF(h, kappa_e).

        All ranks draw one key from generators in the same state and start at their own row of the
        global batch, so codes do not depend on the number of ranks. The training loop seeds those
        generators alike before every step.
        """
        noise = vmf.draw(first=gather.rank() * len(h), device=h.device)
        return vmf.sample(h, self.kappa_e_of(h), noise=noise)


Bottleneck = Open | CEB
"""What a method accepts as its bottleneck."""


def _check_concentration(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise RecipeError(
            f"{name}={value}: a concentration must be a finite number above 0 (larger is "
            f"narrower). Published: kappa_e 1024 or 16384, kappa_b 10."
        )


def _check_beta(beta: float, schedule: str, warmup: float) -> None:
    if not 0 <= beta < math.inf:
        raise RecipeError(
            f"beta={beta}: the price of a nat must be a finite number >= 0. Use 0 for no "
            "compression, 1 as published."
        )
    _check_choice("beta_schedule", schedule, get_args(BetaSchedule))
    if not 0 <= warmup <= 1:
        raise RecipeError(
            f"beta_warmup={warmup} must be a share of training, from 0 to 1. For 10 of 300 "
            "epochs give 0.033."
        )
    if (schedule == "warmup") != (warmup > 0):
        raise RecipeError(
            f"beta_warmup={warmup} has no effect with beta_schedule={schedule!r}: only 'warmup' "
            "reads it, and needs it above 0. Change one of the two."
        )


def _check_target(target: float, beta: float, schedule: str) -> None:
    if not (0 < target < math.inf and beta > 0 and schedule == "constant"):
        raise RecipeError(
            f"target_rate_nats={target} with beta={beta} and beta_schedule={schedule!r}: the "
            "target must be a finite number above 0, beta above 0 as the price begins there, and "
            "the schedule 'constant' as the target moves the price itself."
        )


def _check_range(
    bounds: tuple[float, float], start: float, sampling: bool, residual: str, dim: int | None
) -> None:
    low, high = bounds
    if not (0 < low < start < high < math.inf and dim is not None):
        raise RecipeError(
            f"kappa_e_range={bounds} with kappa_e={start} and dim={dim}: the range must lie above "
            "0 with kappa_e inside it, and dim be the number of dimensions of the directions."
        )
    if not (sampling and residual == "closed_form"):
        raise RecipeError(
            f"kappa_e_range={bounds} with sampling={sampling} and residual={residual!r}: kappa_e "
            "is learned with sampling and the closed form. Set both, or give no range."
        )


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise RecipeError(f"{name}={value!r} is unknown; it must be one of {', '.join(known)}.")
