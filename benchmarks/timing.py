"""Times of contenders in one process, taken in turns.

Why not pytest-benchmark: it times one function after the other, each in its own test. On a machine that others
use too, minutes lie between the two sides of a ratio, and the ratio then tells what else ran. Here every round times
every contender once, in an order drawn anew, and a ratio is taken within a round: what slows a whole round falls out.
(Its options have other names than ours, so it may be installed.)
"""

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

# Short work is repeated until the clock and a wait for the device are small beside it.
SHORTEST_S = 0.01
# Threads of the last contender's library spin for some milliseconds before they sleep.
REST_S = 0.005


@dataclass(frozen=True)
class Budget:
    """How long a case may take: rounds until `seconds` are over, but no fewer than `least`, no more than `most`."""

    seconds: float
    least: int
    most: int


FULL = Budget(15.0, 7, 31)
# A device of its own is quiet: fewer seconds tell as much.
GPU = Budget(4.0, 11, 31)
QUICK = Budget(1.0, 3, 10)
# Steps of seconds that differ by a few per cent.
TRAINER = Budget(300.0, 15, 61)
GPU_TRAINER = Budget(60.0, 5, 31)


class Spread(NamedTuple):
    """The middle half of some measurements."""

    low: float
    median: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Quartiles."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    return Spread(*statistics.quantiles(values, n=4, method="inclusive"))


def ratios(others: Sequence[float], ours: Sequence[float]) -> Spread:
    """How many times as long another takes as we do, round by round."""
    return spread([other / own for other, own in zip(others, ours, strict=True)])


def time_in_turns(
    runs: Mapping[str, Callable[[], Any]],
    budget: Budget,
    *,
    synchronize: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of one run, for each contender and round.

    Args:
        runs: The work of each contender.
        budget: How many rounds.
        synchronize: Waits until the device has done what it was told.
        clock: In seconds.
    """
    repeats = {name: _repeats(run, synchronize, clock) for name, run in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    order, shuffle = list(runs), random.Random(0).shuffle
    begin = clock()
    for done in range(budget.most):
        if done >= budget.least and clock() - begin > budget.seconds:
            break
        shuffle(order)
        with _no_collection():
            for name in order:
                time.sleep(REST_S)
                times[name].append(_once(runs[name], repeats[name], synchronize, clock))
    return times


def _repeats(run: Callable[[], Any], synchronize: Callable[[], None], clock: Callable[[], float]) -> int:
    """After a first run to warm up."""
    _once(run, 1, synchronize, clock)
    took = _once(run, 1, synchronize, clock)
    return max(1, math.ceil(SHORTEST_S / max(took, 1e-7)))


@contextmanager
def _no_collection() -> Iterator[None]:
    """Rubbish is collected before a round, not within."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _once(run: Callable[[], Any], repeats: int, synchronize: Callable[[], None], clock: Callable[[], float]) -> float:
    synchronize()
    begin = clock()
    for _ in range(repeats):
        run()
    synchronize()
    return (clock() - begin) / repeats
