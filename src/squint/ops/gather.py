"""The global batch: rows of all ranks in rank order, and this rank's share of them.

The only file of the library that exchanges codes between ranks. All it has to know is whether there
is a process group, so the same method runs alone, under torchrun, Fabric or Lightning.
"""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Int, Shaped
from torch import Tensor
from torch.autograd.function import once_differentiable

from squint.device import send
from squint.errors import RunError


def world_size() -> int:
    """Number of ranks; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this rank, from 0; 0 without a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def host_device(fallback: torch.device) -> torch.device:
    """Device on which ranks exchange numbers that the host will read: the CPU, if they can there.

    Then the host need not wait for the accelerator. The process group of another program may
    connect accelerators only; then it is `fallback`.
    """
    backends = dist.get_backend_config().split(",")  # cpu:gloo,cuda:nccl
    return torch.device("cpu") if any(b.startswith("cpu:") for b in backends) else fallback


def rows(x: Shaped[Tensor, " n *rest"]) -> Shaped[Tensor, " m *rest"]:
    """Rows of all ranks in rank order (m = n * ranks), with their gradient; alone, `x` itself.

    Rank r's rows are r*n to (r+1)*n. The backward pass sums each row's gradient over all ranks, and
    gives each rank that of its own rows. So when every rank's loss is the mean over its n anchors,
    and gradients are averaged over ranks (as DistributedDataParallel does), the result is exactly
    the gradient of one process on the global batch.

    A collective: every rank must call it, equally often. The number of rows is compared first,
    because a gather of unequal parts hangs or mixes rows up; on the CPU, so that no device waits.

    Raises:
        RunError: Ranks hold different numbers of rows.
    """
    if world_size() == 1:
        return x
    _check_equal_rows(x)
    return _Rows.apply(x)  # pyright: ignore[reportReturnType]


def own(x: Shaped[Tensor, " m *rest"]) -> Shaped[Tensor, " n *rest"]:
    """This rank's rows of a tensor that every rank holds in full; alone, `x` itself.

    `own(rows(x))` equals `x`.

    Raises:
        RunError: The rows can't be shared out equally.
    """
    ranks = world_size()
    if ranks == 1:
        return x
    if len(x) % ranks:
        raise RunError(
            f"{len(x)} rows can't be shared out equally over {ranks} ranks: every rank takes the "
            "same number. Choose a global batch size divisible by the number of ranks."
        )
    n = len(x) // ranks
    return x[rank() * n : (rank() + 1) * n]  # (n, *rest)


def permute(x: Shaped[Tensor, " n *rest"], order: Int[Tensor, " m"]) -> Shaped[Tensor, " n *rest"]:
    """This rank's rows of the global batch in another order; `order.argsort()` undoes it.

    Args:
        x: this rank's rows.
        order: a permutation of 0 .. m-1, the same on every rank.
    """
    return own(rows(x)[send(order, x.device)])


def agreed(x: Shaped[Tensor, "*shape"], device: torch.device) -> Shaped[Tensor, "*shape"]:
    """Rank 0's tensor on every rank, where ranks may have drawn different ones; alone, `x` itself.

    A collective: every rank must call it, with a tensor of the same shape.

    Args:
        x: on the CPU; may be overwritten.
        device: where it is exchanged if the ranks can't do so on the CPU.
    """
    if world_size() == 1:
        return x
    x = send(x, host_device(device))
    dist.broadcast(x, src=0)
    return x


class _Rows(torch.autograd.Function):
    """All-gather forward; all-reduce (sum) and own rows backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        every = x.new_empty((len(x) * world_size(), *x.shape[1:]))  # (m, *rest)
        dist.all_gather_into_tensor(every, x.contiguous())
        return every

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad,) = grad_outputs
        grad = grad.clone(memory_format=torch.contiguous_format)  # all_reduce works in place
        dist.all_reduce(grad)
        return own(grad)  # (n, *rest)


def _check_equal_rows(x: Tensor) -> None:
    device = host_device(x.device)
    counts = torch.empty(world_size(), dtype=torch.int64, device=device)
    dist.all_gather_into_tensor(counts, torch.tensor([len(x)], device=device))
    found = [int(count) for count in counts]
    if len(set(found)) > 1:
        raise RunError(
            f"Ranks hold different numbers of rows, {found} in rank order: the global batch must "
            "be shared out equally, or rows and labels would not match. Drop the incomplete last "
            "batch, or choose a global batch size divisible by the number of ranks."
        )
