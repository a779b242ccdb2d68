"""A batch in pieces has the gradient of the whole batch."""

from functools import partial

import pytest
import small
import torch
from torch import Tensor, nn

from squint.compression import CEB, Open
from squint.methods import Method, Step
from squint.ops import gather
from squint.train.accumulate import forward_backward
from squint.train.pretrain import pretrain
from squint.train.runtime import seed_everything
from toys import NAMES, kappa_b, make, views


def gradients(method: Method, pieces: int, n: int = 8) -> tuple[Step, dict[str, Tensor]]:
    """The step on this rank's images and every gradient after it."""
    seed_everything(3, 4)
    model = nn.parallel.DistributedDataParallel(method) if gather.world_size() > 1 else method
    step = forward_backward(
        method,
        model,
        [gather.own(view) for view in views(n)],
        0.5,
        pieces=pieces,
        runtime=small.runtime(),
        reseed=partial(seed_everything, 3, 4),
    )
    found = {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
    return step, found


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-9, atol=1e-12, msg=name)


def bottleneck(name: str, kind: str) -> Open | CEB:
    if kind == "plain":
        return Open()
    # drawn codes come from the noise of the whole batch only where the whole batch is compared
    sampling = kind == "sampled"
    return CEB(beta=0.3, kappa_e=32.0, kappa_b=kappa_b(name), sampling=sampling)


@pytest.mark.parametrize("pieces", [2, 4])
@pytest.mark.parametrize("kind", ["plain", "compressed"])
@pytest.mark.parametrize("name", NAMES)
def test_pieces_have_the_gradient_of_the_batch(name: str, kind: str, pieces: int) -> None:
    whole, expected = gradients(make(name, bottleneck(name, kind)), 1)
    step, found = gradients(make(name, bottleneck(name, kind)), pieces)
    assert_same(expected, found)
    torch.testing.assert_close(step.loss, whole.loss.detach())
    for ours, theirs in zip(step.keys, whole.keys, strict=True):
        torch.testing.assert_close(ours, theirs)
    for log in ("positive_cosine", "contrast_nats", "rate_nats"):
        if log in whole.logs:
            torch.testing.assert_close(step.logs[log], whole.logs[log])


@pytest.mark.parametrize("name", ["simclr", "moco-v3"])
def test_codes_are_drawn_as_for_the_whole_batch(name: str) -> None:
    _, expected = gradients(make(name, bottleneck(name, "sampled")), 1)
    _, found = gradients(make(name, bottleneck(name, "sampled")), 4)
    assert_same(expected, found)


@pytest.mark.parametrize("name", ["simclr", "moco-v3"])
def test_batch_norm_in_evaluation_mode_and_its_statistics_in_training_mode(name: str) -> None:
    frozen = [make(name, norm=True).eval() for _ in range(2)]
    assert_same(gradients(frozen[0], 1)[1], gradients(frozen[1], 4)[1])
    method, by_hand = make(name, norm=True), make(name, norm=True)
    gradients(method, 2)
    for part in zip(*(view.chunk(2) for view in views()), strict=True):
        by_hand.embed(part)
    for ours, theirs in zip(method.buffers(), by_hand.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, msg="a piece counts once")


class Dropping(nn.Module):
    """An encoder that draws."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.dropout(images.flatten(1), 0.5)


def test_both_passes_draw_alike() -> None:
    method = make("simclr")
    method.encoder, method.projector = Dropping(), nn.Linear(12, 5).double()
    seen: list[Tensor] = []
    method.projector.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    gradients(method, 2)
    first, second = seen[:2], seen[2:]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0] == 0, first[1] == 0), "pieces draw apart"


def _on_this_rank(name: str, pieces: int) -> tuple[float, dict[str, Tensor]]:
    step, found = gradients(make(name, bottleneck(name, "compressed")), pieces)
    return step.loss.item(), found


@pytest.mark.ranks
@pytest.mark.parametrize("name", ["simclr", "moco", "moco-v3", "byol"])
def test_two_ranks_in_pieces_equal_one_with_the_whole_batch(ranks, name: str) -> None:
    (loss_0, found_0), (loss_1, found_1) = ranks(_on_this_rank, name, 2)
    loss, expected = _on_this_rank(name, 1)
    assert (loss_0 + loss_1) / 2 == pytest.approx(loss, rel=1e-9)
    assert_same(expected, found_0)
    assert_same(found_0, found_1)


# --- what a recipe asks for ----------------------------------------------------------------------


def test_a_run_in_pieces_says_so_and_learns(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = small.recipe("c-simclr", train__micro_batch_size=8)
    run = pretrain(small.source(tmp_path), recipe=recipe, out=tmp_path / "run")
    assert "16 images in pieces of 8, 30 negatives" in capsys.readouterr().out
    assert len(small.curve(run)) == 6
