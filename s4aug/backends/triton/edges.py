"""Sums over the whole output for single source pixels: those that stand for much beyond the frame."""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from ...transform import settling
from .launch import as_bytes, channel_groups, kernel, launch
from .places import extent, nothing, padded, places, weight_on
from .sample import TAPS

LARGEST_GROUP = 4


def collect(
    gradient: Tensor,  # [B, C, h, w]
    coordinates: Tensor,
    shown: Tensor | None,  # [B, 1, h, w] bool: which output pixels show something; all by default
    std: Tensor | None,  # [C]
    summed: Tensor,  # [B, C, H, W], written
    *,
    mode: str,
    padding: str,
    pixels: int,
    along_edges: bool,
) -> None:
    """Write the gradient to the first `pixels` source pixels, row by row or along the four edges.

    Padding is border or reflection. A program goes through the output for one source pixel and adds in a fixed
    order.
    """
    batch, channels, rows, columns = gradient.shape
    height, width = summed.shape[2:]
    group, groups = channel_groups(channels, LARGEST_GROUP)

    def programs(_: dict[str, Any]) -> tuple[int]:
        return (batch * min(channels, groups) * pixels,)

    launch(
        _kernel,
        programs,
        gradient.device,
        gradient,
        coordinates if shown is None else as_bytes(shown),
        coordinates.contiguous(),
        coordinates if std is None else std.contiguous(),
        summed,
        settling((rows, columns)),
        *(pixels, channels, groups, height, width, rows, columns),
        *gradient.stride(),
        *summed.stride(),
        MODE=mode,
        PADDING=padding,
        ALONG_EDGES=along_edges,
        MASKED=shown is not None,
        NORMALIZED=std is not None,
        TAPS=TAPS[mode],
        GROUP=group,
        tunable=False,  # the tile is the order of the sum
    )


@kernel
def _kernel(
    p_gradient, p_shown, p_coordinates, p_std, p_sum,
    settling, pixels, channels, groups, height, width, rows, columns,
    gradient_b, gradient_c, gradient_y, gradient_x, sum_b, sum_c, sum_y, sum_x,
    MODE: tl.constexpr, PADDING: tl.constexpr, ALONG_EDGES: tl.constexpr, MASKED: tl.constexpr,
    NORMALIZED: tl.constexpr, TAPS: tl.constexpr, GROUP: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """One source pixel of one sample, for one group of channels."""
    program = tl.program_id(0)
    pixel, rest = program % pixels, program // pixels
    first, sample = (rest % groups) * GROUP, (rest // groups).to(tl.int64)
    x, y = _on_edge(pixel, height, width) if ALONG_EDGES else (pixel % width, pixel // width)
    p_gradient += sample * gradient_b + first.to(tl.int64) * gradient_c
    p_shown += sample * rows * columns
    b_sums = nothing()
    for _ in tl.static_range(GROUP):
        b_sums = b_sums + (tl.zeros([BLOCK_H, BLOCK_W], tl.float32),)
    for top in range(0, rows, BLOCK_H):
        for left in range(0, columns, BLOCK_W):
            near = True
            if PADDING == "border":
                west, east, north, south = extent(p_coordinates, sample, left, top, BLOCK_W, BLOCK_H, settling, MODE)
                near = (padded(west, width, PADDING) <= x) & (padded(east, width, PADDING) >= x)
                near = near & (padded(north, height, PADDING) <= y) & (padded(south, height, PADDING) >= y)
            if near:
                column = left + tl.arange(0, BLOCK_W)[None, :]
                row = top + tl.arange(0, BLOCK_H)[:, None]
                at_x, at_y = places(p_coordinates, sample, column, row, settling, MODE)
                weight_x, m_x = weight_on(at_x, x, width, MODE, TAPS, PADDING)
                weight_y, m_y = weight_on(at_y, y, height, MODE, TAPS, PADDING)
                m_read = m_x & m_y & (column < columns) & (row < rows)
                if MASKED:
                    o_shown = row.to(tl.int64) * columns + column
                    m_read = m_read & (tl.load(p_shown + o_shown, mask=m_read, other=0) != 0)
                p_read = p_gradient + row.to(tl.int64) * gradient_y + column.to(tl.int64) * gradient_x
                b_new = nothing()
                for i in tl.static_range(GROUP):
                    channel = tl.full([1, 1], i, tl.int64)
                    m_channel = m_read & (channel + first < channels)
                    b_gradient = tl.load(p_read + channel * gradient_c, mask=m_channel, other=0.0).to(tl.float32)
                    b_new = b_new + (b_sums[i] + b_gradient * (weight_x * weight_y),)
                b_sums = b_new
    for i in tl.static_range(GROUP):
        channel = (first + i).to(tl.int64)
        total = tl.sum(b_sums[i])
        if NORMALIZED:
            total = total / tl.load(p_std + channel, mask=channel < channels, other=1.0)
        p_total = p_sum + sample * sum_b + channel * sum_c + y.to(tl.int64) * sum_y + x.to(tl.int64) * sum_x
        tl.store(p_total, total.to(p_sum.dtype.element_ty), mask=channel < channels)


@triton.jit
def _on_edge(pixel, height, width):
    """The pixels of the first row, of the last row, then those between, left and right by turns."""
    beside = pixel - 2 * width
    x = tl.where(beside < 0, pixel % width, (beside % 2) * (width - 1))
    y = tl.where(beside < 0, (pixel // width) * (height - 1), 1 + beside // 2)
    return x, y
