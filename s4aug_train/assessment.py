"""What an evaluation found, tile by tile."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class TileScore:
    """Counts of one tile's labelled pixels.

    Args:
        id: Of the tile.
        confusion: [K, K] int64, rows truth, columns prediction.
        near: [D, 2] int64: pixels predicted right, and all, by the bin of their distance to the nearest boundary of
            the truth.
        calibration: [B, 3] float64: pixels, the sum of their confidences, and those predicted right, by the bin of
            the confidence (the largest probability).
    """

    id: str
    confusion: np.ndarray  # [K, K] int64
    near: np.ndarray  # [D, 2] int64
    calibration: np.ndarray  # [B, 3] float64


@dataclass(frozen=True, eq=False)
class Assessment:
    """An evaluation with all that intervals, tests and diagrams are made of.

    Args:
        step: Steps the network was trained for.
        classes: Names.
        tiles: One score for each tile that was read.
    """

    step: int
    classes: tuple[str, ...]
    tiles: tuple[TileScore, ...]
