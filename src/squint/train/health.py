"""Stop before a bad number reaches the weights."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from squint.errors import RunError
from squint.methods import Step


def check_finite(step: Step, grad_norm: Float[Tensor, ""], method: nn.Module, number: int) -> None:
    """Make sure that the loss and the whole gradient are finite; called before the optimizer moves.

    Under several ranks gradients are already averaged here, so every rank sees the same and stops.

    Args:
        step: the forward pass, its loss and terms.
        grad_norm: norm of the whole gradient.
        method: whose parameters carry the gradient, to name the first bad one.
        number: optimizer steps done.

    Raises:
        RunError: names the bad term or parameter, the step, and what to try.
    """
    if bool(torch.isfinite(step.loss.detach() + grad_norm)):
        return
    terms = [name for name, value in step.logs.items() if not bool(torch.isfinite(value).all())]
    if terms:
        what = f"{', '.join(terms)} of the loss"
    elif not bool(torch.isfinite(step.loss)):
        what = "the loss"
    else:
        what = f"the gradient of {_first_bad_gradient(method)}"
    raise RunError(
        f"Step {number + 1}: {what} is not finite, so the step was not taken and the weights are "
        "those of the last good one. Try a lower --lr, --optim.clip-grad-norm 1, or "
        "--train.precision float32."
    )


def _first_bad_gradient(method: nn.Module) -> str:
    for name, parameter in method.named_parameters():
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            return name
    return "another rank"
