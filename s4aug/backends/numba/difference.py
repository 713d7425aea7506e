"""The kernels of the consistency objective: two undone predictions compared, and the way back through softmax."""

import numpy as np

from .collect import new_sums, taps_in_rows
from .columns import inside_columns, mask_row, weigh_row
from .kernel import kernel, reassociating_kernel
from .lanes import PIXELS, gather_lanes, pack_four, scatter_packed, unpack_four
from .output import put_row
from .prefetch import prefetch
from .rows import FRACTION_BITS
from .softmax import read_row

MSE, KL = range(2)
ROWS_AHEAD = 3
TINY = np.float32(np.finfo(np.float32).tiny)


@kernel
def pack_rows(logits, steps, classes, width, softmax, planes, packed, first, last):
    """Put the classes of each pixel in rows first..last side by side.

    Args:
        logits: Flat, of one sample.
        steps: To the next class, row and column.
        classes: How many.
        width: Of a row.
        softmax: Whether to make probabilities.
        planes: For each group and lane the class times the width; for lanes that are nobody's one class more.
        packed: [groups, (h * w + w + 1) * lanes], written.
        first: First row of this chunk.
        last: One past its last row.
    """
    lanes = len(planes[0])
    whole = width - width % PIXELS
    rows, spare = np.zeros((classes + 1, width), np.float32), np.empty((2, width), np.float32)
    flat = rows.reshape((classes + 1) * width)
    for y in range(first, last):
        read_row(logits, y * steps[1], steps, softmax, rows[:classes], spare[0], spare[1])
        for group in range(len(planes)):
            line = packed[group][y * width * lanes : (y + 1) * width * lanes]
            for x in range(0, whole, PIXELS):
                pack_four(flat, x, planes[group], line, x * lanes)
            for lane in range(lanes):
                for x in range(whole, width):
                    line[x * lanes + lane] = flat[planes[group][lane] + x]


@kernel
def compare_rows(
    packed, shape, where, slack, valid, lanes, masked, loss, detach, slopes, numerators, counts, columns, first, last
):
    """Undo and compare two predictions of one sample, in output rows first..last, for one group of classes.

    Args:
        packed: Of both predictions: flat, packed, a row and a pixel longer than the map.
        shape: [h, w] of the predictions.
        where: Both coordinates, each [2, 3] int64.
        slack: Of settling.
        valid: Both masks, each [h, w] bool.
        lanes: A tuple as long as there are lanes.
        masked: Whether pixels count only where both are real.
        loss: MSE or KL.
        detach: 0, or the side that is a target.
        slopes: Flat and packed, or empty where nobody wants them: for MSE the difference, and nothing; for KL how
            the loss changes with each side.
        numerators: [H] float64, written: the sum over each row.
        counts: [H] int64, written.
        columns: Of the output.
        first: First output row of this chunk.
        last: One past its last row.
    """
    side = len(lanes) * columns
    one, other = np.empty(side, np.float32), np.empty(side, np.float32)
    unwanted = np.empty((2, side), np.float32)
    index, corners = np.empty((2, columns), np.int32), np.empty((2, 4, columns), np.float32)
    shown = np.empty((2, columns), np.bool_)
    for y in range(first, last):
        begin1 = _look_up(shape, where[0], slack, valid[0], columns, y, index[0], corners[0], shown[0])
        begin2 = _look_up(shape, where[1], slack, valid[1], columns, y, index[1], corners[1], shown[1])
        counts[y] = columns
        if masked:
            shown[0] &= shown[1]
            shown[1] = shown[0]
            counts[y] = shown[0].sum()
        _undo_row(packed[0], shape[1], where[0], index[0], corners[0], shown[0], begin1, lanes, one)
        _undo_row(packed[1], shape[1], where[1], index[1], corners[1], shown[1], begin2, lanes, other)
        first_slope = slopes[0][y * side : (y + 1) * side] if len(slopes[0]) > 0 else unwanted[0]
        if loss == MSE:
            numerators[y] = _squares(one, other, first_slope)
        else:
            second_slope = slopes[1][y * side : (y + 1) * side] if len(slopes[1]) > 0 else unwanted[1]
            numerators[y] = _divergences(one, other, detach, first_slope, second_slope)


@kernel
def _look_up(shape, coordinates, slack, valid, columns, y, index, corners, shown):
    """Fill the taps and weights of the columns that read inside, and which show something real; returns the first."""
    height, width = shape
    begin, end, start_x, start_y = inside_columns(coordinates, y, slack, width, height, columns)
    on_lattice = weigh_row(coordinates, start_x, start_y, slack, width, end - begin, index, corners)
    shown[:begin] = False
    shown[end:] = False
    mask_row(valid.reshape(height * width), 0, index, corners, width, on_lattice, shown[begin:end])
    return begin


@kernel
def _undo_row(packed, width, coordinates, index, corners, shown, begin, lanes, row):
    """Sample a packed row; 0 where nothing is shown."""
    count = len(lanes)
    # From what a row reads to what a row soon after it will.
    right, down = ROWS_AHEAD * coordinates[0, 1] >> FRACTION_BITS, ROWS_AHEAD * coordinates[1, 1] >> FRACTION_BITS
    ahead = (down * width + right) * count
    for x in range(len(shown)):
        if shown[x]:
            at = np.int64(index[x - begin]) * count
            prefetch(packed, at + ahead)
            gather_lanes(packed, at, width * count, corners, x - begin, lanes, row, x * count)
        else:
            row[x * count : (x + 1) * count] = 0


# Sums of several at once: in whatever order is quickest, but always the same.
@reassociating_kernel
def _squares(one, other, difference):
    total = 0.0
    for i in range(len(one)):
        difference[i] = one[i] - other[i]
        total += np.float64(difference[i]) * np.float64(difference[i])
    return total


@kernel
def _divergences(one, other, detach, first_slope, second_slope):
    """As `s4aug.consistency` composes it, its clamp at the smallest normal number included."""
    total = 0.0
    for i in range(len(one)):
        p, q = one[i], other[i]
        sure_p, sure_q = max(p, TINY), max(q, TINY)
        ratio = np.log(sure_p) - np.log(sure_q)
        # Below the clamp a logarithm does not change.
        rise_p = np.float32(1) / p if p >= TINY else np.float32(0)
        rise_q = np.float32(1) / q if q >= TINY else np.float32(0)
        if detach == 1:
            total += np.float64(p * ratio)
            second_slope[i] = -p * rise_q
        elif detach == 2:
            total -= np.float64(q * ratio)
            first_slope[i] = -q * rise_p
        else:
            total += np.float64((p - q) * ratio) / 2
            first_slope[i] = (ratio + (p - q) * rise_p) / np.float32(2)
            second_slope[i] = (-ratio - (p - q) * rise_q) / np.float32(2)
    return total


@kernel
def pull_back_rows(
    slopes,
    out_size,
    coordinates,
    slack,
    valid,
    scale,
    softmax,
    logits,
    steps,
    shape,
    out,
    out_steps,
    planes,
    top,
    bottom,
):
    """The gradient to one prediction, in its rows top..bottom.

    Args:
        slopes: [groups, H * W * lanes], packed.
        out_size: [H, W] of the maps compared.
        coordinates: [2, 3] int64, of the prediction.
        slack: Of settling.
        valid: [h, w] bool, or None.
        scale: Times the slopes.
        softmax: Whether to go on to the logits.
        logits: The prediction, flat.
        steps: To its next class, row and column.
        shape: [K, h, w] of the prediction.
        out: Flat, written.
        out_steps: As `steps`.
        planes: For each group and lane the class times the width; for lanes that are nobody's the last class.
        top: First row of this chunk.
        bottom: One past its last row.
    """
    count, height, width = shape
    columns, lanes, groups = out_size[1], len(planes[0]), len(slopes)
    sums = new_sums(top, bottom, width, lanes * groups).reshape(groups, -1)
    index, corners = np.empty(columns, np.int32), np.empty((4, columns), np.float32)
    asked = np.ones(columns, np.bool_)
    for y in range(out_size[0]):
        first, last, on_lattice = taps_in_rows(
            coordinates, y, slack, width, height, columns, top, bottom, index, corners
        )
        shown = asked[: last - first]
        if valid is not None:
            mask_row(valid.reshape(height * width), (top - 1) * width, index, corners, width, on_lattice, shown)
        for group in range(groups):
            source = (y * columns + first) * lanes
            for x in range(last - first):
                if shown[x]:
                    at = np.int64(index[x]) * lanes
                    scatter_packed(slopes[group], source, planes[0], corners, x, sums[group], at, width * lanes)
                source += lanes
    rows, line = np.empty((count, width), np.float32), np.empty((count, width), np.float32)
    spare = np.empty((2, width), np.float32)
    for y in range(top, bottom):
        for group in range(groups):
            _unpack_row(sums[group], (y - top + 1) * width * lanes, planes[group], width, line.reshape(count * width))
        if softmax:
            read_row(logits, y * steps[1], steps, True, rows, spare[0], spare[1])
            _leave_softmax(rows, line, spare[0], spare[1])
        for k in range(count):
            line[k] *= np.float32(scale)
            put_row(line[k], out, k * out_steps[0] + y * out_steps[1], out_steps[2])


@kernel
def _unpack_row(packed, source, planes, width, line):
    lanes = len(planes)
    whole = width - width % PIXELS
    for x in range(0, whole, PIXELS):
        unpack_four(packed, source + x * lanes, line, x, planes)
    for lane in range(lanes - 1, -1, -1):
        for x in range(whole, width):
            line[planes[lane] + x] = packed[source + x * lanes + lane]


@kernel
def _leave_softmax(probabilities, line, dot, reached):
    """Turn the gradient g of a row to its probabilities p into that to the logits: p * (g - sum of p * g)."""
    dot[:] = 0
    reached[:] = 0
    for k in range(len(line)):
        p, g = probabilities[k], line[k]
        for x in range(len(dot)):
            dot[x] += p[x] * g[x]
            reached[x] += abs(g[x])
    for k in range(len(line)):
        p, g = probabilities[k], line[k]
        for x in range(len(dot)):
            # The logits that nobody read may be no numbers.
            changed = p[x] * (g[x] - dot[x])
            g[x] = changed if reached[x] != 0 else np.float32(0)
