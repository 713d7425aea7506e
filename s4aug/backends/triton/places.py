"""Where pixels are in the source, inside kernels: fixed-point places, their taps and the taps' weights.

All of it follows `s4aug.transform` to the bit. A place is a coordinate as int64 in units of 2^-32 px; a tap is a
source pixel that a place reads along one axis, numbered from the one that is always read.
"""

import triton
import triton.language as tl

from ...transform import FRACTION_BITS, HALF, ONE, QUARTER
from .permutation import permuted

BITS = tl.constexpr(FRACTION_BITS)
UNIT = tl.constexpr(ONE)
HALF_UNIT = tl.constexpr(HALF)
QUARTER_UNIT = tl.constexpr(QUARTER)
PX_PER_UNIT = tl.constexpr(1.0 / ONE)
BICUBIC_A = tl.constexpr(-0.75)  # as in torch and OpenCV


@triton.jit
def nothing():
    """A tuple of no blocks, to add blocks to."""
    return ()


@triton.jit
def settled(place, settling):
    """Places beside a multiple of half a pixel brought back to it; only the low words decide."""
    # How far above the first place that settles, in a ring of half pixels.
    above = (place.to(tl.uint32) + settling) & (HALF_UNIT - 1)
    aside = above.to(tl.int32) - settling
    return place - tl.where(above <= 2 * settling, aside, 0)


@triton.jit
def places(p_coordinates, sample, column, row, settling, MODE: tl.constexpr):
    """The places x and y that output pixels sample."""
    if MODE == "lifting":
        x, y = permuted(p_coordinates + sample * 18, column.to(tl.int64), row.to(tl.int64))
        return x << BITS, y << BITS
    p_sample = p_coordinates + sample * 6
    x = tl.load(p_sample) * column + (tl.load(p_sample + 1) * row + tl.load(p_sample + 2))
    y = tl.load(p_sample + 3) * column + (tl.load(p_sample + 4) * row + tl.load(p_sample + 5))
    return settled(x, settling), settled(y, settling)


@triton.jit
def first_index(place, MODE: tl.constexpr):
    """The source pixel of the tap that is always read, int32, not yet padded."""
    if MODE == "nearest" or MODE == "lifting":
        return ((place + HALF_UNIT) >> BITS).to(tl.int32)
    return (place >> BITS).to(tl.int32)


@triton.jit
def tap_step(TAP: tl.constexpr, MODE: tl.constexpr):
    """How many pixels a tap lies beside the first: in the order in which the reference adds cubics, 0, -1, 1, 2."""
    if MODE == "bilinear" or TAP == 0:
        return TAP
    return -1 if TAP == 1 else TAP - 1


@triton.jit
def tap_index(place, TAP: tl.constexpr, MODE: tl.constexpr):
    """The source pixel of a tap, int32, not yet padded."""
    return first_index(place, MODE) + tap_step(TAP, MODE)


@triton.jit
def tap_offset(place, TAP: tl.constexpr, length, stride, MODE: tl.constexpr, PADDING: tl.constexpr):
    """Where a tap is in memory along one axis; with padding fill it may lie outside."""
    if PADDING == "fill":
        # Whole strides beside the first tap, so that addresses differ by what all threads share.
        return first_index(place, MODE).to(tl.int64) * stride + tap_step(TAP, MODE) * stride
    return padded(tap_index(place, TAP, MODE), length, PADDING).to(tl.int64) * stride


@triton.jit
def tap_used(place, TAP: tl.constexpr):
    """Whether the tap's weight is not zero: on the lattice only the first is."""
    if TAP == 0:
        return place == place
    return place.to(tl.uint32) != 0


@triton.jit
def parts(place):
    """How far a place lies above its lattice point and below the next, px, each rounded on its own."""
    low = place.to(tl.uint32)
    below = (tl.zeros_like(low) - low).to(tl.float32) * PX_PER_UNIT
    return low.to(tl.float32) * PX_PER_UNIT, tl.where(low == 0, 1.0, below)


@triton.jit
def tap_weight(place, TAP: tl.constexpr, MODE: tl.constexpr):
    """The tap's weight, float32."""
    near, far = parts(place)
    if MODE == "nearest" or MODE == "lifting":
        return tl.full(near.shape, 1.0, tl.float32)
    if MODE == "bilinear":
        return far if TAP == 0 else near
    if TAP == 0:
        return _inner(near)
    if TAP == 1:
        return _outer(1 + near)
    return _inner(far) if TAP == 2 else _outer(1 + far)


@triton.jit
def tap_slope(place, TAP: tl.constexpr, MODE: tl.constexpr):
    """The change of the tap's weight per px that the place moves up, float32."""
    near, far = parts(place)
    if MODE == "bilinear":
        return tl.full(near.shape, -1.0 if TAP == 0 else 1.0, tl.float32)
    if TAP == 0:
        return _inner_slope(near)
    # The outer slopes as products, which do not cancel: near + far = 1.
    if TAP == 1:
        return BICUBIC_A * (1 - 3 * near) * far
    return -_inner_slope(far) if TAP == 2 else BICUBIC_A * (3 * far - 1) * near


@triton.jit
def _inner(d):
    return ((BICUBIC_A + 2) * d - (BICUBIC_A + 3)) * d * d + 1


@triton.jit
def _outer(d):
    return BICUBIC_A * (((d - 5) * d + 8) * d - 4)


@triton.jit
def _inner_slope(d):
    return (3 * (BICUBIC_A + 2) * d - 2 * (BICUBIC_A + 3)) * d


@triton.jit
def padded(index, length, PADDING: tl.constexpr):
    """The pixel inside that stands for an index; the nearest one but for reflection."""
    if PADDING == "reflection":
        # % has the sign of the dividend here.
        period = index % (2 * length)
        period = tl.where(period < 0, period + 2 * length, period)
        return tl.minimum(period, 2 * length - 1 - period)
    return tl.minimum(tl.maximum(index, 0), length - 1)


@triton.jit
def within(place, length, MODE: tl.constexpr, TAPS: tl.constexpr):
    """Whether every used tap lies inside."""
    inside = place == place
    for TAP in tl.static_range(TAPS):
        # As unsigned, what is below 0 is above any length.
        within_frame = tap_index(place, TAP, MODE).to(tl.uint32) < length
        inside = inside & (within_frame | ~tap_used(place, TAP))
    return inside


@triton.jit
def weight_on(place, pixel, length, MODE: tl.constexpr, TAPS: tl.constexpr, PADDING: tl.constexpr):
    """How much a place reads a source pixel, float32, and whether it does at all.

    With padding fill the pixel may be any lattice point; with another, all that stands for it counts.
    """
    b_weight = tl.zeros_like(place).to(tl.float32)
    m_read = place != place
    for TAP in tl.static_range(TAPS):
        index = tap_index(place, TAP, MODE)
        if PADDING != "fill":
            index = padded(index, length, PADDING)
        m_tap = (index == pixel) & tap_used(place, TAP)
        b_weight = b_weight + tl.where(m_tap, tap_weight(place, TAP, MODE), 0.0)
        m_read = m_read | m_tap
    return b_weight, m_read


@triton.jit
def extent(p_coordinates, sample, column, row, columns, rows, settling, MODE: tl.constexpr):
    """Bounds (left, right, top, bottom), int32 px, on what `columns` by `rows` output pixels from a corner on read."""
    b_column = column + tl.arange(0, 2)[None, :] * (columns - 1)
    b_row = row + tl.arange(0, 2)[:, None] * (rows - 1)
    x, y = places(p_coordinates, sample, b_column, b_row, settling, MODE)
    x, y = (x >> BITS).to(tl.int32), (y >> BITS).to(tl.int32)
    # Two taps of a cubic aside, or three for a permutation: 1.5 px off at a corner and 1.5 px off between.
    return tl.min(x) - 4, tl.max(x) + 4, tl.min(y) - 4, tl.max(y) + 4
