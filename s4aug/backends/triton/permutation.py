"""Lifting inside kernels: the permutation of pixels and its inverse from the 18 numbers of a sample.

Follows `Lifting.pixels` to the bit. The numbers are `before` (4, row by row), `slopes`, `offsets`, `shifts` (3 each),
`after` (4) and whether the permutation fits.
"""

import triton
import triton.language as tl

from ...lifting import FRACTION_BITS, SNAP_BITS

LOW_BITS = tl.constexpr(FRACTION_BITS - SNAP_BITS)
HALF_LOW = tl.constexpr(1 << (FRACTION_BITS - SNAP_BITS - 1))
SNAP = tl.constexpr(SNAP_BITS)
HALF_SNAP = tl.constexpr(1 << (SNAP_BITS - 1))
BEFORE = tl.constexpr(0)
SLOPES = tl.constexpr(4)
OFFSETS = tl.constexpr(7)
SHIFTS = tl.constexpr(10)
AFTER = tl.constexpr(13)
FITS = tl.constexpr(17)


@triton.jit
def permuted(p_lifting, x, y):
    """Where pixels (x, y), int64, go; (-1, -1) in a sample that does not fit."""
    x, y = _turned(p_lifting + BEFORE, x, y)
    x = x + _shift(p_lifting, 0, y)
    y = y + _shift(p_lifting, 1, x)
    x = x + _shift(p_lifting, 2, y)
    x, y = _turned(p_lifting + AFTER, x, y)
    fits = tl.load(p_lifting + FITS) != 0
    return tl.where(fits, x, -1), tl.where(fits, y, -1)


@triton.jit
def unpermuted(p_lifting, x, y):
    """Where pixels (x, y), int64, come from; (-1, -1) in a sample that does not fit."""
    x, y = _turned_back(p_lifting + AFTER, x, y)
    x = x - _shift(p_lifting, 2, y)
    y = y - _shift(p_lifting, 1, x)
    x = x - _shift(p_lifting, 0, y)
    x, y = _turned_back(p_lifting + BEFORE, x, y)
    fits = tl.load(p_lifting + FITS) != 0
    return tl.where(fits, x, -1), tl.where(fits, y, -1)


@triton.jit
def _shift(p_lifting, STEP: tl.constexpr, across):
    fixed = tl.load(p_lifting + SLOPES + STEP) * across + tl.load(p_lifting + OFFSETS + STEP)
    steps = (tl.abs(fixed) + HALF_LOW) >> LOW_BITS
    whole = (steps + HALF_SNAP) >> SNAP
    return tl.where(fixed < 0, -whole, whole) + tl.load(p_lifting + SHIFTS + STEP)


@triton.jit
def _turned(p_turn, x, y):
    a, b, c, d = tl.load(p_turn), tl.load(p_turn + 1), tl.load(p_turn + 2), tl.load(p_turn + 3)
    return a * x + b * y, c * x + d * y


@triton.jit
def _turned_back(p_turn, x, y):
    # A turn's inverse is its transpose.
    a, b, c, d = tl.load(p_turn), tl.load(p_turn + 1), tl.load(p_turn + 2), tl.load(p_turn + 3)
    return a * x + c * y, b * x + d * y
