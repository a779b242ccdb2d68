"""Where a run runs: device, precision, ranks. The only file that starts and ends a process group.

Started alone it is one rank; started by `torchrun` it is one of many. A method never notices:
what it must know of other ranks it asks `ops.gather`.
"""

import functools
import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from squint.configs import TrainConfig
from squint.device import Precision, choose_device, choose_precision
from squint.errors import RecipeError
from squint.nn.norm import refuse_other_batch_norms, sync_batch_norm
from squint.ops import gather
from squint.train import memory

_CPU_SHARE = Path("/sys/fs/cgroup/cpu.max")
"""Microseconds in so many microseconds, where Linux runs this process in a container."""

# differs from MoCo's code, which sends the first GPU's buffers round before every step
_WITHOUT_BUFFERS: dict[str, Any] = {
    "forward_sync_buffers"  # torch 2.15 renamed it
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    else "broadcast_buffers": False
}
"""Buffers are not sent round: they are alike already (global batch norm, queue), or meant to differ
(batch norm in groups)."""


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """This process's place among the ranks, its device, and the precision of its products."""

    rank: int
    world_size: int
    device: torch.device
    precision: Precision
    channels_last: bool

    @property
    def is_main(self) -> bool:
        """Whether this rank writes files and talks."""
        return self.rank == 0

    @property
    def memory_format(self) -> torch.memory_format:
        """Layout of images and convolution weights."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def place(self, method: nn.Module) -> nn.Module:
        """The method on the device in this layout; batch norm is global over ranks.

        Raises:
            RecipeError: there are several ranks, and a BatchNorm does more than normalise.
        """
        if self.world_size > 1 and self.device.type == "cuda":
            refuse_other_batch_norms(method)
            method = nn.SyncBatchNorm.convert_sync_batchnorm(method)
        elif self.world_size > 1:
            method = sync_batch_norm(method)
        return method.to(self.device, memory_format=self.memory_format)  # pyright: ignore

    def wrap(self, method: nn.Module) -> nn.Module:
        """The method with gradients averaged over ranks; alone, the method itself."""
        if self.world_size == 1:
            return method
        devices = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(method, device_ids=devices, **_WITHOUT_BUFFERS)

    def autocast(self) -> torch.autocast:
        """Matrix products and convolutions in this run's precision."""
        # differs from MoCo v3's code: bfloat16 and no loss scaling, not float16 with it
        enabled = self.precision == "bfloat16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)

    def any_rank(self, flag: bool) -> bool:
        """Whether the flag is set on any rank; alone, the flag itself."""
        if self.world_size == 1:
            return flag
        total = torch.tensor(float(flag), device=gather.host_device(self.device))
        dist.all_reduce(total)
        return bool(total.item())

    def barrier(self) -> None:
        """Wait until every rank has come here."""
        self.any_rank(False)

    def mean(self, values: Float[Tensor, " _"]) -> Float[Tensor, " _"]:
        """Mean of each value over the ranks; alone, the values themselves."""
        if self.world_size == 1:
            return values
        dist.all_reduce(values)
        return values / self.world_size

    def most(self, number: int) -> int:
        """The largest of the ranks' numbers; alone, the number itself."""
        if self.world_size == 1:
            return number
        largest = torch.tensor(number, device=gather.host_device(self.device))
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def average_gradients(self, method: nn.Module) -> None:
        """Replace every gradient by its mean over the ranks, in one message; alone, nothing."""
        gradients = [p.grad for p in method.parameters() if p.grad is not None]
        if self.world_size == 1 or not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.world_size
        for gradient, mean in zip(
            gradients, flat.split([g.numel() for g in gradients]), strict=True
        ):
            gradient.copy_(mean.view_as(gradient))


@contextmanager
def start(train: TrainConfig, *, precision: str | None = None) -> Iterator[Runtime]:
    """Join the other ranks, if any, and choose device and precision.

    Args:
        train: device and precision as asked for.
        precision: that of the run being resumed, which takes the place of "auto".

    Raises:
        RecipeError: the device is unknown; the batch can't be split over the ranks.
        RunError: the device is not there.
    """
    alone = gather.world_size() == 1
    world_size = int(os.environ.get("WORLD_SIZE", 1)) if alone else gather.world_size()
    if train.batch_size % world_size:
        raise RecipeError(
            f"train.batch_size={train.batch_size} is global and can't be split evenly over "
            f"{world_size} ranks. Make it a multiple of {world_size}."
        )
    device = choose_device(train.device, local_rank=int(os.environ.get("LOCAL_RANK", 0)))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if joined := world_size > 1 and alone:
        dist.init_process_group(process_group(device))
    try:
        with memory.freed_memory_kept() if device.type == "cpu" else nullcontext():
            yield Runtime(
                rank=gather.rank(),
                world_size=world_size,
                device=device,
                precision=choose_precision(precision or train.precision, device),
                channels_last=train.channels_last,
            )
    finally:
        if joined:
            dist.destroy_process_group()


def process_group(device: torch.device) -> str:
    """What ranks talk over: codes and gradients between devices, numbers for the host on the CPU.

    A number that came by way of a GPU would make the host wait for all that the GPU has to do.
    """
    return "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"


def cores() -> int:
    """Cores that this process may use: those it is bound to, within its container's share."""
    bound = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        bound = len(os.sched_getaffinity(0))
    try:
        quota, period = map(int, _CPU_SHARE.read_text().split())
    except (OSError, ValueError):  # not Linux; "max": no limit
        return bound
    return max(1, min(bound, round(quota / period)))


def seed_everything(seed: int, step: int, piece: int = 0) -> None:
    """Seed torch's default generators as a function of its arguments, alike on every rank.

    Draws of a step then depend on nothing that came before it, and resuming needs no
    generator state. `piece` tells parts of a step apart that draw by themselves.
    """
    mixed = seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + piece * 0x94D049BB133111EB
    # torch.manual_seed takes a third of a millisecond where it notes the seed for a missing CUDA
    seed_all = torch.manual_seed if _accelerated() else torch.default_generator.manual_seed
    seed_all(mixed % 2**63)


@functools.cache
def _accelerated() -> bool:
    return torch.cuda.is_available() or torch.backends.mps.is_available()
