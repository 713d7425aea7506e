"""What chance does to a dataset's mIoU: tiles drawn again, and predictions swapped within tiles."""

import numpy as np

from .errors import ConfigError

EXACT_TILES = 12  # up to so many, all arrangements of a swap are looked at
ROUNDING = 1e-12

Bounds = tuple[float, float]


def tile_sums(confusions: np.ndarray) -> np.ndarray:  # [N, K, K] -> [N, 3, K] float64
    """All that IoU is made of: pixels of each class in the truth, in the prediction, and in both."""
    hits = np.diagonal(confusions, axis1=1, axis2=2)
    return np.stack([confusions.sum(2), confusions.sum(1), hits], 1).astype(np.float64)


def iou_of(sums: np.ndarray) -> np.ndarray:  # [..., 3, K] -> [..., K]
    """IoU by class; NaN for a class that the truth does not hold."""
    truth, predicted, hits = np.moveaxis(sums, -2, 0)
    return np.where(truth > 0, hits / np.maximum(truth + predicted - hits, 1), np.nan)


def miou_of(sums: np.ndarray) -> np.ndarray:  # [..., 3, K] -> [...]
    """The mean over the classes that the truth holds; NaN where it holds none."""
    iou = iou_of(sums)
    held = ~np.isnan(iou)
    return np.where(held.any(-1), np.where(held, iou, 0).sum(-1) / np.maximum(held.sum(-1), 1), np.nan)


def times_drawn(tiles: int, samples: int, seed: int) -> np.ndarray:  # [S, N] float64
    """How often each tile is in each of so many resamples of all tiles, drawn with replacement.

    Raises:
        ConfigError: There would be none.
    """
    if samples < 1:
        raise ConfigError(f"samples must be at least 1, got {samples}")
    drawn = np.random.default_rng(seed).integers(tiles, size=(samples, tiles))
    drawn += np.arange(samples)[:, None] * tiles
    return np.bincount(drawn.ravel(), minlength=samples * tiles).reshape(samples, tiles).astype(np.float64)


def bounds(values: np.ndarray, level: float) -> Bounds | None:  # [S]
    """The percentiles between which so large a share of the values lies; NaN do not count, and of none there is none.

    Raises:
        ConfigError: The share is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ConfigError(f"level must be between 0 and 1, got {level}")
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def swap_p_value(first: np.ndarray, second: np.ndarray, samples: int, seed: int) -> float:  # [N, 3, K] each
    """How often the mIoU of two predictions differ as much as they do, if which is whose is swapped within tiles.

    Up to 12 tiles all arrangements are looked at; else so many random ones, b of which differ as much:
    p = (b + 1) / (samples + 1).
    """
    tiles = len(first)
    exact = tiles <= EXACT_TILES
    if exact:
        swapped = np.arange(2**tiles)[:, None] >> np.arange(tiles) & 1  # [2^N, N]
    else:
        swapped = np.random.default_rng(seed).integers(2, size=(samples, tiles))
    moved = np.tensordot(swapped.astype(np.float64), second - first, 1)  # [P, 3, K]
    observed = miou_of(first.sum(0)) - miou_of(second.sum(0))
    differences = miou_of(first.sum(0) + moved) - miou_of(second.sum(0) - moved)
    as_much = int((np.abs(differences) >= abs(observed) - ROUNDING).sum())
    return as_much / len(swapped) if exact else (as_much + 1) / (samples + 1)
