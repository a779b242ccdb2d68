"""rows() and own(): alone they do nothing; two ranks equal one process on the global batch."""

import pytest
import torch
from torch import Tensor

from ranks import RankPool
from squint.errors import RunError
from squint.ops import gather


def _loss(x: Tensor, every: Tensor) -> Tensor:
    """Mean over the rows of x of something in which every row of `every` matters to each."""
    return torch.exp(torch.sin(x @ every.T)).sum(dim=1).mean()


def _rows_and_gradient(x: Tensor) -> tuple[Tensor, Tensor, float]:
    local = gather.own(x).clone().requires_grad_()
    every = gather.rows(local)
    loss = _loss(local, every)
    loss.backward()
    assert local.grad is not None
    return every.detach(), local.grad, loss.item()


def _of_any_shape() -> list[Tensor]:
    me = gather.rank()
    return [
        gather.rows(torch.full((2,), me)),
        gather.rows(torch.full((1, 2, 3), float(me), dtype=torch.bfloat16)),
        gather.rows(torch.arange(6.0).reshape(2, 3).T + 10 * me),  # not contiguous
        gather.own(gather.rows(torch.tensor([me, me + 5]))),
    ]


def _unequal() -> list[str]:
    messages: list[str] = []
    for attempt in (
        lambda: gather.rows(torch.zeros(3 + gather.rank(), 2)),
        lambda: gather.own(torch.zeros(3)),
    ):
        with pytest.raises(RunError) as caught:
            attempt()
        messages.append(str(caught.value))
    return messages


def _host_device_here() -> str:
    return str(gather.host_device(torch.device("meta")))


@pytest.mark.parametrize(
    ("spoken", "device"),
    [("cpu:gloo,cuda:nccl", "cpu"), ("cuda:nccl", "meta"), ("cpu:gloo,cuda:gloo", "cpu")],
)
def test_numbers_for_the_host_travel_on_the_cpu_where_they_can(
    monkeypatch: pytest.MonkeyPatch, spoken: str, device: str
) -> None:
    monkeypatch.setattr(torch.distributed, "get_backend_config", lambda: spoken)
    assert _host_device_here() == device


@pytest.mark.ranks
def test_ranks_on_cpus_talk_there(ranks: RankPool) -> None:
    assert ranks(_host_device_here) == ["cpu", "cpu"]


def test_alone_nothing_is_copied() -> None:
    x = torch.randn(3, 4, requires_grad=True)
    assert gather.rows(x) is x
    assert gather.own(x) is x
    assert (gather.rank(), gather.world_size()) == (0, 1)


@pytest.mark.ranks
def test_rows_and_gradient_equal_one_process(ranks: RankPool) -> None:
    x = torch.randn(6, 4, dtype=torch.float64)
    alone = x.clone().requires_grad_()
    loss = _loss(alone, alone)
    loss.backward()
    assert alone.grad is not None
    results = ranks(_rows_and_gradient, x)
    for every, _, _ in results:
        assert torch.equal(every, x)
    # DistributedDataParallel averages: half of what the two ranks give is the global gradient.
    gradient = torch.cat([grad for _, grad, _ in results]) / 2
    torch.testing.assert_close(gradient, alone.grad, rtol=1e-13, atol=1e-13)
    assert sum(value for _, _, value in results) / 2 == pytest.approx(loss.item(), rel=1e-13)


@pytest.mark.ranks
def test_rows_of_any_shape_and_dtype_in_rank_order(ranks: RankPool) -> None:
    for me, (counts, deep, transposed, own) in enumerate(ranks(_of_any_shape)):
        assert counts.tolist() == [0, 0, 1, 1]
        assert deep.shape == (2, 2, 3) and deep[1].eq(1).all() and deep[0].eq(0).all()
        expected = torch.arange(6.0).reshape(2, 3).T
        assert torch.equal(transposed, torch.cat((expected, expected + 10)))
        assert own.tolist() == [me, me + 5]


@pytest.mark.ranks
def test_unequal_rows_are_refused_on_every_rank(ranks: RankPool) -> None:
    for gathered, shared in ranks(_unequal):
        assert "[3, 4]" in gathered and "global batch" in gathered
        assert "3 rows" in shared and "2 ranks" in shared


def _fail_on_the_second() -> None:
    if gather.rank() == 1:
        raise ValueError("no")
    gather.rows(torch.zeros(1))  # would wait for rank 1


@pytest.mark.slow  # starts a second pair of processes
@pytest.mark.ranks
def test_pool_reports_a_failed_rank_and_recovers(ranks: RankPool) -> None:
    with pytest.raises(RuntimeError, match=r"Rank \d failed"):
        ranks(_fail_on_the_second)
    assert ranks(gather.rank) == [0, 1]


def _agreed() -> Tensor:
    torch.manual_seed(gather.rank())
    return gather.agreed(torch.randperm(8), torch.device("cpu"))


@pytest.mark.ranks
def test_ranks_agree_on_what_they_drew_apart(ranks: RankPool) -> None:
    first, second = ranks(_agreed)
    torch.manual_seed(0)
    assert torch.equal(first, torch.randperm(8))
    assert torch.equal(first, second)
