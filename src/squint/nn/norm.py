"""BatchNorm over the global batch, on any device whose ranks can talk.

`torch.nn.SyncBatchNorm` needs an accelerator and is faster there. This one runs on CPU ranks
too, so that two of them can be compared with one process on the whole batch.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from squint.errors import RecipeError
from squint.ops import gather

_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class SyncBatchNorm(_BatchNorm):
    """BatchNorm whose training statistics are those of all ranks' rows, with their gradient.

    Outputs, gradients (averaged over ranks) and running statistics equal those of one process
    on the global batch. In evaluation mode, or alone, it is BatchNorm. Ranks may hold images of
    different sizes.
    """

    def forward(self, input: Float[Tensor, "n c *rest"]) -> Float[Tensor, "n c *rest"]:
        """Normalised input, same shape; a collective while training."""
        if not self.training or gather.world_size() == 1:
            return super().forward(input)
        precise = torch.promote_types(input.dtype, torch.float32)
        mean, variance, count = _global_moments(input.to(precise))
        self._follow(mean.detach(), variance.detach() * count / (count - 1))
        scale = torch.rsqrt(variance + self.eps)  # (c,)
        if self.weight is not None:  # pyright: ignore[reportUnnecessaryComparison]
            scale = scale * self.weight
        shift = -mean * scale
        if self.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
            shift = shift + self.bias
        channels = (1, -1, *[1] * (input.ndim - 2))
        output = torch.addcmul(shift.view(channels), input, scale.view(channels))
        return output.to(input.dtype)

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards the batch's, as torch does (unbiased variance)."""
        if (
            self.running_mean is None
            or self.running_var is None
            or self.num_batches_tracked is None
        ):
            return
        self.num_batches_tracked += 1
        share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)

    def _check_input_dim(self, input: Tensor) -> None:
        assert input.ndim >= 2, f"BatchNorm needs (n, c, ...), got {tuple(input.shape)}"


def sync_batch_norm(model: nn.Module) -> nn.Module:
    """The model with every BatchNorm replaced, in place, by a `SyncBatchNorm` of the same tensors.

    Key names, parameters and modes stay. Gives the model back (or its replacement, if it is a
    BatchNorm itself).

    Raises:
        RecipeError: a BatchNorm of another library does more than normalise.
    """
    if isinstance(model, _BatchNorm) and not isinstance(model, SyncBatchNorm):
        return _replacement(model)
    for name, child in model.named_children():
        setattr(model, name, sync_batch_norm(child))
    return model


def _replacement(norm: _BatchNorm) -> SyncBatchNorm:
    if type(norm) not in _PLAIN:
        raise RecipeError(
            f"{type(norm).__name__} can't be synchronised over ranks: it is no plain BatchNorm. "
            "Train on one rank, or choose an encoder with plain BatchNorm (resnet*) or LayerNorm."
        )
    sync = SyncBatchNorm(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
    )
    for name in ("weight", "bias"):
        sync.register_parameter(name, getattr(norm, name))
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        sync.register_buffer(name, getattr(norm, name))
    return sync.train(norm.training)


def _global_moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (c,), biased variance (c,) and number of values per channel, over all ranks."""
    axes = [0, *range(2, x.ndim)]
    variance, mean = torch.var_mean(x, dim=axes, correction=0)  # (c,)
    size = mean.new_tensor([x.numel() / x.shape[1]])
    all_ranks = gather.rows(torch.cat([mean, variance, size])[None])  # (ranks, 2c + 1)
    c = len(mean)
    means, variances, sizes = all_ranks[:, :c], all_ranks[:, c:-1], all_ranks[:, -1:]
    count = sizes.sum()
    share = sizes / count  # (ranks, 1)
    mean = (share * means).sum(dim=0)
    # within the ranks and between them (Chan et al. 1979): no difference of large squares
    variance = (share * (variances + (means - mean).square())).sum(dim=0)
    return mean, variance, count
