"""What holds for every method, plain and compressed."""

import copy
import dataclasses

import pytest
import torch
from torch import Tensor, nn

from squint import methods, presets
from squint.compression import CEB, Open
from squint.configs import EncoderConfig
from squint.errors import RecipeError
from squint.methods import Method
from squint.nn.norm import sync_batch_norm
from squint.ops import gather
from squint.presets import recipe as preset
from squint.train.setup import optimizer_of
from toys import NAMES, kappa_b, make, views

RECIPES = ("simclr", "moco-v1", "moco-v2", "moco-v3", "byol")


def compressed(name: str, **settings: object) -> CEB:
    settings = {"beta": 0.3, "kappa_e": 32.0, "kappa_b": kappa_b(name)} | settings
    return CEB(**settings)


def train(method: Method, steps: int = 3, n: int = 8) -> list[float]:
    """Plain steps of gradient descent on this rank's part of the global batch; the losses."""
    rank, world = gather.rank(), gather.world_size()
    model = method
    if world > 1:
        model = nn.parallel.DistributedDataParallel(method)
    learning = [p for p in method.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=0.1, momentum=0.9)
    losses = []
    for number in range(steps):
        torch.manual_seed(number)
        share = slice(rank * n // world, (rank + 1) * n // world)
        step = model([view[share] for view in views(n, seed=number)], number / steps)
        optimizer.zero_grad()
        step.loss.backward()
        optimizer.step()
        method.after_step(step, number / steps)
        losses.append(step.loss.item())
    return losses


@pytest.mark.parametrize("name", RECIPES)
def test_without_price_and_noise_a_compressed_recipe_is_the_plain_one_bit_for_bit(
    name: str,
) -> None:
    small = {"encoder.width": 0.125, "train.batch_size": 16}
    if name.startswith("moco-v") and name != "moco-v3":
        small |= {"method.queue_size": 24, "method.norm_groups": 4}
    plain = preset(f"{name}@tiny").override(small)
    ceb = preset(f"c-{name}@tiny").override(
        small | {"compression.beta": 0.0, "compression.sampling": False}
    )
    ended = []
    for recipe in (plain, ceb):
        torch.manual_seed(5)
        method = methods.build(recipe)
        sgd = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1)
        for number in range(2):
            torch.manual_seed(number)
            step = method(torch.randn(2, 16, 3, 16, 16).unbind(), number / 2)
            sgd.zero_grad()
            step.loss.backward()
            sgd.step()
            method.after_step(step, number / 2)
        ended.append((step.loss, method.state_dict()))
    (loss, state), (compressed_loss, compressed_state) = ended
    assert torch.equal(loss, compressed_loss)
    assert state.keys() == compressed_state.keys()
    assert all(torch.equal(state[name], compressed_state[name]) for name in state)


def _three_steps(name: str, ceb: bool, norm: bool) -> tuple[list[float], dict[str, Tensor]]:
    groups = {"shuffle": norm} if name.startswith("moco") and name != "moco-v3" else {}
    method = make(name, compressed(name) if ceb else Open(), norm=norm, **groups)
    if norm:
        sync_batch_norm(method)
    losses = train(method)
    gradients = {
        f"gradient of {name}": parameter.grad
        for name, parameter in method.named_parameters()
        if parameter.grad is not None
    }
    return losses, method.state_dict() | gradients


@pytest.mark.ranks
@pytest.mark.parametrize("norm", [False, True], ids=["no norm", "global norm"])
@pytest.mark.parametrize("ceb", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("name", NAMES)
def test_two_ranks_equal_one_on_the_global_batch(ranks, name: str, ceb: bool, norm: bool) -> None:
    """Loss, gradients, weights, target and queue after three steps."""
    (losses_0, state_0), (losses_1, state_1) = ranks(_three_steps, name, ceb, norm)
    losses, state = _three_steps(name, ceb, norm)
    means = [(first + second) / 2 for first, second in zip(losses_0, losses_1, strict=True)]
    assert means == pytest.approx(losses, rel=1e-9)
    assert state.keys() == state_0.keys()
    for key, value in state.items():
        torch.testing.assert_close(state_0[key], value, rtol=1e-9, atol=1e-11, msg=key)
        assert torch.equal(state_0[key], state_1[key]), key


@pytest.mark.parametrize("name", NAMES)
def test_only_what_is_online_gets_a_gradient(name: str) -> None:
    method = make(name, compressed(name))
    method(views()).loss.backward()
    for path, parameter in method.named_parameters():
        if path.startswith("target."):
            assert parameter.grad is None, path
        else:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, path


@pytest.mark.parametrize("name", NAMES)
def test_forward_changes_no_state(name: str) -> None:
    method = make(name, compressed(name))
    before = copy.deepcopy(method.state_dict())
    method(views())
    assert all(torch.equal(before[key], value) for key, value in method.state_dict().items())


@pytest.mark.parametrize("name", [name for name in NAMES if name != "simclr"])
def test_after_step_moves_the_target_towards_the_online_network(name: str) -> None:
    method = make(name)
    before = method.target.encoder[1].weight.clone()
    method.after_step(method(views()), 0.0)
    expected = 0.9 * before + 0.1 * method.encoder[1].weight
    torch.testing.assert_close(method.target.encoder[1].weight, expected)


@pytest.mark.parametrize("name", NAMES)
def test_logs_are_numbers_without_a_graph(name: str) -> None:
    logs = make(name, compressed(name))(views(), 0.5).logs
    assert {"positive_cosine", "std_ratio", "rate_nats", "beta"} <= logs.keys()
    for key, value in logs.items():
        assert value.ndim == 0 and not value.requires_grad and bool(value.isfinite()), key
    assert -1 <= logs["positive_cosine"] <= 1 and 0 <= logs["std_ratio"] <= 1


@pytest.mark.parametrize("name", list(presets.names()))
def test_every_recipe_builds_its_method_and_optimizer(name: str) -> None:
    """With a small encoder and queue in place of the real ones."""
    small: dict[str, object] = {"encoder.name": "resnet10", "encoder.width": 0.125}
    full = presets.recipe(name)
    if hasattr(full.method, "queue_size"):
        small["method.queue_size"] = 64
    recipe = full.override(small)
    method = methods.build(recipe)
    learning = {p for group in optimizer_of(method, recipe).param_groups for p in group["params"]}
    assert learning == {p for p in method.parameters() if p.requires_grad}
    assert not learning & set(getattr(method, "target", nn.Identity()).parameters())


@pytest.mark.parametrize("name", NAMES)
def test_norms_end_where_those_of_the_released_code_do(name: str) -> None:
    """SimCLR, BYOL: x rsqrt(max(|x|^2, 1e-12)), so below 1e-6 in proportion. MoCo: 1e-12."""
    method = make(name)
    method.encoder, method.projector = nn.Flatten(), nn.Identity()
    if hasattr(method, "predictor"):
        method.predictor = nn.Identity()
    lengths = torch.tensor([1.0, 1e-5, 2e-6, 5e-7, 1e-9, 0.0], dtype=torch.float64)
    x = nn.functional.normalize(views(6)[0].flatten(1), dim=1) * lengths[:, None]
    x.requires_grad_()
    weight = views(6, seed=2)[0].flatten(1)
    images = x.view(6, 3, 2, 2)
    code = method.embed((images, images.detach()))[0]
    least = 1e-24 if "moco" in name else 1e-12
    official = x * x.square().sum(dim=1, keepdim=True).clamp(min=least).rsqrt()
    torch.testing.assert_close(code, official, rtol=1e-12, atol=1e-15)
    ours, theirs = (torch.autograd.grad((weight * rows).sum(), x)[0] for rows in (code, official))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("name", ["timm/vit_tiny_patch16_224", "torchvision/vgg11"])
def test_a_network_that_does_not_take_the_views_is_refused(name: str) -> None:
    tiny = presets.recipe("simclr@tiny")
    recipe = tiny.replace(encoder=EncoderConfig(name=name))
    with pytest.raises(RecipeError, match=r"does not take views of views\.size=16 px"):
        methods.build(recipe)
    views = dataclasses.replace(recipe.views, size=224)
    assert methods.build(recipe.replace(views=views)).encoder.training
