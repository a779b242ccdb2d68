"""Two ranks with synchronised BatchNorm equal one process on the whole batch."""

import pytest
import torch
from torch import nn

from squint.errors import RecipeError
from squint.nn import encoders, mlp
from squint.nn.norm import SyncBatchNorm, sync_batch_norm
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


def test_other_batch_norms_are_refused():
    class NormAct(nn.BatchNorm2d):
        pass

    with pytest.raises(RecipeError, match="NormAct can't be computed over other images"):
        sync_batch_norm(nn.Sequential(NormAct(3)))
