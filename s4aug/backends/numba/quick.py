"""The forward kernel that most warps take: bilinear, fixed point, padding fill. `forward` says what it must equal."""

import numpy as np

from .columns import inside_columns, mask_row, weigh_row
from .kernel import kernel
from .lanes import PIXELS, as_float, sample_four
from .output import is_filled_there, put_row, row_to_fill
from .prefetch import prefetch
from .rows import FRACTION_BITS

ROWS_AHEAD, PIXELS_PER_HINT = 3, 8


@kernel
def bilinear_rows(image, steps, size, coordinates, slack, valid, mean, std, out, out_steps, real, fill, first, last):
    """`weighted_rows` for mode bilinear and padding fill; arguments as there."""
    channels, height, width = size
    columns = real.shape[1]
    channels_per_line = 1 if steps[2] == 1 else 16
    index, corners = np.empty(columns, np.int32), np.empty((4, columns), np.float32)
    spare = np.empty(columns, np.float32)
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
            mask_row(valid.reshape(height * width), 0, index, corners, width, on_lattice, shown)
        # What the rows to come will read.
        ahead_x, ahead_y = start_x + ROWS_AHEAD * coordinates[0, 1], start_y + ROWS_AHEAD * coordinates[1, 1]
        for c in range(0, channels, channels_per_line):
            for x in range(0, count, PIXELS_PER_HINT):
                place_x, place_y = (ahead_x + step_x * x) >> FRACTION_BITS, (ahead_y + step_y * x) >> FRACTION_BITS
                prefetch(image, c * steps[0] + place_y * steps[1] + place_x * steps[2])
        for c in range(channels):
            at = c * out_steps[0] + y * out_steps[1]
            plane = image[c * steps[0] :]
            line = row_to_fill(out, at, out_steps[2], spare)
            if steps[2] == 1 and not on_lattice:
                _sample_plane(plane, index, corners, steps[1], line[begin:end])
            else:
                _sample_row(plane, index, corners, steps[2], steps[1], on_lattice, line[begin:end])
            _finish_row(line, begin, end, shown, valid, fill, mean, std, c)
            if not is_filled_there(out, out_steps[2]):
                put_row(line, out, at, out_steps[2])


@kernel
def _sample_plane(plane, index, corners, below, target):
    """Weighted sums of four taps, where the pixels of a row lie side by side and none is on the lattice."""
    whole = len(target) - len(target) % PIXELS
    for x in range(0, whole, PIXELS):
        sample_four(plane, index, x, below, corners, target)
    _sample_row(plane, index[whole:], corners[:, whole:], 1, below, False, target[whole:])


@kernel
def _sample_row(plane, index, corners, right, below, on_lattice, target):
    """Weighted sums of four taps; where any column lies on the lattice, of the taps that have weight."""
    right, below = np.uint64(right), np.uint64(below)
    if on_lattice:
        for x in range(len(target)):
            place = np.uint64(index[x]) * right
            # Begun with the tap that always has weight: a sum begun with 0 would turn -0.0 into 0.0.
            value = as_float(plane, place) * corners[0, x]
            if corners[1, x] != 0:
                value += as_float(plane, place + right) * corners[1, x]
            if corners[2, x] != 0:
                value += as_float(plane, place + below) * corners[2, x]
            if corners[3, x] != 0:
                value += as_float(plane, place + below + right) * corners[3, x]
            target[x] = value
        return
    for x in range(len(target)):
        place = np.uint64(index[x]) * right
        value = as_float(plane, place) * corners[0, x]
        value += as_float(plane, place + right) * corners[1, x]
        value += as_float(plane, place + below) * corners[2, x]
        value += as_float(plane, place + below + right) * corners[3, x]
        target[x] = value


@kernel
def _finish_row(line, begin, end, shown, valid, fill, mean, std, channel):
    """Normalise what was sampled, and fill what is not shown."""
    line[:begin] = fill
    line[end:] = fill
    target = line[begin:end]
    if mean is not None:
        middle, spread = mean[channel], std[channel]
        for x in range(len(target)):
            target[x] = (target[x] - middle) / spread
    if valid is not None:
        for x in range(len(target)):
            target[x] = target[x] if shown[x] else fill
