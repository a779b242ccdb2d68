"""Stop before a bad number reaches a checkpoint."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from squint.errors import RunError
from squint.methods import Step


class _Taken(NamedTuple):
    """A step whose numbers have not been looked at."""

    out: Step
    grad_norm: Float[Tensor, ""]
    number: int
    finite: Tensor
    """On its way to the host."""
    arrived: torch.cuda.Event | None


class Watch:
    """Looks at every step's numbers; on a CPU before the optimizer moves.

    On CUDA each step is looked at when the next one has been asked of the device, so that the
    device never waits for the host: a bad step is then taken, but `settle`, called before every
    checkpoint, keeps it from being saved.
    """

    def __init__(self, method: nn.Module, *, wait: bool) -> None:
        self._method = method
        self._wait = wait
        self._open: _Taken | None = None

    def look(self, out: Step, grad_norm: Float[Tensor, ""], number: int) -> None:
        """Make sure that this step is finite, or the one before; see `check_finite`.

        Raises:
            RunError: it is not.
        """
        if self._wait:
            check_finite(out, grad_norm, self._method, number)
            return
        self.settle()
        logs = {name: value.detach() for name, value in out.logs.items()}
        finite = torch.isfinite(out.loss.detach() + grad_norm).to("cpu", non_blocking=True)
        arrived = None
        if grad_norm.is_cuda:
            arrived = torch.cuda.Event()
            arrived.record()
        without_graph = Step(out.loss.detach(), logs)
        self._open = _Taken(without_graph, grad_norm, number, finite, arrived)

    def settle(self) -> None:
        """Make sure that the steps taken so far are finite.

        Raises:
            RunError: the last one is not.
        """
        if self._open is None:
            return
        taken, self._open = self._open, None
        if taken.arrived is not None:
            taken.arrived.synchronize()
        if not bool(taken.finite):  # by now the parameters carry the gradient of the next step
            check_finite(taken.out, taken.grad_norm, None, taken.number)


def check_finite(
    out: Step, grad_norm: Float[Tensor, ""], method: nn.Module | None, number: int
) -> None:
    """Make sure that the loss and the whole gradient are finite.

    Under several ranks gradients are already averaged here, so every rank sees the same and stops.

    Args:
        out: what the method gave: loss and terms.
        grad_norm: norm of the whole gradient.
        method: whose parameters carry the gradient, to name the first bad one; None if they no
            longer do.
        number: optimizer steps done.

    Raises:
        RunError: names the bad term or parameter, the step, and what to try.
    """
    if bool(torch.isfinite(out.loss.detach() + grad_norm)):
        return
    terms = [name for name, value in out.logs.items() if not bool(torch.isfinite(value).all())]
    if terms:
        what = f"{', '.join(terms)} of the loss"
    elif not bool(torch.isfinite(out.loss)):
        what = "the loss"
    else:
        what = "the gradient" if method is None else _bad_gradient(method)
    raise RunError(
        f"Step {number + 1}: {what} is not finite. Nothing of it was saved: the last checkpoint is "
        "good. Try a lower --lr, --optim.clip-grad-norm 1, or --train.precision float32."
    )


def _bad_gradient(method: nn.Module) -> str:
    for name, parameter in method.named_parameters():
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            return f"the gradient of {name}"
    return "the norm of the whole gradient"  # every part is finite, their squares overflow
