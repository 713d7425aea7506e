"""What an output row reads, for the kernels that most calls take: bilinear, fixed point, padding fill.

Whole and fraction of a coordinate are the words of an int64, so all but the stepping is done with 32 bits.
"""

import numpy as np

from .kernel import kernel
from .rows import FRACTION_BITS, HALF, ONE

UNIT = np.float32(1.0 / ONE)
RING = np.int32(HALF - 1)


@kernel
def inside_columns(coordinates, y, slack, width, height, columns):
    """The output columns begin..end that show something inside, and where column `begin` samples, x and y."""
    start_x = coordinates[0, 1] * y + coordinates[0, 2]
    start_y = coordinates[1, 1] * y + coordinates[1, 2]
    begin, end = within(start_x, coordinates[0, 0], -slack, ((width - 1) << FRACTION_BITS) + slack, 0, columns)
    begin, end = within(start_y, coordinates[1, 0], -slack, ((height - 1) << FRACTION_BITS) + slack, begin, end)
    return begin, end, start_x + coordinates[0, 0] * begin, start_y + coordinates[1, 0] * begin


@kernel
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


@kernel
def weigh_row(coordinates, start_x, start_y, slack, pitch, count, index, corners):
    """Fill the first taps and the weights of columns that read inside; returns whether any lies on the lattice.

    Args:
        coordinates: Of the sample, [2, 3] int64.
        start_x: Where the first column samples.
        start_y: Along y.
        slack: Of settling.
        pitch: Pixels from a row of the source to the next.
        count: Of columns.
        index: [columns] int32, written.
        corners: [4, columns] float32, written.
    """
    step_x, step_y = coordinates[0, 0], coordinates[1, 0]
    # Raised by the slack, so that settling (`s4aug.transform.settled`) takes off of the low word alone.
    place_x, place_y = start_x + slack, start_y + slack
    above, most = np.int32(slack), np.int32(2 * slack)
    on_lattice, row = np.int32(0), np.int32(pitch)
    for x in range(count):
        low_x, low_y = np.int32(place_x), np.int32(place_y)
        aside_x, aside_y = np.int32(low_x & RING), np.int32(low_y & RING)
        low_x = np.int32(low_x - (aside_x if aside_x <= most else above))
        low_y = np.int32(low_y - (aside_y if aside_y <= most else above))
        on_lattice |= np.int32((low_x == 0) | (low_y == 0))
        index[x] = np.int32(np.int32(place_y >> FRACTION_BITS) * row) + np.int32(place_x >> FRACTION_BITS)
        near_x, near_y = np.float32(np.uint32(low_x)) * UNIT, np.float32(np.uint32(low_y)) * UNIT
        far_x = np.float32(np.uint32(-low_x)) * UNIT if low_x != 0 else np.float32(1)
        far_y = np.float32(np.uint32(-low_y)) * UNIT if low_y != 0 else np.float32(1)
        corners[0, x], corners[1, x] = far_x * far_y, near_x * far_y
        corners[2, x], corners[3, x] = far_x * near_y, near_x * near_y
        place_x += step_x
        place_y += step_y
    return on_lattice != 0


@kernel
def mask_row(mask, first, index, corners, below, on_lattice, shown):
    """Where columns read real pixels alone; a tap without weight is not asked.

    Args:
        mask: [H * W] bool.
        first: The pixel from which `index` counts.
        index: As `weigh_row` fills it.
        corners: As `weigh_row` fills it.
        below: From a pixel to the one below.
        on_lattice: Whether any column lies on the lattice.
        shown: [columns] bool, written.
    """
    one, below = np.uint64(1), np.uint64(below)
    if on_lattice:
        for x in range(len(shown)):
            place = np.uint64(first + index[x])
            shown[x] = (
                mask[place]
                and (corners[1, x] == 0 or mask[place + one])
                and (corners[2, x] == 0 or mask[place + below])
                and (corners[3, x] == 0 or mask[place + below + one])
            )
        return
    for x in range(len(shown)):
        place = np.uint64(first + index[x])
        shown[x] = mask[place] & mask[place + one] & mask[place + below] & mask[place + below + one]
