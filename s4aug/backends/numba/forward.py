"""The forward kernels: values and validity in one pass."""

import numpy as np
from numba import njit

from .kernel import kernel
from .rows import BICUBIC, FILL, axis_row, padded, pixel_row, weigh


@kernel
def copy_rows(image, steps, size, coordinates, slack, valid, out, out_steps, real, padding, fill, first, last):
    """Nearest and lifting: whole pixels, as they are.

    Args:
        image: Flat pixels of one sample.
        steps: From a pixel to the next channel, row and column.
        size: Channels, height, width of the source.
        coordinates: Of the sample, as `s4aug.backends.numba.warp` passes them.
        slack: Of settling, in units of 2^-32 px.
        valid: [H, W] bool, or None.
        out: Flat pixels of one output sample; its steps follow.
        out_steps: As `steps`.
        real: [h, w] bool, written.
        padding: FILL, BORDER or REFLECTION.
        fill: Where nothing is read.
        first: First output row of this chunk.
        last: One past its last row.
    """
    channels, height, width = size
    columns = real.shape[1]
    xs, ys = np.empty(columns, np.int64), np.empty(columns, np.int64)
    for y in range(first, last):
        pixel_row(coordinates, y, slack, xs, ys)
        for x in range(columns):
            px, py = xs[x], ys[x]
            inside = px >= 0 and px < width and py >= 0 and py < height
            readable = inside or padding != FILL
            if not inside and readable:
                px, py = padded(px, width, padding), padded(py, height, padding)
            if valid is not None and readable:
                readable = valid[py, px]
            real[y, x] = inside and readable
            place, target = py * steps[1] + px * steps[2], y * out_steps[1] + x * out_steps[2]
            for c in range(channels):
                out[target + c * out_steps[0]] = image[place + c * steps[0]] if readable else fill


@kernel
def weighted_rows(
    image, steps, size, coordinates, slack, valid, mean, std, out, out_steps, real, mode, padding, fill, first, last
):
    """Bilinear and bicubic; arguments as in `copy_rows`, and `mean`, `std` [C] or None."""
    columns = real.shape[1]
    height, width = size[1], size[2]
    kind = out.dtype
    taps = 4 if mode == BICUBIC else 2
    whole_x, whole_y = np.empty(columns, np.int64), np.empty(columns, np.int64)
    near_x, near_y = np.empty(columns, kind), np.empty(columns, kind)
    far_x, far_y = np.empty(columns, kind), np.empty(columns, kind)
    places_x, places_y = np.empty((taps, columns), np.int64), np.empty((taps, columns), np.int64)
    weights_x, weights_y = np.empty((taps, columns), kind), np.empty((taps, columns), kind)
    unused = np.empty((taps, columns), kind)
    for y in range(first, last):
        axis_row(coordinates[0], y, slack, whole_x, near_x, far_x)
        axis_row(coordinates[1], y, slack, whole_y, near_y, far_y)
        begin, end = 0, columns
        if padding == FILL:
            begin, end = _interval(whole_x, near_x, width, whole_y, near_y, height)
        row = real[y]
        weigh(whole_x, near_x, far_x, mode, places_x, weights_x, unused)
        weigh(whole_y, near_y, far_y, mode, places_y, weights_y, unused)
        for x in range(columns):
            if x < begin or x >= end:
                row[x] = False
                for c in range(size[0]):
                    out[y * out_steps[1] + x * out_steps[2] + c * out_steps[0]] = fill
                continue
            inside, readable = judge(places_x, near_x[x] > 0, width, places_y, near_y[x] > 0, height, x, padding, valid)
            row[x] = inside and readable
            for c in range(size[0]):
                target = y * out_steps[1] + x * out_steps[2] + c * out_steps[0]
                if not readable:
                    out[target] = fill
                    continue
                total = kind.type(0)
                for j in range(taps if near_y[x] > 0 else 1):
                    line = padded(places_y[j, x], height, padding) * steps[1] + c * steps[0]
                    for i in range(taps if near_x[x] > 0 else 1):
                        place = line + padded(places_x[i, x], width, padding) * steps[2]
                        value = kind.type(image[place]) * (weights_x[i, x] * weights_y[j, x])
                        # A sum begun with 0 would turn -0.0 into 0.0.
                        total = value if i == 0 and j == 0 else total + value
                out[target] = total if mean is None else (total - mean[c]) / std[c]


@kernel
def judge(places_x, off_x, width, places_y, off_y, height, x, padding, valid):
    """Whether the taps of weight other than zero lie inside, and whether the pixel can be read at all."""
    inside = True
    masked = False
    for j in range(len(places_y) if off_y else 1):
        py = places_y[j, x]
        inside = inside and py >= 0 and py < height
        for i in range(len(places_x) if off_x else 1):
            px = places_x[i, x]
            inside = inside and px >= 0 and px < width
            if valid is not None and not valid[padded(py, height, padding), padded(px, width, padding)]:
                masked = True
    return inside, (inside or padding != FILL) and not masked


@njit(inline="always")
def _interval(whole_x, near_x, width, whole_y, near_y, height):
    """The columns that may be inside: they lie side by side, for the map is affine."""
    begin, end = 0, len(whole_x)
    while begin < end and not _within(whole_x, near_x, width, whole_y, near_y, height, begin):
        begin += 1
    while end > begin and not _within(whole_x, near_x, width, whole_y, near_y, height, end - 1):
        end -= 1
    return begin, end


@njit(inline="always")
def _within(whole_x, near_x, width, whole_y, near_y, height, x):
    return (
        whole_x[x] >= 0
        and whole_x[x] + (near_x[x] > 0) < width
        and whole_y[x] >= 0
        and whole_y[x] + (near_y[x] > 0) < height
    )
