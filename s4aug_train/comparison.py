"""Two evaluations of the same tiles side by side, and whether chance explains how they differ."""

from dataclasses import dataclass

import numpy as np

from .assessment import Assessment
from .errors import DataError
from .resampling import Bounds, bounds, miou_of, swap_p_value, times_drawn

LEVEL = 0.95


@dataclass(frozen=True)
class Comparison:
    """How the mIoU of two predictions of the same tiles differ.

    Args:
        difference: mIoU of the first minus that of the second; None where the truth holds no class.
        interval: 95 %, (low, high), of a paired bootstrap over tiles; None as well for fewer than two tiles.
        p_value: Of a permutation test, in which the predictions of a tile are swapped; None as `difference`.
        tiles: How many there are.
    """

    difference: float | None
    interval: Bounds | None
    p_value: float | None
    tiles: int

    @property
    def shown(self) -> bool:
        """Whether a difference is: the interval leaves out 0, and the test agrees at its level."""
        if self.interval is None or self.p_value is None:
            return False
        low, high = self.interval
        return not low <= 0 <= high and self.p_value <= 1 - LEVEL


def compare(first: Assessment, second: Assessment, samples: int = 1000, seed: int = 0) -> Comparison:
    """Compare two evaluations of the same tiles.

    Each resample draws the same tiles for both. The permutation test looks at all ways to swap predictions within
    tiles where there are up to 12 tiles (2^12 ways), else at `samples` random ones.

    Args:
        first: Of a checkpoint.
        second: Of another one.
        samples: Resamples, and random swaps.
        seed: Of both.

    Raises:
        DataError: The tiles, their truth or the classes are not the same.
    """
    sums = first.sums, _alike(first, second).sums
    tiles = len(first.tiles)
    difference = float(miou_of(sums[0].sum(0)) - miou_of(sums[1].sum(0)))
    if np.isnan(difference):
        return Comparison(None, None, None, tiles)
    interval = None
    if tiles > 1:
        times = times_drawn(tiles, samples, seed)
        means = [miou_of(np.tensordot(times, each, 1)) for each in sums]  # [S] each
        interval = bounds(means[0] - means[1], LEVEL)
    return Comparison(difference, interval, swap_p_value(*sums, samples, seed), tiles)


def _alike(first: Assessment, second: Assessment) -> Assessment:
    """The second in the order of the first."""
    if first.classes != second.classes:
        raise DataError(
            f"the first has the classes {', '.join(first.classes)}, the second {', '.join(second.classes)}; compare "
            f"checkpoints of the same classes"
        )
    theirs = {tile.id: tile for tile in second.tiles}
    ours = [tile.id for tile in first.tiles]
    odd = sorted({*ours} ^ {*theirs})
    if odd or len(ours) != len(second.tiles):
        raise DataError(
            f"{len(ours)} and {len(second.tiles)} tiles were evaluated, of which {len(odd)} only once, for example "
            f"{', '.join(odd[:1]) or 'none'}; compare evaluations of the same tiles"
        )
    for tile in first.tiles:
        if not np.array_equal(tile.confusion.sum(1), theirs[tile.id].confusion.sum(1)):
            raise DataError(
                f"the truth of tile {tile.id} is not the same in both evaluations; evaluate both on the same masks"
            )
    return Assessment(second.step, second.classes, tuple(theirs[name] for name in ours))
