"""Sums over the output pixels whose footprint covers a source pixel, found from the inverse of the linear part."""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from ...transform import settling
from .launch import as_bytes, channel_groups, kernel, launch
from .permutation import unpermuted
from .places import BITS, PX_PER_UNIT, extent, nothing, settled, weight_on, within
from .sample import TAPS
from .softmax import LOWEST, grown, normalizer

LARGEST_GROUP = 8
# How far, px, from the place that it samples an output pixel may read.
REACH_PX = {"nearest": 0.5, "lifting": 0.0, "bilinear": 1.0, "bicubic": 2.0}
# Float32 rounding of distances, generously: of a distance itself, and within a frame, px.
ROUNDING = tl.constexpr(2.0**-20)
SLACK_PX = tl.constexpr(2.0**-5)
# Farther than any frame reaches.
FAR_PX = tl.constexpr(2.0**30)


def gather(
    gradient: Tensor,  # [B, C, h, w]
    coordinates: Tensor,
    shown: Tensor | None,  # [B, 1, h, w] bool: which output pixels show something; else known from geometry
    std: Tensor | None,  # [C]
    summed: Tensor,  # [B, C, H, W], written
    *,
    mode: str,
    padding: str,
    scale: Tensor | None = None,  # scalar float32: a factor; 1 by default
    logits: Tensor | None = None,  # [B, C, H, W]: the image read was their softmax, the gradient is to them
) -> None:
    """Write the gradient to every source pixel; with padding border, what reads it from inside the frame.

    With `logits` a pixel's channels are held together, which is meant for few of them.
    """
    batch, channels, rows, columns = gradient.shape
    height, width = summed.shape[2:]
    group, groups = channel_groups(channels, LARGEST_GROUP if logits is None else max(1, channels))

    def programs(meta: dict[str, Any]) -> tuple[int]:
        tiles = triton.cdiv(height, meta["BLOCK_H"]) * triton.cdiv(width, meta["BLOCK_W"])
        return (batch * min(channels, groups) * tiles,)

    launch(
        _kernel,
        programs,
        gradient.device,
        gradient,
        coordinates if shown is None else as_bytes(shown),
        coordinates.contiguous(),
        coordinates if std is None else std.contiguous(),
        coordinates if scale is None else scale,
        summed if logits is None else logits,
        summed,
        settling((rows, columns)),
        *(channels, groups, height, width, rows, columns),
        *gradient.stride(),
        *summed.stride(),
        *(summed if logits is None else logits).stride(),
        MODE=mode,
        PADDING=padding,
        MASKED=shown is not None,
        NORMALIZED=std is not None,
        SCALED=scale is not None,
        SOFTMAX=logits is not None,
        TAPS=TAPS[mode],
        REACH=REACH_PX[mode],
        GROUP=group,
        wide=logits is not None,
    )


@kernel
def _kernel(
    p_gradient, p_shown, p_coordinates, p_std, p_scale, p_logits, p_sum,
    settling, channels, groups, height, width, rows, columns,
    gradient_b, gradient_c, gradient_y, gradient_x, sum_b, sum_c, sum_y, sum_x,
    logit_b, logit_c, logit_y, logit_x,
    MODE: tl.constexpr, PADDING: tl.constexpr, MASKED: tl.constexpr, NORMALIZED: tl.constexpr, SCALED: tl.constexpr,
    SOFTMAX: tl.constexpr, TAPS: tl.constexpr, REACH: tl.constexpr, GROUP: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """One tile of source pixels of one sample, for one group of channels."""
    across, down = tl.cdiv(width, BLOCK_W), tl.cdiv(height, BLOCK_H)
    program = tl.program_id(0)
    tile, rest = program % (across * down), program // (across * down)
    first, sample = (rest % groups) * GROUP, (rest // groups).to(tl.int64)
    x = (tile % across) * BLOCK_W + tl.arange(0, BLOCK_W)[None, :]
    y = (tile // across) * BLOCK_H + tl.arange(0, BLOCK_H)[:, None]
    m_pixel = (x < width) & (y < height)
    p_gradient += sample * gradient_b + first.to(tl.int64) * gradient_c
    p_shown += sample * rows * columns
    b_sums = nothing()
    for _ in tl.static_range(GROUP):
        b_sums = b_sums + (tl.zeros([BLOCK_H, BLOCK_W], tl.float32),)
    # Without reflection the frame itself is its only image.
    leftmost, rightmost, topmost, lowest = 0, 0, 0, 0
    if PADDING == "reflection":
        left, right, top, bottom = extent(p_coordinates, sample, 0, 0, columns, rows, settling, MODE)
        leftmost, rightmost = _floored(left, width), _floored(right, width)
        topmost, lowest = _floored(top, height), _floored(bottom, height)
    for copy_y in range(topmost, lowest + 1):
        for copy_x in range(leftmost, rightmost + 1):
            image_x, image_y = _mirrored(x, copy_x, width), _mirrored(y, copy_y, height)
            if MODE == "lifting":
                b_sums = _moved_here(
                    b_sums, p_gradient, p_shown, p_coordinates, sample, image_x, image_y, m_pixel,
                    channels - first, rows, columns, gradient_c, gradient_y, gradient_x, MASKED, GROUP,
                )  # fmt: skip
            else:
                b_sums = _footprint(
                    b_sums, p_gradient, p_shown, p_coordinates, sample, image_x, image_y, m_pixel,
                    settling, channels - first, height, width, rows, columns, gradient_c, gradient_y, gradient_x,
                    MODE, PADDING, MASKED, TAPS, REACH, GROUP,
                )  # fmt: skip
    if SCALED:
        b_sums = _scaled(b_sums, tl.load(p_scale), GROUP)
    if SOFTMAX:
        o_logit = sample * logit_b + y.to(tl.int64) * logit_y + x.to(tl.int64) * logit_x
        b_sums = _led_through(b_sums, p_logits + o_logit, m_pixel, logit_c, GROUP)
    for i in tl.static_range(GROUP):
        channel = tl.full([1, 1], i, tl.int64) + first
        b_sum = b_sums[i]
        if NORMALIZED:
            b_sum = b_sum / tl.load(p_std + channel, mask=channel < channels, other=1.0)
        o_sum = sample * sum_b + channel * sum_c + y.to(tl.int64) * sum_y + x.to(tl.int64) * sum_x
        tl.store(p_sum + o_sum, b_sum.to(p_sum.dtype.element_ty), mask=m_pixel & (channel < channels))


@triton.jit
def _footprint(
    b_sums, p_gradient, p_shown, p_coordinates, sample, x, y, m_pixel,
    settling, channels, height, width, rows, columns, gradient_c, gradient_y, gradient_x,
    MODE: tl.constexpr, PADDING: tl.constexpr, MASKED: tl.constexpr, TAPS: tl.constexpr,
    REACH: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """The sums with all that reads the lattice points (x, y) added."""
    p_sample = p_coordinates + sample * 6
    xx, xy, x0 = tl.load(p_sample), tl.load(p_sample + 1), tl.load(p_sample + 2)
    yx, yy, y0 = tl.load(p_sample + 3), tl.load(p_sample + 4), tl.load(p_sample + 5)
    reach = REACH + settling * PX_PER_UNIT + ROUNDING
    u, v = x.to(tl.int64) << BITS, y.to(tl.int64) << BITS
    b_first, b_last = _rows_reading(xx, xy, yx, yy, _px(u - x0), _px(v - y0), reach, rows)
    steep_x, half_x = _span(xx, reach)
    steep_y, half_y = _span(yx, reach)
    tries = tl.minimum(2 * tl.minimum(half_x, half_y) + 1, columns * 1.0).to(tl.int32)
    for i in range(tl.max(tl.where(m_pixel, b_last - b_first + 1, 0))):
        row = b_first + i
        row_x, row_y = xy * row + x0, yy * row + y0
        # Columns whose places are near enough along x and along y, counted from the later of the two beginnings.
        b_left = tl.maximum(_px(u - row_x) * steep_x - half_x, _px(v - row_y) * steep_y - half_y)
        b_left = tl.math.ceil(tl.minimum(tl.maximum(b_left, 0.0), columns * 1.0)).to(tl.int32)
        place_x, place_y = xx * b_left + row_x, yx * b_left + row_y
        for j in range(tries):
            column = b_left + j
            at_x, at_y = settled(place_x, settling), settled(place_y, settling)
            weight_x, m_x = weight_on(at_x, x, width, MODE, TAPS, "fill")
            weight_y, m_y = weight_on(at_y, y, height, MODE, TAPS, "fill")
            m_read = m_pixel & m_x & m_y & (row <= b_last) & (column < columns)
            if MASKED:
                m_read = m_read & (tl.load(p_shown + row.to(tl.int64) * columns + column, mask=m_read, other=0) != 0)
            elif PADDING == "fill":
                m_read = m_read & within(at_x, width, MODE, TAPS) & within(at_y, height, MODE, TAPS)
            p_read = p_gradient + row.to(tl.int64) * gradient_y + column.to(tl.int64) * gradient_x
            b_sums = _added(b_sums, p_read, weight_x * weight_y, m_read, channels, gradient_c, GROUP)
            place_x, place_y = place_x + xx, place_y + yx
    return b_sums


@triton.jit
def _moved_here(
    b_sums, p_gradient, p_shown, p_coordinates, sample, x, y, m_pixel,
    channels, rows, columns, gradient_c, gradient_y, gradient_x, MASKED: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """The sums with the one output pixel added that a permutation has moved each of (x, y) to."""
    column, row = unpermuted(p_coordinates + sample * 18, x.to(tl.int64), y.to(tl.int64))
    m_read = m_pixel & (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    if MASKED:
        m_read = m_read & (tl.load(p_shown + row * columns + column, mask=m_read, other=0) != 0)
    p_read = p_gradient + row * gradient_y + column * gradient_x
    return _added(b_sums, p_read, tl.full(m_read.shape, 1.0, tl.float32), m_read, channels, gradient_c, GROUP)


@triton.jit
def _rows_reading(xx, xy, yx, yy, b_x, b_y, reach, rows):
    """First and last output row that may read points (b_x, b_y) px away from what output pixel (0, 0) samples."""
    one, other = xx.to(tl.float64) * yy.to(tl.float64), xy.to(tl.float64) * yx.to(tl.float64)
    determinant = one - other
    # Lost in the rounding of its terms: all rows are tried.
    flat = tl.abs(determinant) <= (tl.abs(one) + tl.abs(other)) * 2.0**-30
    scale = tl.where(flat, 0.0, 1.0 / (tl.where(flat, 1.0, determinant) * PX_PER_UNIT))
    down_x, down_y = (-yx.to(tl.float64) * scale).to(tl.float32), (xx.to(tl.float64) * scale).to(tl.float32)
    away = tl.where(flat, FAR_PX, reach * (tl.abs(down_x) + tl.abs(down_y)))
    b_by_x, b_by_y = down_x * b_x, down_y * b_y
    b_away = (away + tl.abs(b_by_x) + tl.abs(b_by_y)) * ROUNDING + away + SLACK_PX
    b_first = tl.math.ceil(tl.maximum(tl.minimum(b_by_x + b_by_y - b_away, rows * 1.0), 0.0))
    b_last = tl.math.floor(tl.minimum(tl.maximum(b_by_x + b_by_y + b_away, -1.0), rows - 1.0))
    # Where a coordinate is the same all over the output, other points are never read.
    still_x, still_y = (xx == 0) & (xy == 0), (yx == 0) & (yy == 0)
    m_missed = (still_x & (tl.abs(b_x) > reach)) | (still_y & (tl.abs(b_y) > reach))
    return b_first.to(tl.int32), tl.where(m_missed, -1, b_last.to(tl.int32))


@triton.jit
def _span(step, reach):
    """Columns per px along one axis, and how many columns to each side come within reach; 0 and far if none does."""
    px = _px(step)
    still = px == 0
    steep = tl.where(still, 0.0, 1.0 / tl.where(still, 1.0, px))
    half = tl.where(still, FAR_PX, reach * tl.abs(steep) * (1 + ROUNDING) + SLACK_PX)
    return steep, tl.minimum(half, FAR_PX)


@triton.jit
def _px(units):
    return units.to(tl.float32) * PX_PER_UNIT


@triton.jit
def _added(b_sums, p_read, b_weight, m_read, channels, gradient_c, GROUP: tl.constexpr):
    """The sums of a group of channels with one more output pixel for each source pixel."""
    b_new = nothing()
    for i in tl.static_range(GROUP):
        channel = tl.full([1, 1], i, tl.int64)
        m_channel = m_read & (channel < channels)
        b_gradient = tl.load(p_read + channel * gradient_c, mask=m_channel, other=0.0).to(tl.float32)
        b_new = b_new + (b_sums[i] + b_gradient * b_weight,)
    return b_new


@triton.jit
def _scaled(b_sums, factor, GROUP: tl.constexpr):
    b_new = nothing()
    for i in tl.static_range(GROUP):
        b_new = b_new + (b_sums[i] * factor,)
    return b_new


@triton.jit
def _led_through(b_sums, p_logits, m_pixel, logit_c, GROUP: tl.constexpr):
    """Gradients to logits from those to their softmax, all channels of a pixel; 0 where all of these are 0."""
    m_live = m_pixel & ~m_pixel
    for i in tl.static_range(GROUP):
        m_live = m_live | (b_sums[i] != 0)
    m_live = m_live & m_pixel
    b_peak = tl.full(m_pixel.shape, LOWEST, tl.float32)
    b_total = tl.zeros(m_pixel.shape, tl.float32)
    b_mean = tl.zeros(m_pixel.shape, tl.float32)
    for i in tl.static_range(GROUP):
        channel = tl.full([1, 1], i, tl.int64)
        b_logit = tl.load(p_logits + channel * logit_c, mask=m_live, other=0.0).to(tl.float32)
        b_peak, b_shrink, b_exponential = grown(b_peak, b_logit)
        b_total = b_total * b_shrink + b_exponential
        b_mean = b_mean * b_shrink + b_exponential * b_sums[i]
    b_total = normalizer(b_peak, b_total)
    b_mean = b_mean / b_total
    b_new = nothing()
    for i in tl.static_range(GROUP):
        channel = tl.full([1, 1], i, tl.int64)
        b_logit = tl.load(p_logits + channel * logit_c, mask=m_live, other=0.0).to(tl.float32)
        # Nothing is read where nothing is live: the sums are 0, and so is this.
        b_new = b_new + (tl.exp(b_logit - b_peak) / b_total * (b_sums[i] - b_mean),)
    return b_new


@triton.jit
def _floored(number, length):
    """`number // length` rounded down; // rounds towards zero here."""
    return (number - tl.where(number < 0, length - 1, 0)) // length


@triton.jit
def _mirrored(pixel, copy, length):
    """Where the image of a pixel is in a copy of the frame; every other copy is a mirror image."""
    odd = copy & 1
    return copy * length + tl.where(odd == 1, length - 1 - pixel, pixel)
