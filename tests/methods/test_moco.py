"""MoCo v1 and v2 against the released code, step by step."""

from unittest import mock

import official
import pytest
import torch
from torch import Tensor, nn

from golden import Case, cases
from squint.compression import CEB
from squint.methods import MoCo
from squint.methods._method import unit
from squint.nn import Queue, Target, mlp
from squint.ops import gather
from toys import make, views


def build(case: Case, *, shuffle: bool) -> MoCo:
    """The file's network with its initial weights and queue, in float64."""
    made = case.settings

    def network() -> tuple[nn.Module, nn.Module]:
        encoder = official.encoder(made["d_in"], made["d_hid"])
        settings = {"output_bias": True, "bias": True, "hidden_norm": False}
        head = mlp(made["d_hid"], made["d_hid"], made["dim"], layers=1 + made["mlp"], **settings)
        return encoder.double(), head.double()

    online, momentum = network(), network()
    official.load(*online, case, "init/state", "encoder_q", "fc")
    official.load(*momentum, case, "init/state", "encoder_k", "fc")
    queue = Queue(made["K"], made["dim"]).double()
    queue.codes.copy_(case["init/state/queue"].T)
    target = Target(*momentum, momentum=made["m"])
    return MoCo(*online, target=target, queue=queue, temperature=made["T"], shuffle=shuffle)


@pytest.mark.parametrize("case", cases("moco_v1v2", lambda case: case.settings["world"] == 1))
def test_steps_are_those_of_the_released_code(case: Case) -> None:
    made, method = case.settings, build(case, shuffle=False)
    online = [*method.encoder.parameters(), *method.projector.parameters()]
    decay = made["weight_decay"]
    sgd = torch.optim.SGD(online, made["lr"], momentum=made["sgd_momentum"], weight_decay=decay)
    for s in range(made["steps"]):
        step = method([official.image(case[f"s{s}/{x}"]) for x in ("x_q", "x_k")])
        torch.testing.assert_close(step.loss, case[f"s{s}/loss"], rtol=1e-10, atol=0)
        sgd.zero_grad()
        step.loss.backward()
        named = {**dict(method.encoder.named_parameters())}
        for name, parameter in method.projector.named_parameters():
            # a single layer is `fc` there and `0` here
            named["fc." + (name if made["mlp"] else name.removeprefix("0."))] = parameter
        for name, parameter in named.items():
            expected = case[f"s{s}/grad_q/{name}"]
            torch.testing.assert_close(parameter.grad, expected, rtol=1e-9, atol=1e-12)
        sgd.step()
        if s == made["steps"] - 1:
            # theirs moves at the start of a step, ours at the end of the one before
            official.assert_state(
                method.target.encoder,
                method.target.projector,
                case,
                "final/state",
                "encoder_k",
                "fc",
            )
        method.after_step(step, 0.0)
        torch.testing.assert_close(
            method.queue.codes.T, case[f"s{s}/queue_after"], rtol=1e-10, atol=1e-12
        )
        assert method.queue.pointer == case[f"s{s}/queue_ptr_after"].item()
    official.assert_state(method.encoder, method.projector, case, "final/state", "encoder_q", "fc")


def _shuffled(case: Case) -> list[tuple[float, Tensor, int]]:
    """The file's steps on this rank, with its permutations."""
    method = build(case, shuffle=True)
    found = []
    for s in range(case.settings["steps"]):
        with mock.patch("torch.randperm", return_value=case[f"s{s}/permutation"]):
            step = method([official.image(case[f"s{s}/{x}"]) for x in ("x_q", "x_k")])
        method.after_step(step, 0.0)
        found.append((step.loss.item(), method.queue.codes.clone(), int(method.queue.pointer)))
    return found


def _this_ranks(pair: list[Case]) -> list[tuple[float, Tensor, int]]:
    return _shuffled(pair[gather.rank()])


@pytest.mark.ranks
def test_shuffled_keys_on_two_ranks_are_those_of_the_released_code(ranks) -> None:
    pair = [p.values[0] for p in cases("moco_v1v2", lambda case: case.settings["world"] == 2)]
    if pair[0] is None:
        pytest.skip("no golden vectors")
    for case, found in zip(pair, ranks(_this_ranks, pair), strict=True):
        for s, (loss, queue, pointer) in enumerate(found):
            assert loss == pytest.approx(case[f"s{s}/loss"].item(), rel=1e-10)
            torch.testing.assert_close(queue.T, case[f"s{s}/queue_after"], rtol=1e-10, atol=1e-12)
            assert pointer == case[f"s{s}/queue_ptr_after"].item()


def test_keys_of_a_batch_are_never_its_own_negatives() -> None:
    method = make("moco")
    before = method.queue.codes.clone()
    step = method(views(4))
    assert torch.equal(method.queue.codes, before), "forward does not touch the queue"
    method.after_step(step, 0.5)
    assert torch.equal(method.queue.codes[:4], step.keys[0])
    assert torch.equal(method.queue.codes[4:], before[4:])


def test_symmetric_is_the_mean_of_both_directions_and_keeps_both_keys() -> None:
    x1, x2 = views()
    both = make("moco-symmetric")((x1, x2))
    one, other = make("moco")((x1, x2)), make("moco")((x2, x1))
    torch.testing.assert_close(both.loss, (one.loss + other.loss) / 2)
    assert len(both.keys) == 2 and torch.equal(both.keys[1], other.keys[0])


def test_c_moco_adds_beta_times_the_rate_of_query_given_key() -> None:
    ceb = CEB(beta=0.7, kappa_e=64.0, kappa_b=10.0, sampling=False)
    plain, compressed = make("moco"), make("moco", ceb)
    ((q, k),) = plain.pairs(plain.embed(views()))
    expected = plain(views()).loss + 0.7 * ceb.closed_form_rate(q, k).mean()
    torch.testing.assert_close(compressed(views()).loss, expected)


def test_order_of_keys_does_not_matter_without_batch_norm() -> None:
    plain, shuffled = make("moco"), make("moco", shuffle=True)
    torch.testing.assert_close(shuffled(views()).loss, plain(views()).loss)


class Company(nn.Module):
    """Tells each image the mean of the four that batch norm would see it with."""

    def forward(self, images: Tensor) -> Tensor:
        parts = images.flatten(1).chunk(len(images) // 4)
        return torch.cat([part.mean(dim=0, keepdim=True).expand(4, -1) for part in parts])


@pytest.mark.parametrize("shuffle", [False, True])
def test_shuffled_keys_meet_other_images_than_their_queries(shuffle: bool) -> None:
    """He et al. 2020, section 3.3: equal company gives the answer away."""
    method = make("moco", shuffle=shuffle)
    method.target = Target(Company(), nn.Identity(), momentum=0.9)
    images, _ = views(16)
    torch.manual_seed(0)
    _, key = method.embed((images, images))
    as_the_query = unit(Company()(images))
    same = torch.isclose(key, as_the_query).all(dim=1)
    assert not same.any() if shuffle else same.all()


def test_shuffling_gives_every_key_back_to_its_query() -> None:
    method = make("moco", shuffle=True)
    images, _ = views(16)
    _, key = method.embed((images, images))
    torch.testing.assert_close(key, unit(method.target(images)))


def _keys_of_ranks_seeded_apart() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    method = MoCo(
        nn.Flatten(),
        nn.Identity(),
        target=Target(nn.Flatten(), nn.Identity(), momentum=0.5),
        queue=Queue(8, 12),
        temperature=0.1,
    )
    images = gather.own(torch.randn(8, 3, 2, 2))
    torch.manual_seed(gather.rank())
    return method._key(images), unit(images.flatten(1))


@pytest.mark.ranks
def test_keys_stay_with_their_queries_where_ranks_draw_apart(ranks) -> None:
    for keys, expected in ranks(_keys_of_ranks_seeded_apart):
        torch.testing.assert_close(keys, expected)
