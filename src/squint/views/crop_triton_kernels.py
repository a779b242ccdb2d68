"""The Triton kernel of crops from a ragged batch; imported only where it runs.

A program makes a tile of one channel of one crop, with the filter of `resize_weights` tap by tap:
neither weights nor anything between the two axes is ever written.
"""

# pyright: basic, reportCallIssue=false, reportArgumentType=false

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, COLUMNS = 8, 32
"""Pixels of a crop in a tile."""


def crops(table: Tensor, channels: int, size: int) -> Tensor:
    """One crop, (channels, size, size) uint8, per row of a table, (crops, 8) int64.

    Its columns are address, height and width of a planar image; top, left, height and width of a
    window inside it; and whether the filter is bicubic.
    """
    result = torch.empty((len(table), channels, size, size), dtype=torch.uint8, device=table.device)
    tiles = triton.cdiv(size, ROWS) * triton.cdiv(size, COLUMNS)
    if len(table):
        _crops[(len(table) * channels * tiles,)](
            table, result, channels, size, tiles, ROWS=ROWS, COLUMNS=COLUMNS
        )
    return result


@triton.jit
def _weights(pixel, centre, length, scale, bicubic):
    """Weights, not yet divided by their sum, of source pixels for the targets at `centre`."""
    x = tl.abs(pixel.to(tl.float32) + 0.5 - centre) / tl.maximum(scale, 1.0)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = tl.where(x < 2.0, ((2.5 - 0.5 * x) * x - 4.0) * x + 2.0, 0.0)
    cubic = tl.where(x < 1.0, near, far)
    weights = tl.where(bicubic != 0, cubic, tl.maximum(1.0 - x, 0.0))
    return tl.where((pixel >= 0) & (pixel < length), weights, 0.0)


@triton.jit
def resized(
    corner, image_width, height, width, size, i, j, bicubic,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Rows i and columns j of a window that is resized to `size`, in the source's grey levels.

    `corner` points to the window's first pixel; `image_width` lies between one row and the next.
    """
    reach = 1.0 + bicubic.to(tl.float32)
    scale_y, scale_x = height.to(tl.float32) / size, width.to(tl.float32) / size
    reach_y, reach_x = reach * tl.maximum(scale_y, 1.0), reach * tl.maximum(scale_x, 1.0)
    centre_y = (i.to(tl.float32) + 0.5) * scale_y
    centre_x = (j.to(tl.float32) + 0.5) * scale_x
    # one pixel more on either side than are in reach: their weight is nought
    first_y = tl.floor(centre_y - reach_y).to(tl.int32) - 1
    first_x = tl.floor(centre_x - reach_x).to(tl.int32) - 1
    taps_y = (2.0 * reach_y).to(tl.int32) + 4
    taps_x = (2.0 * reach_x).to(tl.int32) + 4

    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    sum_y, sum_x = tl.zeros((ROWS,), tl.float32), tl.zeros((COLUMNS,), tl.float32)
    for tap_x in range(taps_x):
        sum_x += _weights(first_x + tap_x, centre_x, width, scale_x, bicubic)
    for tap_y in range(taps_y):
        y = first_y + tap_y
        weight_y = _weights(y, centre_y, height, scale_y, bicubic)
        sum_y += weight_y
        line = tl.zeros((ROWS, COLUMNS), tl.float32)
        for tap_x in range(taps_x):
            x = first_x + tap_x
            weight_x = _weights(x, centre_x, width, scale_x, bicubic)
            inside = (weight_y != 0.0)[:, None] & (weight_x != 0.0)[None, :]
            place = y[:, None] * image_width + x[None, :]
            pixel = tl.load(corner + place, mask=inside, other=0)
            line += weight_x[None, :] * pixel.to(tl.float32)
        total += weight_y[:, None] * line
    return total / (sum_y[:, None] * sum_x[None, :])


@triton.jit
def _crops(
    table, result, channels, size, tiles,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    plane, tile = program // tiles, program % tiles
    crop, channel = plane // channels, plane % channels
    across = tl.cdiv(size, COLUMNS)
    i = (tile // across) * ROWS + tl.arange(0, ROWS)
    j = (tile % across) * COLUMNS + tl.arange(0, COLUMNS)

    row = table + crop.to(tl.int64) * 8
    source = tl.load(row).to(tl.pointer_type(tl.uint8))
    image_height, image_width = tl.load(row + 1), tl.load(row + 2)
    top, left = tl.load(row + 3), tl.load(row + 4)
    height, width = tl.load(row + 5).to(tl.int32), tl.load(row + 6).to(tl.int32)
    bicubic = tl.load(row + 7).to(tl.int32)
    corner = source + (channel * image_height + top) * image_width + left
    grey = resized(corner, image_width, height, width, size, i, j, bicubic, ROWS, COLUMNS)
    grey = tl.minimum(tl.maximum(grey, 0.0), 255.0)
    below = tl.floor(grey)
    odd = below - 2.0 * tl.floor(below * 0.5)
    rest = grey - below
    up = (rest > 0.5) | ((rest == 0.5) & (odd == 1.0))  # half to even, as torch rounds
    whole = (below + tl.where(up, 1.0, 0.0)).to(tl.int32)
    at = (plane.to(tl.int64) * size + i[:, None]) * size + j[None, :]
    tl.store(result + at, whole.to(tl.uint8), mask=(i < size)[:, None] & (j < size)[None, :])
