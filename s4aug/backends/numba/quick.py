"""The kernels that most warps take: bilinear, fixed point, padding fill. The others say what these must equal."""

import numpy as np
from numba import njit

from .prefetch import prefetch
from .rows import FRACTION_BITS, HALF, ONE, QUARTER

UNIT = np.float32(1.0 / ONE)
ROWS_AHEAD, PIXELS_PER_HINT = 3, 8


@njit(nogil=True, cache=True)
def bilinear_rows(image, steps, size, coordinates, slack, valid, mean, std, out, out_steps, real, fill, first, last):
    """`weighted_rows` for mode bilinear and padding fill; arguments as there."""
    channels, height, width = size
    columns = real.shape[1]
    right, below = np.uint64(steps[2]), np.uint64(steps[1])
    channels_per_line = 1 if steps[2] == 1 else 16
    index, corners = np.empty(columns, np.uint64), np.empty((4, columns), np.float32)
    for y in range(first, last):
        begin, end, start_x, start_y = inside_columns(coordinates, y, slack, width, height, columns)
        step_x, step_y = coordinates[0, 0], coordinates[1, 0]
        count = end - begin
        on_lattice = weigh_row(coordinates, start_x, start_y, slack, width, count, index, corners)
        row = real[y]
        row[:begin] = False
        row[end:] = False
        shown = row[begin:end]
        shown[:] = True
        if valid is not None:
            _mask_row(valid.reshape(height * width), index, corners, np.uint64(width), on_lattice, shown)
        # What the rows to come will read.
        ahead_x, ahead_y = start_x + ROWS_AHEAD * coordinates[0, 1], start_y + ROWS_AHEAD * coordinates[1, 1]
        for c in range(0, channels, channels_per_line):
            for x in range(0, count, PIXELS_PER_HINT):
                place_x, place_y = (ahead_x + step_x * x) >> FRACTION_BITS, (ahead_y + step_y * x) >> FRACTION_BITS
                prefetch(image, c * steps[0] + place_y * steps[1] + place_x * steps[2])
        for c in range(channels):
            at = c * out_steps[0] + y * out_steps[1]
            if out_steps[2] == 1:
                line = out[at : at + columns]
                _sample_row(image[c * steps[0] :], index, corners, right, below, on_lattice, line[begin:end])
                _finish_row(line, begin, end, shown, valid, fill, mean, std, c)
            else:
                spaced = out[at : at + (columns - 1) * out_steps[2] + 1 : out_steps[2]]
                _sample_row(image[c * steps[0] :], index, corners, right, below, on_lattice, spaced[begin:end])
                _finish_row(spaced, begin, end, shown, valid, fill, mean, std, c)


@njit(nogil=True, cache=True)
def _sample_row(plane, index, corners, right, below, on_lattice, target):
    """Weighted sums of four taps; where any column lies on the lattice, of the taps that have weight."""
    if on_lattice:
        for x in range(len(target)):
            place = index[x] * right
            # Begun with the tap that always has weight: a sum begun with 0 would turn -0.0 into 0.0.
            value = np.float32(plane[place]) * corners[0, x]
            if corners[1, x] != 0:
                value += np.float32(plane[place + right]) * corners[1, x]
            if corners[2, x] != 0:
                value += np.float32(plane[place + below]) * corners[2, x]
            if corners[3, x] != 0:
                value += np.float32(plane[place + below + right]) * corners[3, x]
            target[x] = value
        return
    for x in range(len(target)):
        place = index[x] * right
        value = np.float32(plane[place]) * corners[0, x]
        value += np.float32(plane[place + right]) * corners[1, x]
        value += np.float32(plane[place + below]) * corners[2, x]
        value += np.float32(plane[place + below + right]) * corners[3, x]
        target[x] = value


@njit(nogil=True, cache=True)
def _finish_row(line, begin, end, shown, valid, fill, mean, std, channel):
    """Normalise what was sampled, and fill what is not shown."""
    line[:begin] = fill
    line[end:] = fill
    target = line[begin:end]
    if mean is not None:
        for x in range(len(target)):
            target[x] = (target[x] - mean[channel]) / std[channel]
    if valid is not None:
        for x in range(len(target)):
            target[x] = target[x] if shown[x] else fill


@njit(inline="always")
def settle(place, slack):
    """`s4aug.transform.settled` for one coordinate."""
    aside = ((place + QUARTER) & (HALF - 1)) - QUARTER
    return place - aside if abs(aside) <= slack else place


@njit(nogil=True, cache=True)
def inside_columns(coordinates, y, slack, width, height, columns):
    """The output columns begin..end that show something inside, and where column `begin` samples, x and y."""
    start_x = coordinates[0, 1] * y + coordinates[0, 2]
    start_y = coordinates[1, 1] * y + coordinates[1, 2]
    begin, end = within(start_x, coordinates[0, 0], -slack, ((width - 1) << FRACTION_BITS) + slack, 0, columns)
    begin, end = within(start_y, coordinates[1, 0], -slack, ((height - 1) << FRACTION_BITS) + slack, begin, end)
    return begin, end, start_x + coordinates[0, 0] * begin, start_y + coordinates[1, 0] * begin


@njit(nogil=True, cache=True)
def within(start, step, low, high, begin, end):
    """The part of begin..end in which `low <= start + step * x <= high`; empty as (begin, begin)."""
    if step == 0:
        return (begin, end) if low <= start <= high else (begin, begin)
    if step < 0:
        start, step, low, high = -start, -step, -high, -low
    # Floor division: the first x with step * x >= low - start, and the last with step * x <= high - start.
    first, last = -((start - low) // step), (high - start) // step
    first, end = max(begin, first), min(end, last + 1)
    return (first, end) if first < end else (begin, begin)


@njit(nogil=True, cache=True)
def _mask_row(mask, index, corners, below, on_lattice, shown):
    """Show what reads real pixels alone; a tap without weight is not asked."""
    one = np.uint64(1)
    if on_lattice:
        for x in range(len(shown)):
            place = index[x]
            shown[x] = (
                mask[place]
                and (corners[1, x] == 0 or mask[place + one])
                and (corners[2, x] == 0 or mask[place + below])
                and (corners[3, x] == 0 or mask[place + below + one])
            )
        return
    for x in range(len(shown)):
        place = index[x]
        shown[x] = mask[place] & mask[place + one] & mask[place + below] & mask[place + below + one]


@njit(nogil=True, cache=True)
def scatter_bilinear(gradient, steps, shape, coordinates, slack, valid, std, out, size, top, bottom):
    """`scatter_weighted` for mode bilinear and padding fill; arguments as there."""
    channels, height, width = size
    out[:, top:bottom] = 0
    area = height * width
    flat = out.reshape(channels * area)
    step_y = coordinates[1, 0]
    index, corners = np.empty(shape[1], np.uint64), np.empty((4, shape[1]), np.float32)
    asked = np.ones(shape[1], np.bool_)
    right, below, plane, skip = np.uint64(1), np.uint64(width), np.uint64(area), np.uint64(steps[0])
    for y in range(shape[0]):
        begin, end, start_x, start_y = inside_columns(coordinates, y, slack, width, height, shape[1])
        # Columns with a tap in the rows; of these the ones with all taps in them, for which nothing need be asked.
        origin = start_y - step_y * begin
        low, high = ((top - 1) << FRACTION_BITS) - slack, (bottom << FRACTION_BITS) + slack
        touch, leave = within(origin, step_y, low, high, begin, end)
        low, high = top << FRACTION_BITS, ((bottom - 1) << FRACTION_BITS) - slack - 1
        enter, until = within(origin, step_y, low, high, touch, leave)
        start_x, start_y = start_x + coordinates[0, 0] * (touch - begin), start_y + step_y * (touch - begin)
        on_lattice = weigh_row(coordinates, start_x, start_y, slack, width, leave - touch, index, corners)
        if on_lattice or enter == until:
            enter = until = leave
        if valid is not None:
            shown = asked[: leave - touch]
            _mask_row(valid.reshape(area), index, corners, below, on_lattice, shown)
        spread = (gradient, steps, y, flat, size, top, bottom)
        for x in range(touch, enter):
            if asked[x - touch]:
                _scatter_one(x, index[x - touch], corners[:, x - touch], std, spread)
        for x in range(until, leave):
            if asked[x - touch]:
                _scatter_one(x, index[x - touch], corners[:, x - touch], std, spread)
        source = np.uint64(y * steps[1] + enter * steps[2])
        for x in range(enter - touch, until - touch):
            place, given_at = index[x], source
            source += np.uint64(steps[2])
            if valid is not None and not asked[x]:
                continue
            a, b, c, d = corners[0, x], corners[1, x], corners[2, x], corners[3, x]
            for k in range(channels):
                given = gradient[given_at]
                if std is not None:
                    given = given / std[k]
                flat[place] += given * a
                flat[place + right] += given * b
                flat[place + below] += given * c
                flat[place + below + right] += given * d
                place += plane
                given_at += skip


@njit(nogil=True, cache=True)
def _scatter_one(x, pixel, weights, std, spread):
    """One output pixel's share, asking of each tap whether it has weight and lies in the rows."""
    gradient, steps, y, flat, size, top, bottom = spread
    channels, height, width = size
    row = np.int64(pixel) // width
    upper, lower = row >= top and row < bottom, row + 1 >= top and row + 1 < bottom
    for k in range(channels):
        given = gradient[y * steps[1] + x * steps[2] + k * steps[0]]
        if std is not None:
            given = given / std[k]
        spot = k * height * width + np.int64(pixel)
        if upper:
            flat[spot] += given * weights[0]
            if weights[1] != 0:
                flat[spot + 1] += given * weights[1]
        if lower and weights[2] != 0:
            flat[spot + width] += given * weights[2]
            if weights[3] != 0:
                flat[spot + width + 1] += given * weights[3]


@njit(nogil=True, cache=True)
def weigh_row(coordinates, start_x, start_y, slack, width, count, index, corners):
    """Fill the first pixel that columns read and the weights; returns how many lie on the lattice along an axis."""
    on_lattice = 0
    for x in range(count):
        place_x = settle(start_x + coordinates[0, 0] * x, slack)
        place_y = settle(start_y + coordinates[1, 0] * x, slack)
        low_x, low_y = place_x & (ONE - 1), place_y & (ONE - 1)
        on_lattice += (low_x == 0) | (low_y == 0)
        index[x] = np.uint64((place_y >> FRACTION_BITS) * width + (place_x >> FRACTION_BITS))
        near_x, near_y = np.float32(low_x) * UNIT, np.float32(low_y) * UNIT
        far_x, far_y = np.float32(ONE - low_x) * UNIT, np.float32(ONE - low_y) * UNIT
        corners[0, x], corners[1, x] = far_x * far_y, near_x * far_y
        corners[2, x], corners[3, x] = far_x * near_y, near_x * near_y
    return on_lattice
