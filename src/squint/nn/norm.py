"""BatchNorm over more than this rank's images, or over fewer.

`SyncBatchNorm` normalises by the global batch. `torch.nn.SyncBatchNorm` needs an accelerator and
is faster there; ours runs on CPU ranks too, so that two of them can be compared with one process
on the whole batch. `GroupBatchNorm` normalises parts of the batch apart, as separate devices do.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import (
    _BatchNorm,  # pyright: ignore[reportPrivateUsage]
    _NormBase,  # pyright: ignore[reportPrivateUsage]
)

from squint.errors import RecipeError, RunError
from squint.ops import gather

_PLAIN = frozenset({nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d})


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
        # differs from TensorFlow and Haiku, whose running variance is biased (see nn/resnet.py)
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


# Not a `_BatchNorm`: `sync_batch_norm` must not turn it into one over the global batch.
# differs from MoCo's code, where a part is what one GPU holds, and has its own statistics
class GroupBatchNorm(_NormBase):
    """BatchNorm whose training statistics are those of each of `groups` parts of the global batch.

    The parts are consecutive rows; a rank holds groups / ranks of them, so with as many ranks as
    groups this is plain BatchNorm on each, and the outputs do not depend on the number of ranks.
    Running statistics follow the mean over this rank's groups. In evaluation it is BatchNorm.
    """

    groups: int = 1

    def forward(self, input: Float[Tensor, "n c *rest"]) -> Float[Tensor, "n c *rest"]:
        """Normalised input, same shape.

        Raises:
            RunError: the groups can't be shared out over the ranks, or the rows over the groups.
        """
        if not self.training:
            return self._normalise(input, self.running_mean, self.running_var)
        groups = self._groups_here(len(input))
        means, variances = self._running(groups)
        outputs = [
            self._normalise(part, mean, variance)
            for part, mean, variance in zip(input.chunk(groups), means, variances, strict=True)
        ]
        self._follow(means, variances)
        return outputs[0] if groups == 1 else torch.cat(outputs)

    def extra_repr(self) -> str:
        """What `print(model)` shows inside the brackets."""
        return f"{super().extra_repr()}, groups={self.groups}"

    def _normalise(self, x: Tensor, mean: Tensor | None, variance: Tensor | None) -> Tensor:
        assert self.momentum is not None, "a cumulative average has no meaning over groups"
        use_batch = self.training or mean is None
        return F.batch_norm(
            x, mean, variance, self.weight, self.bias, use_batch, self.momentum, self.eps
        )

    def _groups_here(self, rows: int) -> int:
        ranks = gather.world_size()
        groups = self.groups // ranks
        if self.groups % ranks or rows % groups or rows == groups:
            raise RunError(
                f"Batch norm in {self.groups} groups can't be done with {rows} images on each of "
                f"{ranks} ranks: every rank needs the same number of groups, and every group the "
                "same number of images, at least 2. Change --method.norm-groups, --batch-size or "
                "--train.micro-batch-size."
            )
        return groups

    def _running(self, groups: int) -> tuple[list[Tensor | None], list[Tensor | None]]:
        """A copy of the running statistics for every group to move by itself."""
        if self.running_mean is None or self.running_var is None:
            return [None] * groups, [None] * groups
        means = self.running_mean.repeat(groups, 1)  # (groups, c)
        variances = self.running_var.repeat(groups, 1)
        return list(means.unbind()), list(variances.unbind())

    @torch.no_grad()
    def _follow(self, means: list[Tensor | None], variances: list[Tensor | None]) -> None:
        for running, parts in ((self.running_mean, means), (self.running_var, variances)):
            if running is not None:
                running.copy_(torch.stack([p for p in parts if p is not None]).mean(dim=0))
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1


def sync_batch_norm(model: nn.Module) -> nn.Module:
    """The model with every BatchNorm replaced, in place, by a `SyncBatchNorm` of the same tensors.

    Key names, parameters and modes stay; a `GroupBatchNorm` stays what it is. Gives the model
    back (or its replacement, if it is a BatchNorm itself).

    Raises:
        RecipeError: a BatchNorm of another library does more than normalise.
    """
    refuse_other_batch_norms(model)
    return _replace(model, SyncBatchNorm)


def group_batch_norm(model: nn.Module, groups: int) -> nn.Module:
    """The model with every BatchNorm replaced, in place, by a `GroupBatchNorm` of the same tensors.

    Args:
        model: with at least one BatchNorm.
        groups: parts of the global batch, at least 2.

    Raises:
        RecipeError: there is none, or one of another library does more than normalise.
    """
    if not any(isinstance(module, _BatchNorm) for module in model.modules()):
        raise RecipeError(
            f"method.norm_groups={groups} has no effect on a network without batch norm. Give "
            "--method.norm-groups 1."
        )
    refuse_other_batch_norms(model)
    replaced = _replace(model, GroupBatchNorm)
    for module in replaced.modules():
        if isinstance(module, GroupBatchNorm):
            module.groups = groups
    return replaced


def refuse_other_batch_norms(model: nn.Module) -> None:
    """Refuse a BatchNorm that a replacement would take something from, such as its activation.

    Raises:
        RecipeError: a BatchNorm of another library does more than normalise.
    """
    known = _PLAIN | {SyncBatchNorm, nn.SyncBatchNorm}  # a subclass of these may do more
    for norm in model.modules():
        if isinstance(norm, _BatchNorm) and type(norm) not in known:
            raise RecipeError(
                f"{type(norm).__name__} can't be computed over other images than a rank's own: it "
                "is no plain BatchNorm. Train on one rank with --method.norm-groups 1 (if it is "
                "MoCo), or choose an encoder with plain BatchNorm (resnet*) or LayerNorm."
            )


def _replace(model: nn.Module, kind: type[SyncBatchNorm] | type[GroupBatchNorm]) -> nn.Module:
    if isinstance(model, _BatchNorm) and not isinstance(model, SyncBatchNorm):
        return _replacement(model, kind)
    for name, child in model.named_children():
        setattr(model, name, _replace(child, kind))
    return model


def _replacement(norm: _BatchNorm, kind: type[SyncBatchNorm] | type[GroupBatchNorm]) -> nn.Module:
    other = kind(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    for name in ("weight", "bias"):
        other.register_parameter(name, getattr(norm, name))
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        other.register_buffer(name, getattr(norm, name))
    return other.train(norm.training)


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
