"""Where the pixels of an output row sample the source: the coordinates of `s4aug.transform`, row by row."""

import numpy as np
from numba import njit, types
from numba.extending import overload, register_jitable

FRACTION_BITS = 32
ONE = 1 << FRACTION_BITS
HALF = ONE >> 1
QUARTER = ONE >> 2
LATTICE_TOLERANCE_PX = 1e-9
LIFTING_BITS = 40
SNAP_BITS = 20

BICUBIC_A = -0.75
BILINEAR, BICUBIC = range(2)
FILL, BORDER, REFLECTION = range(3)


def axis_row(coordinates, y, slack, whole, fraction, remainder):
    """Fill lattice points at or below, and distances, along one source axis for a row of output pixels."""
    raise NotImplementedError


@overload(axis_row)
def _(coordinates, y, slack, whole, fraction, remainder):
    return _fixed_row if isinstance(coordinates.dtype, types.Integer) else _real_row


def _fixed_row(coordinates, y, slack, whole, fraction, remainder):
    step = coordinates[0]
    start = coordinates[1] * y + coordinates[2]
    kind = fraction.dtype.type
    unit = kind(1.0 / ONE)
    for x in range(len(whole)):
        place = start + step * x
        aside = ((place + QUARTER) & (HALF - 1)) - QUARTER
        place = place - aside if abs(aside) <= slack else place
        low = place & (ONE - 1)
        whole[x] = place >> FRACTION_BITS
        fraction[x] = kind(low) * unit
        remainder[x] = kind(ONE - low) * unit


def _real_row(coordinates, y, slack, whole, fraction, remainder):
    start = coordinates[1] * y + coordinates[2]
    for x in range(len(whole)):
        place = coordinates[0] * x + start
        lattice = np.rint(place)
        place = lattice if abs(place - lattice) < LATTICE_TOLERANCE_PX else place
        below = np.floor(place)
        whole[x] = np.int64(below)
        fraction[x] = place - below
        remainder[x] = 1 - fraction[x]


def pixel_row(coordinates, y, slack, xs, ys):
    """Fill the source pixels that a row of output pixels shows: the nearest, or those that lifting leads to."""
    raise NotImplementedError


@overload(pixel_row)
def _(coordinates, y, slack, xs, ys):
    return _lifted_row if coordinates.ndim == 1 else _nearest_row


@register_jitable
def _nearest_row(coordinates, y, slack, xs, ys):
    nearest_axis(coordinates[0], y, slack, xs)
    nearest_axis(coordinates[1], y, slack, ys)


def nearest_axis(coordinates, y, slack, nearest):
    """Fill the nearest lattice points, ties upwards, along one source axis for a row of output pixels."""
    raise NotImplementedError


@overload(nearest_axis)
def _(coordinates, y, slack, nearest):
    return _fixed_nearest if isinstance(coordinates.dtype, types.Integer) else _real_nearest


def _fixed_nearest(coordinates, y, slack, nearest):
    start = coordinates[1] * y + coordinates[2]
    for x in range(len(nearest)):
        place = start + coordinates[0] * x
        aside = ((place + QUARTER) & (HALF - 1)) - QUARTER
        place = place - aside if abs(aside) <= slack else place
        nearest[x] = (place + HALF) >> FRACTION_BITS


def _real_nearest(coordinates, y, slack, nearest):
    start = coordinates[1] * y + coordinates[2]
    for x in range(len(nearest)):
        place = coordinates[0] * x + start
        lattice = np.rint(place)
        place = lattice if abs(place - lattice) < LATTICE_TOLERANCE_PX else place
        nearest[x] = np.int64(np.floor(place + 0.5 + LATTICE_TOLERANCE_PX))


@register_jitable
def _lifted_row(coordinates, y, slack, xs, ys):
    # Laid out by `Lifting.packed`.
    factors = coordinates
    for x in range(len(xs)):
        u = factors[0] * x + factors[1] * y
        v = factors[2] * x + factors[3] * y
        u += _lifted(factors, 0, v)
        v += _lifted(factors, 1, u)
        u += _lifted(factors, 2, v)
        fits = factors[17] != 0
        xs[x] = factors[13] * u + factors[14] * v if fits else -1
        ys[x] = factors[15] * u + factors[16] * v if fits else -1


@register_jitable
def _lifted(factors, step, across):
    multiple = factors[4 + step] * across + factors[7 + step]
    low = LIFTING_BITS - SNAP_BITS
    steps = (abs(multiple) + (1 << (low - 1))) >> low
    size = (steps + (1 << (SNAP_BITS - 1))) >> SNAP_BITS
    return (-size if multiple < 0 else size) + factors[10 + step]


@njit(inline="always")
def padded(index, length, padding):
    """The pixel that stands for one beyond the edge."""
    if padding == REFLECTION:
        index = index % (2 * length)
        return min(index, 2 * length - 1 - index)
    return min(max(index, 0), length - 1)


@register_jitable
def weigh(whole, fraction, remainder, mode, places, weights, slopes):
    """Fill places, weights and their slopes [taps, w] of the taps along one axis, the one always read first."""
    one = fraction.dtype.type(1)
    for x in range(len(whole)):
        near, far = fraction[x], remainder[x]
        places[0, x] = whole[x]
        if mode == BILINEAR:
            places[1, x] = whole[x] + 1
            weights[0, x], weights[1, x] = far, near
            slopes[0, x], slopes[1, x] = -1, 1
        else:
            places[1, x], places[2, x], places[3, x] = whole[x] - 1, whole[x] + 1, whole[x] + 2
            weights[0, x], slopes[0, x] = _inner(near)
            weights[1, x], slopes[1, x] = _outer(one + near)
            weights[2, x], slope = _inner(far)
            slopes[2, x] = -slope
            weights[3, x], slope = _outer(one + far)
            slopes[3, x] = -slope


@njit(inline="always")
def _inner(distance):
    """The cubic weight within a pixel's distance, and its slope; the constants are exact in every type."""
    a, b, one = _like(distance, BICUBIC_A + 2), _like(distance, BICUBIC_A + 3), _like(distance, 1)
    weight = (a * distance - b) * distance * distance + one
    return weight, (_like(distance, 3) * a * distance - _like(distance, 2) * b) * distance


@njit(inline="always")
def _outer(distance):
    """The cubic weight between one and two pixels' distance, and its slope."""
    a, five, eight = _like(distance, BICUBIC_A), _like(distance, 5), _like(distance, 8)
    weight = a * (((distance - five) * distance + eight) * distance - _like(distance, 4))
    return weight, a * ((_like(distance, 3) * distance - _like(distance, 10)) * distance + eight)


def _like(value, constant):
    """A constant in the type of a value."""
    raise NotImplementedError


@overload(_like, inline="always")
def _(value, constant):
    kind = value if isinstance(value, types.Float) else types.float64
    convert = np.float32 if kind == types.float32 else np.float64
    return lambda value, constant: convert(constant)
