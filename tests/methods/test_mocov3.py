"""MoCo v3 against the released code."""

import official
import pytest
import torch
from torch import nn

from golden import Case, cases
from squint.compression import CEB
from squint.methods import MoCoV3
from squint.methods._method import unit
from squint.nn import Target, mlp
from squint.ops import contrast, gather
from squint.train.optim import LARS, parameter_groups
from toys import TEMPERATURE, make, views


def _loss(q, k, temperature: float):
    """2 tau CE of one direction, as the released `contrastive_loss`."""
    q = q.clone().requires_grad_()
    k = k.clone().requires_grad_()
    loss = 2 * temperature * contrast.batch_info_nce(unit(q), unit(k), temperature=temperature)
    loss.backward()
    return loss.detach(), q.grad, k.grad


@pytest.mark.parametrize("case", cases("moco_v3", lambda c: c.name.endswith("of1")))
def test_loss_of_one_direction(case: Case) -> None:
    loss, grad_q, grad_k = _loss(case["q"], case["k"], case.settings["T"])
    torch.testing.assert_close(loss, case["loss"], rtol=1e-10, atol=0)
    torch.testing.assert_close(grad_q, case["grad_q"], rtol=1e-9, atol=1e-13)
    assert grad_k is None and not case["grad_k"].any(), "keys carry no gradient"


def _loss_of_rank(pair: list[Case]):
    case = pair[gather.rank()]
    return _loss(case["q"], case["k"], case.settings["T"])[:2]


@pytest.mark.ranks
def test_loss_of_one_direction_on_two_ranks(ranks) -> None:
    pair = [p.values[0] for p in cases("moco_v3", lambda c: c.name.endswith("of2"))]
    if pair[0] is None:
        pytest.skip("no golden vectors")
    for case, (loss, grad_q) in zip(pair, ranks(_loss_of_rank, pair), strict=True):
        torch.testing.assert_close(loss, case["loss"], rtol=1e-10, atol=0)
        torch.testing.assert_close(grad_q, case["grad_q"], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("case", cases("moco_v3", lambda c: c.name.startswith("forward")))
def test_steps_are_those_of_the_released_code(case: Case) -> None:
    made, vit = case.settings, case.name.endswith("vit")
    width, code, hidden, momenta = made["d_hid"], made["dim"], made["mlp_dim"], made["moco_m"]

    def network() -> tuple[nn.Module, nn.Module]:
        head = mlp(width, hidden, code, layers=3 if vit else 2, output_norm="plain")
        return official.encoder(made["d_in"], width).double(), head.double()

    online, follower = network(), network()
    predictor = mlp(code, hidden, code, output_norm="plain" if vit else "none").double()
    official.load(*online, case, "init/state", "base_encoder", made["last_layer"])
    official.load(*follower, case, "init/state", "momentum_encoder", made["last_layer"])
    prefix = "init/state/predictor."
    predictor.load_state_dict(
        {
            key.partition(prefix)[2]: case[prefix + key.partition(prefix)[2]]
            for key in case.fields()
            if key.startswith(f"{case.name}/{prefix}")
        }
    )
    target = Target(*follower, momentum=momenta[0])
    method = MoCoV3(*online, predictor, target=target, temperature=made["T"])
    groups = parameter_groups(method, weight_decay=made["weight_decay"], decay_norm_and_bias=False)
    optimizer = LARS(groups, made["lr"], momentum=made["momentum"], form="mocov3")
    parts = {"base_encoder": method.encoder, "predictor": method.predictor}
    for s, target.momentum in enumerate(momenta):
        # theirs moves at the start of a step (also the first, where the file's networks differ),
        # ours at the end of the one before
        target.update(method.encoder, method.projector, progress=0.0)
        step = method([official.image(case[f"s{s}/{x}"]) for x in ("x1", "x2")])
        torch.testing.assert_close(step.loss, case[f"s{s}/loss"], rtol=1e-10, atol=0)
        optimizer.zero_grad()
        step.loss.backward()
        for theirs, module in parts.items():
            for name, parameter in module.named_parameters():
                expected = case[f"s{s}/grad/{theirs}.{name}"]
                torch.testing.assert_close(parameter.grad, expected, rtol=1e-8, atol=1e-12)
        optimizer.step()
    last = made["last_layer"]
    for (encoder, head), theirs in (
        ((method.encoder, method.projector), "base_encoder"),
        ((target.encoder, target.projector), "momentum_encoder"),
    ):
        official.assert_state(encoder, head, case, "final/state", theirs, last)


def test_c_moco_v3_adds_the_rate_of_each_query_given_the_other_key() -> None:
    ceb = CEB(beta=0.7, kappa_e=64.0, kappa_b=10.0, sampling=False)
    plain, compressed = make("moco-v3"), make("moco-v3", ceb)
    rates = [ceb.closed_form_rate(q, k).mean() for q, k in plain.pairs(plain.embed(views()))]
    expected = plain(views()).loss + 2 * TEMPERATURE * 0.7 * sum(rates)
    torch.testing.assert_close(compressed(views()).loss, expected)


def test_info_is_capped_by_the_number_of_keys() -> None:
    logs = make("moco-v3")(views(8)).logs
    assert logs["info_cap_nats"].item() == pytest.approx(2.0794415)
    assert logs["info_nats"] <= logs["info_cap_nats"]
