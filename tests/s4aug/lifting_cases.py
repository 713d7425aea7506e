"""Motions that keep area, and where lifting's documented steps lead one pixel."""

import math
from fractions import Fraction

import numpy as np
import torch

from s4aug import AffineTransform

FINEST_STEP_PX = Fraction(1, 2**20)


def rotation(degrees, size, translation=(0.0, 0.0)):
    """Turns about the middle by the cosines of the math module, noise at 90 degrees and all."""
    middle = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
    matrices = []
    for angle in degrees:
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        linear = np.array([[cos, sin], [-sin, cos]])
        offset = middle + translation - linear @ middle
        matrices.append([[*linear[0], offset[0]], [*linear[1], offset[1]], [0, 0, 1]])
    return AffineTransform(torch.tensor(np.array(matrices), dtype=torch.float64), size)


def region(size, margin):
    """Columns [1, 1, w] and rows [1, h, 1] of a frame and what lies around it."""
    columns = torch.arange(-margin, size[1] + margin)[None, None]
    return columns, torch.arange(-margin, size[0] + margin)[None, :, None]


def rounded(value):
    """To whole numbers by Fractions: snapped to 2^-20 first, halves away from zero."""

    def away(number):
        return (1 if number >= 0 else -1) * math.floor(abs(number) + Fraction(1, 2))

    return away(away(value / FINEST_STEP_PX) * FINEST_STEP_PX)


def permuted(lifting, sample, x, y):
    """Where one pixel goes, by the steps that `Lifting` documents, in whole numbers and Fractions."""
    (a, b), (c, d) = lifting.before[sample].tolist()
    x, y = a * x + b * y, c * x + d * y
    slopes, offsets = (
        [Fraction(part, 2**40) for part in parts[sample].tolist()] for parts in (lifting.slopes, lifting.offsets)
    )
    shifts = lifting.shifts[sample].tolist()
    x += rounded(slopes[0] * y + offsets[0]) + shifts[0]
    y += rounded(slopes[1] * x + offsets[1]) + shifts[1]
    x += rounded(slopes[2] * y + offsets[2]) + shifts[2]
    (a, b), (c, d) = lifting.after[sample].tolist()
    return a * x + b * y, c * x + d * y


def mixed_motion(size, out_size=None):
    """Four motions that keep area: turned, turned and moved by fractions, mirrored, sheared."""
    hflip, middle = AffineTransform.hflip(1, size), (0.3 * size[1], 0.2 * size[0])
    parts = [
        AffineTransform.from_params(angle=30.0, size=size),
        AffineTransform.from_params(angle=-117.3, translation=(1.25, -0.5), center=middle, size=size),
        AffineTransform.from_params(angle=71.0, translation=(0.0, 2.0), size=size) @ hflip,
        AffineTransform.from_params(angle=9.0, shear=(12.0, 0.0), size=size),
    ]
    return AffineTransform(torch.cat([part.matrix for part in parts]), size, out_size)
