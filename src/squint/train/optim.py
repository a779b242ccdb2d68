"""Optimisers: LARS in its published forms, parameter groups, and one function that builds any.

Over 300 lines because LARS has four forms. The learning rate is written to
`param_groups[i]["lr"]` before every step.
"""

# pyright: reportPrivateImportUsage=false
# (torch's multi-tensor functions, torch._foreach_*, have no public name; its optimisers use them)

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from squint.errors import RecipeError

LARSForm = Literal["simclr", "byol", "mocov3", "solo"]
Name = Literal["sgd", "adamw", "lars"]

_NEVER_VECTORS = ("mocov3", "solo")
"""Forms that neither decay nor adapt tensors of at most one axis."""
_SOLO_EPS = 1e-8


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling (You et al. 2017) as the contrastive codes have it.

    With g' = gradient + weight_decay * p, and q = trust_coefficient * ||p|| / ||g'|| where both
    norms are above 0, else 1 (norms over the whole tensor; buffers v start at 0):

    | form                             | buffer                    | parameter               |
    |----------------------------------|---------------------------|-------------------------|
    | simclr (SimCLR, CVR)             | v = momentum v + lr q g'  | p -= v                  |
    | simclr, nesterov                 | v = momentum v + lr q g'  | p -= momentum v + lr q g'|
    | simclr, classic_momentum=False   | v = momentum v + g'; u = v, or momentum v + g' under   |
    |                                  | nesterov                  | p -= lr q(u) u          |
    | byol, mocov3                     | v = momentum v + q g'     | p -= lr v               |
    | solo (solo-learn, clip_lr)       | v = momentum v + c g'     | p -= lr v               |

    lr inside or outside the buffer differs whenever lr changes. Groups with `adapt=False` have
    q = 1; their weight_decay should be 0, as `parameter_groups` sets it. mocov3 is byol, and
    tensors of at most one axis are never decayed or adapted, whatever their group says, nor in
    solo. There c = min(r / lr, 1) with r = trust_coefficient * ||p|| / (||gradient|| + weight_decay
    ||p|| + 1e-8), so that no step is longer than SGD's; where a norm is 0, c g' is the gradient.

    # differs from the TensorFlow codes: lr is not rounded to float32.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 1e-3,
        form: LARSForm = "simclr",
        nesterov: bool = False,
        classic_momentum: bool = True,
    ) -> None:
        """See the class.

        Raises:
            RecipeError: a value is out of range, or nesterov or classic_momentum=False is asked
                of a form that lacks it.
        """
        _check("lr", lr)
        _check("weight_decay", weight_decay)
        _check("trust_coefficient", trust_coefficient)
        _check_momentum(momentum)
        if form != "simclr" and (nesterov or not classic_momentum):
            raise RecipeError(
                f"nesterov={nesterov} and classic_momentum={classic_momentum} do not go with the "
                f"LARS form {form!r}: only the simclr form has them. Drop them, or take simclr."
            )
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
            "form": form,
            "nesterov": nesterov,
            "classic_momentum": classic_momentum,
            "adapt": True,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of all parameters that have a gradient; gives the closure's value."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if group["form"] in _NEVER_VECTORS:
                self._step_group([p for p in params if p.ndim > 1], group)
                vectors = [p for p in params if p.ndim <= 1]
                self._step_group(vectors, {**group, "weight_decay": 0.0, "adapt": False})
            else:
                self._step_group(params, group)
        return loss

    def _step_group(self, params: list[Tensor], group: dict[str, Any]) -> None:
        if not params:
            return
        buffers = [self._buffer(p) for p in params]
        gradients: list[Tensor] = [p.grad for p in params if p.grad is not None]
        if group["form"] == "solo" and group["adapt"]:
            return _step_lr_outside(params, _clipped(params, gradients, group), buffers, group)
        if group["weight_decay"] != 0:
            gradients = _plus(gradients, params, group["weight_decay"])
        if group["form"] != "simclr":
            _step_lr_outside(params, _adapted(params, gradients, group), buffers, group)
        elif group["classic_momentum"]:
            _step_lr_inside(params, gradients, buffers, group)
        else:
            _step_adapt_last(params, gradients, buffers, group)

    def _buffer(self, param: Tensor) -> Tensor:
        state = self.state[param]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(param)
        return state["momentum_buffer"]


def _step_lr_inside(
    params: list[Tensor], gradients: list[Tensor], buffers: list[Tensor], group: dict[str, Any]
) -> None:
    """SimCLR, CVR: v = momentum v + lr q g'; p -= v, or momentum v + lr q g'."""
    scaled = list(torch._foreach_mul(_adapted(params, gradients, group), group["lr"]))
    torch._foreach_mul_(buffers, group["momentum"])
    torch._foreach_add_(buffers, scaled)
    if group["nesterov"]:
        torch._foreach_sub_(params, _plus(scaled, buffers, group["momentum"]))
    else:
        torch._foreach_sub_(params, buffers)


def _step_adapt_last(
    params: list[Tensor], gradients: list[Tensor], buffers: list[Tensor], group: dict[str, Any]
) -> None:
    """SimCLR, "popular momentum": v = momentum v + g'; p -= lr q(u) u."""
    torch._foreach_mul_(buffers, group["momentum"])
    torch._foreach_add_(buffers, gradients)
    updates = _plus(gradients, buffers, group["momentum"]) if group["nesterov"] else buffers
    torch._foreach_add_(params, _adapted(params, updates, group), alpha=-group["lr"])


def _step_lr_outside(
    params: list[Tensor], adapted: list[Tensor], buffers: list[Tensor], group: dict[str, Any]
) -> None:
    """BYOL, MoCo v3, solo-learn: v = momentum v + q g' (or c g'); p -= lr v."""
    torch._foreach_mul_(buffers, group["momentum"])
    torch._foreach_add_(buffers, adapted)
    torch._foreach_add_(params, buffers, alpha=-group["lr"])


def _plus(first: list[Tensor], second: list[Tensor], factor: float) -> list[Tensor]:
    return list(torch._foreach_add(first, second, alpha=factor))


def _adapted(params: list[Tensor], updates: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
    """Updates times q = trust_coefficient * ||p|| / ||update||, without a device-to-host wait."""
    if not group["adapt"]:
        return updates
    sizes = torch.stack(torch._foreach_norm(params))
    update_sizes = torch.stack(torch._foreach_norm(updates))
    ratios = group["trust_coefficient"] * sizes / update_sizes
    ratios = torch.where((sizes > 0) & (update_sizes > 0), ratios, torch.ones_like(ratios))
    return list(torch._foreach_mul(updates, list(ratios.unbind())))


def _clipped(params: list[Tensor], gradients: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
    """solo-learn: c (gradient + weight_decay p), see `LARS`; without a device-to-host wait."""
    decay = group["weight_decay"]
    sizes = torch.stack(torch._foreach_norm(params))
    gradient_sizes = torch.stack(torch._foreach_norm(gradients))
    ratios = group["trust_coefficient"] * sizes / (gradient_sizes + decay * sizes + _SOLO_EPS)
    known = (sizes > 0) & (gradient_sizes > 0)
    shares = torch.where(known, (ratios / group["lr"]).clamp(max=1), torch.ones_like(ratios))
    decays = torch.where(known, decay * shares, torch.zeros_like(ratios))
    decayed = torch._foreach_mul(params, list(decays.unbind()))
    return list(torch._foreach_add(torch._foreach_mul(gradients, list(shares.unbind())), decayed))


_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def parameter_groups(
    model: nn.Module, *, weight_decay: float, decay_norm_and_bias: bool
) -> list[dict[str, Any]]:
    """Named parameters of a model in groups: those that decay, and norms and biases, that do not.

    Norms are found by the type of their module (BatchNorm, GroupNorm, LayerNorm, RMSNorm, their
    subclasses, and any class whose name contains "Norm"), biases by a name that ends in "bias".
    Frozen parameters are left out; a shared one is listed once. Each group has a `name`:
    weights, norm_and_bias, or all; `adapt` tells LARS whether to adapt it.

    Args:
        model: all that is trained, heads included.
        weight_decay: of the weights.
        decay_norm_and_bias: one group, all decayed (MoCo v1 and v2, MoCo v3 with AdamW); else
            norms and biases are neither decayed nor adapted (SimCLR, CVR, BYOL, MoCo v3).

    Raises:
        RecipeError: nothing is left to train.
    """
    weights: list[tuple[str, Tensor]] = []
    norm_and_bias: list[tuple[str, Tensor]] = []
    seen: set[Tensor] = set()
    for path, module in model.named_modules():
        is_norm = isinstance(module, _NORMS) or "Norm" in type(module).__name__
        for name, param in module.named_parameters(path, recurse=False):
            if param.requires_grad and param not in seen:
                seen.add(param)
                kind = norm_and_bias if is_norm or name.endswith("bias") else weights
                kind.append((name, param))
    if not seen:
        raise RecipeError(
            f"All parameters of {type(model).__name__} are frozen or it has none: nothing is left "
            "to train. Leave at least one with requires_grad=True."
        )
    if decay_norm_and_bias:
        everything = [*weights, *norm_and_bias]
        return [_group("all", everything, weight_decay, adapt=True)]
    groups = [
        _group("weights", weights, weight_decay, adapt=True),
        _group("norm_and_bias", norm_and_bias, 0.0, adapt=False),
    ]
    return [group for group in groups if group["params"]]


def _group(
    name: str, params: list[tuple[str, Tensor]], weight_decay: float, *, adapt: bool
) -> dict[str, Any]:
    return {"name": name, "params": params, "weight_decay": weight_decay, "adapt": adapt}


def build(
    model: nn.Module,
    name: Name,
    *,
    lr: float,
    weight_decay: float,
    momentum: float = 0.9,
    decay_norm_and_bias: bool = False,
    nesterov: bool = False,
    beta2: float = 0.999,
    form: LARSForm = "simclr",
    trust_coefficient: float = 1e-3,
) -> Optimizer:
    """The optimiser of a model, over `parameter_groups`.

    Args:
        model: all that is trained.
        name: sgd (weight decay is added to the gradient), adamw (decoupled), lars.
        lr: learning rate of the first step; overwritten in param_groups before each step.
        weight_decay: see `parameter_groups`.
        momentum: of sgd and lars; AdamW's beta1.
        decay_norm_and_bias: see `parameter_groups`.
        nesterov: of sgd, and of lars in the simclr form.
        beta2: of adamw.
        form: of lars.
        trust_coefficient: of lars.

    Raises:
        RecipeError: a value is out of range, or contradicts another.
    """
    _check("lr", lr)
    _check("weight_decay", weight_decay)
    _check_momentum(momentum)
    _check_agreement(name, form, momentum, nesterov, decay_norm_and_bias)
    groups = parameter_groups(
        model, weight_decay=weight_decay, decay_norm_and_bias=decay_norm_and_bias
    )
    match name:
        case "sgd":
            return torch.optim.SGD(groups, lr, momentum=momentum, nesterov=nesterov, fused=True)
        case "adamw":
            return torch.optim.AdamW(groups, lr, betas=(momentum, beta2), fused=True)
        case "lars":
            return LARS(
                groups,
                lr,
                momentum=momentum,
                trust_coefficient=trust_coefficient,
                form=form,
                nesterov=nesterov,
            )


def _check(name: str, value: float) -> None:
    if not 0 <= value < float("inf"):
        raise RecipeError(f"optim.{name}={value} must be a finite number, at least 0.")


def _check_momentum(value: float) -> None:
    if not 0 <= value < 1:
        raise RecipeError(
            f"optim.momentum={value} must be at least 0 and below 1: it is the share of the "
            "last update that is kept."
        )


def _check_agreement(
    name: Name, form: LARSForm, momentum: float, nesterov: bool, decay_norm_and_bias: bool
) -> None:
    if nesterov and name == "adamw":
        raise RecipeError("nesterov=True has no effect on adamw. Drop it, or take sgd.")
    if nesterov and momentum == 0:
        raise RecipeError(
            "nesterov=True needs momentum above 0: it looks ahead along it. Drop nesterov, or give "
            "momentum, usually 0.9."
        )
    if name == "lars" and form in _NEVER_VECTORS and decay_norm_and_bias:
        raise RecipeError(
            f"decay_norm_and_bias=True contradicts the LARS form {form!r}, which never decays "
            "tensors of one axis. Drop it, or take the form 'byol'."
        )
