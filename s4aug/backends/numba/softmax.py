"""Probabilities, row by row, in our own threads: torch's leave a core spinning that the kernel after them needs."""

import numpy as np

from .kernel import kernel
from .lanes import as_float, bits_of, float_of

LOWEST = np.float32(-87.3)  # the exponential of less is no normal number: 0
LOG2_E, LN2_HIGH, LN2_LOW = np.float32(1.44269504), np.float32(0.693359375), np.float32(-2.12194440e-4)
# Added to a number, leaves its whole part in the low bits.
ROUNDER, ONE, MANTISSA_BITS = np.float32(1.5 * 2**23), np.int32(0x3F800000), np.int32(23)
# Cephes' expf: (e^r - 1 - r) / r^2 for |r| <= ln(2) / 2.
P0, P1, P2 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
P3, P4, P5 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)


@kernel
def exponential(x):
    """e^x for a float32 x <= 0, within a unit in the last place; simple enough to be made for many at once."""
    # `np.maximum`, here and below: a condition of Python's is not made for many at once.
    bounded = np.maximum(x, LOWEST)
    shifted = bounded * LOG2_E + ROUNDER
    whole = shifted - ROUNDER
    rest = bounded - whole * LN2_HIGH - whole * LN2_LOW
    series = ((((P0 * rest + P1) * rest + P2) * rest + P3) * rest + P4) * rest + P5
    power = float_of(np.int32(np.int32(bits_of(shifted) << MANTISSA_BITS) + ONE))
    value = (series * rest * rest + rest + np.float32(1)) * power
    return np.float32(0) if x < LOWEST else value


@kernel
def read_row(logits, at, steps, softmax, rows, peak, total):
    """Fill the first rows with what each class has in one row of pixels.

    Args:
        logits: Flat, of one sample.
        at: The row's first pixel.
        steps: To the next class, row and column.
        softmax: Whether to make probabilities.
        rows: [K, w] float32, written.
        peak: [w] float32, for use in between.
        total: As `peak`.
    """
    for k in range(len(rows)):
        row, begin = rows[k], at + k * steps[0]
        if steps[2] == 1:
            for x in range(len(row)):
                row[x] = as_float(logits, begin + x)
        else:
            for x in range(len(row)):
                row[x] = as_float(logits, begin + x * steps[2])
    if not softmax:
        return
    peak[:] = rows[0]
    for k in range(1, len(rows)):
        row = rows[k]
        for x in range(len(row)):
            peak[x] = np.maximum(row[x], peak[x])
    total[:] = 0
    for k in range(len(rows)):
        row = rows[k]
        for x in range(len(row)):
            row[x] = exponential(row[x] - peak[x])
        for x in range(len(row)):
            total[x] += row[x]
    for x in range(len(total)):
        total[x] = np.float32(1) / total[x]
    for k in range(len(rows)):
        row = rows[k]
        for x in range(len(row)):
            row[x] *= total[x]
