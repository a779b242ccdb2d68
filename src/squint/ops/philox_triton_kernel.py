"""The Triton kernel of the random words; imported only where it runs."""

# pyright: basic, reportCallIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 256


def words(key: Tensor, *counters: Tensor) -> Tensor:
    """Four words, (4, *shape), for each place of four counters that are broadcast to a shape."""
    tables = torch.broadcast_tensors(*counters)
    shape = tables[0].shape
    if len(shape) == 1:
        tables = [table[None] for table in tables]
    columns, size = shape[-1], shape.numel()
    result = key.new_empty((4, *shape))
    strides = [stride for table in tables for stride in table.stride()]
    if size:
        _words[(triton.cdiv(size, BLOCK),)](
            key, *tables, *strides, result, columns, size, BLOCK=BLOCK
        )
    return result


@triton.jit
def _counter(table, down, right, row, column, inside):
    """Broadcast counters have a stride of nought and are read where they lie."""
    return tl.load(table + row * down + column * right, mask=inside, other=0).to(tl.uint32)


@triton.jit
def _words(
    key, table0, table1, table2, table3,
    down0, right0, down1, right1, down2, right2, down3, right3,
    result, columns, size, BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    row, column = at // columns, at % columns
    c0 = _counter(table0, down0, right0, row, column, inside)
    c1 = _counter(table1, down1, right1, row, column, inside)
    c2 = _counter(table2, down2, right2, row, column, inside)
    c3 = _counter(table3, down3, right3, row, column, inside)
    c0, c1, c2, c3 = tl.philox(tl.load(key), c0, c1, c2, c3)
    tl.store(result + at, c0.to(tl.int64), mask=inside)
    tl.store(result + size + at, c1.to(tl.int64), mask=inside)
    tl.store(result + 2 * size + at, c2.to(tl.int64), mask=inside)
    tl.store(result + 3 * size + at, c3.to(tl.int64), mask=inside)
