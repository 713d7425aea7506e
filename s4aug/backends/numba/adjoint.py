"""The kernels of the gradients. Each thread owns source rows, so that no two write one pixel and order is fixed."""

import numpy as np
from numba import njit

from .forward import judge
from .kernel import kernel
from .rows import BICUBIC, FILL, axis_row, padded, pixel_row, weigh


@kernel
def scatter_copies(gradient, steps, shape, coordinates, slack, valid, out, size, padding, top, bottom):
    """The image gradient of `copy_rows`, for the source rows top..bottom.

    Args:
        gradient: Flat, of one output sample.
        steps: From a pixel of it to the next channel, row and column.
        shape: [h, w] of the output.
        coordinates: Of the sample.
        slack: Of settling.
        valid: [H, W] bool, or None.
        out: [C, H, W], written within the rows.
        size: Channels, height, width of the source.
        padding: FILL, BORDER or REFLECTION.
        top: First source row of this chunk.
        bottom: One past its last row.
    """
    channels, height, width = size
    out[:, top:bottom] = 0
    xs, ys = np.empty(shape[1], np.int64), np.empty(shape[1], np.int64)
    for y in range(shape[0]):
        pixel_row(coordinates, y, slack, xs, ys)
        for x in range(shape[1]):
            px, py = xs[x], ys[x]
            if px < 0 or px >= width or py < 0 or py >= height:
                if padding == FILL:
                    continue
                px, py = padded(px, width, padding), padded(py, height, padding)
            if py < top or py >= bottom or (valid is not None and not valid[py, px]):
                continue
            for c in range(channels):
                out[c, py, px] += gradient[c * steps[0] + y * steps[1] + x * steps[2]]


@kernel
def scatter_weighted(gradient, steps, shape, coordinates, slack, valid, std, out, size, mode, padding, top, bottom):
    """The image gradient of `weighted_rows`; arguments as in `scatter_copies`, and `std` [C] or None."""
    channels, height, width = size
    columns = shape[1]
    kind = out.dtype
    taps = 4 if mode == BICUBIC else 2
    whole_x, whole_y = np.empty(columns, np.int64), np.empty(columns, np.int64)
    near_x, near_y = np.empty(columns, kind), np.empty(columns, kind)
    far_x, far_y = np.empty(columns, kind), np.empty(columns, kind)
    places_x, places_y = np.empty((taps, columns), np.int64), np.empty((taps, columns), np.int64)
    weights_x, weights_y = np.empty((taps, columns), kind), np.empty((taps, columns), kind)
    unused = np.empty((taps, columns), kind)
    out[:, top:bottom] = 0
    for y in range(shape[0]):
        axis_row(coordinates[1], y, slack, whole_y, near_y, far_y)
        if padding == FILL and not _reaches(whole_y, top, bottom):
            continue
        axis_row(coordinates[0], y, slack, whole_x, near_x, far_x)
        weigh(whole_x, near_x, far_x, mode, places_x, weights_x, unused)
        weigh(whole_y, near_y, far_y, mode, places_y, weights_y, unused)
        for x in range(columns):
            if padding == FILL and (whole_y[x] + 2 < top or whole_y[x] - 1 >= bottom):
                continue
            _, readable = judge(places_x, near_x[x] > 0, width, places_y, near_y[x] > 0, height, x, padding, valid)
            if not readable:
                continue
            source = y * steps[1] + x * steps[2]
            for j in range(taps if near_y[x] > 0 else 1):
                py = padded(places_y[j, x], height, padding)
                if py < top or py >= bottom:
                    continue
                for i in range(taps if near_x[x] > 0 else 1):
                    px = padded(places_x[i, x], width, padding)
                    weight = weights_x[i, x] * weights_y[j, x]
                    for c in range(channels):
                        given = gradient[source + c * steps[0]]
                        out[c, py, px] += weight * (given if std is None else given / std[c])


@njit(inline="always")
def _reaches(whole_y, top, bottom):
    """Whether an output row has a tap in the source rows; its ends tell, for the map is affine."""
    first, last = whole_y[0], whole_y[-1]
    return max(first, last) + 2 >= top and min(first, last) - 1 < bottom


@kernel
def slope_rows(
    image,
    steps,
    size,
    gradient,
    gradient_steps,
    shape,
    coordinates,
    slack,
    valid,
    std,
    sums,
    kind,
    mode,
    padding,
    first,
    last,
):
    """The gradient to the inverse matrix, summed along each output row.

    Args:
        image: Flat pixels of one sample.
        steps: From a pixel of it to the next channel, row and column.
        size: Channels, height, width of the source.
        gradient: Flat, of the output sample.
        gradient_steps: As `steps`.
        shape: [h, w] of the output.
        coordinates: Of the sample.
        slack: Of settling.
        valid: [H, W] bool, or None.
        std: [C] or None.
        sums: [h, 6] float64, written: d/da, d/db, d/dc along x, then along y.
        kind: [0] of the type of the weights.
        mode: BILINEAR or BICUBIC.
        padding: FILL, BORDER or REFLECTION.
        first: First output row of this chunk.
        last: One past its last row.
    """
    channels, height, width = size
    columns = shape[1]
    taps = 4 if mode == BICUBIC else 2
    whole_x, whole_y = np.empty(columns, np.int64), np.empty(columns, np.int64)
    near_x, near_y = np.empty(columns, kind.dtype), np.empty(columns, kind.dtype)
    far_x, far_y = np.empty(columns, kind.dtype), np.empty(columns, kind.dtype)
    places_x, places_y = np.empty((taps, columns), np.int64), np.empty((taps, columns), np.int64)
    weights_x, weights_y = np.empty((taps, columns), kind.dtype), np.empty((taps, columns), kind.dtype)
    slopes_x, slopes_y = np.empty((taps, columns), kind.dtype), np.empty((taps, columns), kind.dtype)
    for y in range(first, last):
        axis_row(coordinates[0], y, slack, whole_x, near_x, far_x)
        axis_row(coordinates[1], y, slack, whole_y, near_y, far_y)
        weigh(whole_x, near_x, far_x, mode, places_x, weights_x, slopes_x)
        weigh(whole_y, near_y, far_y, mode, places_y, weights_y, slopes_y)
        sums[y] = 0
        for x in range(columns):
            off_x, off_y = near_x[x] > 0, near_y[x] > 0
            _, readable = judge(places_x, off_x, width, places_y, off_y, height, x, padding, valid)
            if not readable:
                continue
            along_x, along_y = 0.0, 0.0
            for c in range(channels):
                given = np.float64(gradient[c * gradient_steps[0] + y * gradient_steps[1] + x * gradient_steps[2]])
                given = given if std is None else given / std[c]
                slope_x, slope_y = 0.0, 0.0
                base = 0.0
                for j in range(taps):
                    py = padded(places_y[j, x], height, padding)
                    for i in range(taps):
                        px = padded(places_x[i, x], width, padding)
                        value = np.float64(image[c * steps[0] + py * steps[1] + px * steps[2]])
                        read = (i == 0 or off_x) and (j == 0 or off_y)
                        if i == 0 and j == 0:
                            base = value
                        elif not read and not (np.isfinite(value) and (valid is None or valid[py, px])):
                            # On the lattice a neighbour tells the slope, where it may be known.
                            value = base if np.isfinite(base) else 0.0
                        slope_x += value * slopes_x[i, x] * weights_y[j, x]
                        slope_y += value * weights_x[i, x] * slopes_y[j, x]
                along_x += given * slope_x
                along_y += given * slope_y
            sums[y, 0] += along_x * x
            sums[y, 1] += along_x * y
            sums[y, 2] += along_x
            sums[y, 3] += along_y * x
            sums[y, 4] += along_y * y
            sums[y, 5] += along_y
