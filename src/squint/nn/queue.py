"""The queue of MoCo: keys of past batches, kept as negatives."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from squint.ops import gather
from squint.shapes import Codes


class Queue(nn.Module):
    """The last k keys, oldest overwritten first; the same on every rank.

    Any number of rows and any batch size go together. Both tensors are part of checkpoints: a
    resumed run has the negatives it had.

    Args:
        rows: keys kept, k.
        dim: code width d.
    """

    codes: Float[Tensor, "k d"]
    """Unit rows; random directions until enough keys have come (He et al. 2020, released code)."""
    pointer: Int[Tensor, ""]
    """Row that is overwritten next."""

    def __init__(self, rows: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("codes", F.normalize(torch.randn(rows, dim), dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.codes)

    @torch.no_grad()
    def push(self, keys: Codes) -> None:
        """Enqueue the keys of all ranks in rank order, over the oldest ones.

        Called after the batch was scored, so that no key is a negative of its own batch.

        Args:
            keys: unit rows of this rank.
        """
        # differs from MoCo's code, whose queue is a multiple of the batch; its keys are columns
        keys = gather.rows(keys).to(self.codes.dtype)  # (m, d)
        m, k = len(keys), len(self.codes)
        kept = keys[-k:]  # a batch larger than the queue leaves its last k
        rows = (self.pointer + m - len(kept) + torch.arange(len(kept), device=keys.device)) % k
        self.codes.index_copy_(0, rows, kept)
        self.pointer.copy_((self.pointer + m) % k)
