"""The image gradient that most warps take: bilinear, fixed point, padding fill. `adjoint` says what it must equal.

Each thread owns source rows and goes through the output rows that read them. Channels lie side by side while sums are
made, so that one pixel's are added at once.
"""

import numpy as np

from .columns import inside_columns, mask_row, weigh_row, within
from .kernel import kernel
from .lanes import scatter_planes
from .output import is_filled_there, put_row, row_to_fill
from .rows import FRACTION_BITS


@kernel
def scatter_bilinear(
    gradient,
    steps,
    shape,
    coordinates,
    slack,
    valid,
    std,
    out,
    out_steps,
    size,
    planes,
    channels,
    first_channel,
    top,
    bottom,
):
    """`scatter_weighted` for mode bilinear and padding fill, for a group of channels.

    Args:
        gradient: Flat, of one output sample.
        steps: From a pixel of it to the next channel, row and column.
        shape: [h, w] of the output.
        coordinates: Of the sample.
        slack: Of settling.
        valid: [H, W] bool, or None.
        std: [C], or None.
        out: Flat, written within the rows.
        out_steps: As `steps`.
        size: Channels, height, width of the source.
        planes: For each lane, from the first channel of `gradient` to the lane's.
        channels: Of the group; other lanes are nobody's.
        first_channel: Of the group.
        top: First source row of this chunk.
        bottom: One past its last row.
    """
    _, height, width = size
    columns, lanes = shape[1], len(planes)
    sums = new_sums(top, bottom, width, lanes)
    index, corners = np.empty(columns, np.int32), np.empty((4, columns), np.float32)
    asked = np.ones(columns, np.bool_)
    for y in range(shape[0]):
        first, last, on_lattice = taps_in_rows(
            coordinates, y, slack, width, height, columns, top, bottom, index, corners
        )
        shown = asked[: last - first]
        if valid is not None:
            mask_row(valid.reshape(height * width), (top - 1) * width, index, corners, width, on_lattice, shown)
        source = y * steps[1] + first * steps[2]
        for x in range(last - first):
            if shown[x]:
                scatter_planes(gradient, source, planes, corners, x, sums, np.int64(index[x]) * lanes, width * lanes)
            source += steps[2]
    spare = np.empty(width, np.float32)
    for c in range(channels):
        for y in range(top, bottom):
            at = (first_channel + c) * out_steps[0] + y * out_steps[1]
            row = row_to_fill(out, at, out_steps[2], spare)
            line = sums[(y - top + 1) * width * lanes + c :]
            for x in range(width):
                row[x] = line[x * lanes]
            if std is not None:
                row /= std[first_channel + c]
            if not is_filled_there(out, out_steps[2]):
                put_row(row, out, at, out_steps[2])


@kernel
def new_sums(top, bottom, width, lanes):
    """Packed zeros for source rows; one more above and below, and a pixel, take what other taps are given."""
    return np.zeros(((bottom - top + 2) * width + 1) * lanes, np.float32)


@kernel
def taps_in_rows(coordinates, y, slack, width, height, columns, top, bottom, index, corners):
    """The columns first..last of an output row with a tap in source rows, their taps in `new_sums`, and weights.

    Returns:
        first, last, and whether any column lies on the lattice.
    """
    begin, end, start_x, start_y = inside_columns(coordinates, y, slack, width, height, columns)
    step_x, step_y = coordinates[0, 0], coordinates[1, 0]
    low, high = ((top - 1) << FRACTION_BITS) - slack, (bottom << FRACTION_BITS) - 1 - slack
    first, last = within(start_y - step_y * begin, step_y, low, high, begin, end)
    start_x, start_y = start_x + step_x * (first - begin), start_y + step_y * (first - begin)
    start_y -= (top - 1) << FRACTION_BITS
    return first, last, weigh_row(coordinates, start_x, start_y, slack, width, last - first, index, corners)
