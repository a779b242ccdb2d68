"""The queue against a plain Python list."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from squint.nn import Queue
from squint.ops import gather


def keys(n: int, number: int) -> Tensor:
    """Rows that tell where they come from."""
    return torch.full((n, 2), float(number)) + torch.arange(n)[:, None] / 100


@given(st.integers(1, 9), st.lists(st.integers(1, 25), min_size=1, max_size=6))
def test_it_holds_the_last_keys_for_any_size_and_any_batches(rows: int, sizes: list[int]) -> None:
    queue, every = Queue(rows, 2), [*torch.zeros(0, 2)]
    start = [*queue.codes.clone()]
    for number, n in enumerate(sizes, 1):
        queue.push(keys(n, number))
        every += [*keys(n, number)]
    assert queue.pointer == len(every) % rows
    oldest_first = [*queue.codes.roll(-int(queue.pointer), 0)]
    for ours, theirs in zip(oldest_first, (start + every)[-rows:], strict=True):
        assert torch.equal(ours, theirs)


def test_it_starts_with_unit_rows_and_is_part_of_checkpoints() -> None:
    torch.manual_seed(0)
    queue = Queue(16, 4)
    torch.testing.assert_close(queue.codes.norm(dim=1), torch.ones(16))
    queue.push(torch.ones(5, 4))
    again = Queue(16, 4)
    again.load_state_dict(queue.state_dict())
    assert torch.equal(again.codes, queue.codes) and again.pointer == 5


def _push() -> tuple[Tensor, int]:
    queue = Queue(10, 2)
    for number in range(1, 4):
        queue.push(keys(2, number * 10 + gather.rank()))
    return queue.codes, int(queue.pointer)


@pytest.mark.ranks
def test_ranks_push_in_rank_order_and_agree(ranks) -> None:
    (first, pointer), (second, _) = ranks(_push)
    assert torch.equal(first, second) and pointer == 2
    expected = [keys(2, n) for n in (10, 11, 20, 21, 30, 31)]
    expected = torch.cat(expected)
    assert torch.equal(first[:2], expected[10:]) and torch.equal(first[2:], expected[2:10])
