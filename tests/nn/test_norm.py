"""BatchNorm over all ranks equals one process on the whole batch; in groups, one batch each."""

import copy

import pytest
import torch
from torch import nn

from squint.errors import RecipeError, RunError
from squint.nn import encoders, mlp
from squint.nn.norm import (
    GroupBatchNorm,
    SyncBatchNorm,
    group_batch_norm,
    refuse_other_batch_norms,
    sync_batch_norm,
)
from squint.ops import gather


def network():
    torch.manual_seed(3)
    encoder = encoders.build("resnet10", stem="cifar", width=0.125, zero_init_residual=False)
    head = mlp(encoder.dim, 16, 8, output_norm="scale")
    return nn.Sequential(encoder, head).double()


def outcome(model, images, weight):
    """Output, gradients and buffers of one training step; weight makes the loss uneven."""
    output = model(images)
    (output * weight).sum(dim=1).mean().backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return output.detach(), gradients, dict(model.named_buffers())


def _on_ranks(images, weight):
    model = sync_batch_norm(network())
    output, gradients, buffers = outcome(model, gather.own(images), gather.own(weight))
    for gradient in gradients.values():
        torch.distributed.all_reduce(gradient)
        gradient /= gather.world_size()
    return output, gradients, buffers


@pytest.mark.ranks
def test_two_ranks_equal_one_process(ranks):
    torch.manual_seed(0)
    images = torch.randn(8, 3, 8, 8, dtype=torch.float64)
    images[4:] = 2 * images[4:] + 1  # the ranks' own statistics differ
    weight = torch.randn(8, 8, dtype=torch.float64)
    output, gradients, buffers = outcome(network(), images, weight)
    first, second = ranks(_on_ranks, images, weight)
    close(torch.cat([first[0], second[0]]), output)
    for _, rank_gradients, rank_buffers in (first, second):
        assert rank_gradients.keys() == gradients.keys() and rank_buffers.keys() == buffers.keys()
        for name, gradient in gradients.items():
            close(rank_gradients[name], gradient)
        for name, buffer in buffers.items():
            close(rank_buffers[name], buffer)


def close(ours, expected):
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)


def test_alone_it_is_batch_norm():
    x = torch.randn(6, 3, 4, 4)
    plain = nn.BatchNorm2d(3)
    sync = sync_batch_norm(nn.Sequential(nn.BatchNorm2d(3)))
    for _ in range(2):
        assert torch.equal(sync(x), plain(x))
    assert torch.equal(sync[0].running_var, plain.running_var)
    assert torch.equal(sync.eval()(x), plain.eval()(x))


def test_conversion_keeps_names_tensors_and_modes():
    model = network()
    model[0].layer1.eval()
    before = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    modes = {name: module.training for name, module in model.named_modules()}
    converted = sync_batch_norm(model)
    after = {**dict(converted.named_parameters()), **dict(converted.named_buffers())}
    assert list(before) == list(after) and all(before[name] is after[name] for name in before)
    assert modes == {name: module.training for name, module in converted.named_modules()}
    plain = [m for m in converted.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert not plain and isinstance(converted[0].bn1, SyncBatchNorm)
    assert isinstance(sync_batch_norm(nn.BatchNorm1d(2)), SyncBatchNorm)


def with_activation(base):
    class NormAct(base):
        def forward(self, input):
            return super().forward(input).relu()

    return nn.Sequential(nn.BatchNorm2d(3), NormAct(3))


@pytest.mark.parametrize("base", [nn.BatchNorm2d, nn.SyncBatchNorm, SyncBatchNorm])
@pytest.mark.parametrize("join", [sync_batch_norm, lambda model: group_batch_norm(model, 2)])
def test_other_batch_norms_are_refused_before_anything_is_replaced(base, join):
    model = with_activation(base)
    before = list(model)
    with pytest.raises(RecipeError, match="NormAct can't be computed over other images"):
        join(model)
    assert list(model) == before


def test_batch_norms_that_only_normalise_are_not_refused():
    known = [nn.BatchNorm1d(3), nn.BatchNorm2d(3), nn.SyncBatchNorm(3), SyncBatchNorm(3)]
    refuse_other_batch_norms(nn.Sequential(*known, GroupBatchNorm(3), nn.LayerNorm(3)))


def test_a_network_that_fuses_norm_and_activation_is_refused():
    network = encoders.build("timm/efficientnet_b0")
    with pytest.raises(RecipeError, match=r"BatchNormAct2d can't be computed.*one rank"):
        refuse_other_batch_norms(network)


# --- groups ------------------------------------------------------------------------------------


def _grouped(groups: int) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    plain = nn.BatchNorm2d(3).double()
    nn.init.uniform_(plain.weight)
    nn.init.uniform_(plain.bias)
    return plain, group_batch_norm(copy.deepcopy(plain), groups)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_groups_are_normalised_as_if_each_were_a_batch(layout):
    plain, grouped = _grouped(4)
    x = torch.randn(12, 3, 5, 5, dtype=torch.float64).contiguous(memory_format=layout)
    means = []
    outputs = []
    for part in x.chunk(4):
        one = copy.deepcopy(plain)
        outputs.append(one(part))
        means.append(torch.stack([one.running_mean, one.running_var]))
    torch.testing.assert_close(grouped(x), torch.cat(outputs))
    running = torch.stack([grouped.running_mean, grouped.running_var])
    torch.testing.assert_close(running, torch.stack(means).mean(dim=0))
    assert grouped.num_batches_tracked == 1
    torch.testing.assert_close(grouped.eval()(x), _like(plain, running).eval()(x))


def _like(norm, running):
    other = copy.deepcopy(norm)
    other.running_mean.copy_(running[0])
    other.running_var.copy_(running[1])
    return other


def _groups_of_this_rank(norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return norm(gather.own(x))


@pytest.mark.ranks
def test_groups_are_those_of_the_global_batch_on_any_number_of_ranks(ranks):
    _, grouped = _grouped(4)
    x = torch.randn(16, 3, 2, 2, dtype=torch.float64)
    parts = ranks(_groups_of_this_rank, copy.deepcopy(grouped).requires_grad_(False), x)
    torch.testing.assert_close(torch.cat(parts), grouped(x).detach(), rtol=1e-12, atol=1e-12)


def test_joining_ranks_leaves_groups_alone():
    for join in (sync_batch_norm, nn.SyncBatchNorm.convert_sync_batchnorm):
        _, grouped = _grouped(2)
        model = join(nn.Sequential(grouped, nn.BatchNorm2d(3)))
        assert isinstance(model[0], GroupBatchNorm) and not isinstance(model[1], nn.BatchNorm2d)


def test_groups_that_do_not_fit_are_refused():
    _, grouped = _grouped(4)
    with pytest.raises(RunError, match="4 groups can't be done with 6 images"):
        grouped(torch.randn(6, 3, 2, 2, dtype=torch.float64))
    with pytest.raises(RunError, match="at least 2"):
        grouped(torch.randn(4, 3, 2, 2, dtype=torch.float64))
    with pytest.raises(RecipeError, match=r"norm_groups=4 has no effect.*norm-groups 1"):
        group_batch_norm(nn.Linear(2, 2), 4)
