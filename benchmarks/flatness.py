"""Whether what a long process holds stays flat: a robust line through what was sampled after a warm-up."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .usage import Usage

# What may be gained in an hour, by name of `Usage`. Memory wanders as allocators do; one of the others each hour is a
# leak.
LIMITS_PER_HOUR = {"anonymous_mib": 30.0, "descriptors": 0.5, "threads": 0.5, "processes": 0.5}
FEWEST = 20  # samples after the warm-up


@dataclass(frozen=True)
class Verdict:
    """The line through what was held of one kind.

    Args:
        kind: A name of `Usage`.
        per_hour: Its slope.
        start: Its value at the end of the warm-up.
        limit: The largest slope that is flat.
    """

    kind: str
    per_hour: float
    start: float
    limit: float

    @property
    def flat(self) -> bool:
        """Whether nothing of it is gained."""
        return self.per_hour <= self.limit


def verdicts(samples: Sequence[Usage], warmup_s: float) -> list[Verdict]:
    """Of every kind that has a limit, memory first.

    Args:
        samples: In order of time.
        warmup_s: Those of before count for nothing.

    Raises:
        ValueError: There are too few after it.
    """
    counted = [sample for sample in samples if sample.seconds >= warmup_s]
    if len(counted) < FEWEST:
        raise ValueError(f"{len(counted)} samples after {warmup_s:g} s of warm-up tell nothing; it takes {FEWEST}")
    hours = np.array([(sample.seconds - warmup_s) / 3600 for sample in counted])
    found = []
    for kind, limit in LIMITS_PER_HOUR.items():
        slope, start = theil_sen(hours, np.array([getattr(sample, kind) for sample in counted], float))
        found.append(Verdict(kind, slope, start, limit))
    return found


def theil_sen(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:  # [N], [N]
    """Slope and value at 0 of a line that a third of wild points does not bend: medians over all pairs of points.

    Args:
        x: All different.
        y: At each.
    """
    first, second = np.triu_indices(len(x), 1)
    slope = float(np.median((y[second] - y[first]) / (x[second] - x[first])))
    return slope, float(np.median(y - slope * x))
