"""What the fast paths are to reach, and what a run says about it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from .cases import SCALES, Case, Scale, base_case
from .records import Record, Run
from .timing import Spread, ratios
from .training import BARE, WAIT

WORDS = {
    "forward": "forward + mask",
    "forward+backward": "forward + backward",
    "backward": "backward alone",
    "pool": "8-bit pool: crop, flip, affine, normalise",
    "objective": "consistency objective, forward + backward",
    "step": "training step of S4Net",
    "trainer": "trainer: a step of a run",
    "script": "whole steps from image files",
}


@dataclass(frozen=True)
class Target:
    """One figure to reach.

    Args:
        device: "cpu" or "cuda".
        kind: Of work.
        against: A contender; "" for a property of ours alone.
        measure: A key of `MEASURES`.
        bound: At least so much; of those in `AT_MOST` at most.
        batch: Instead of the base case's.
    """

    device: str
    kind: str
    against: str
    measure: str
    bound: float
    batch: int | None = None

    def case(self, run: Run) -> Case:
        """The case that decides, at the scale of a run."""
        return self.case_at(SCALES[run.scale])

    def case_at(self, scale: Scale) -> Case:
        base = base_case(self.kind, scale, self.device)
        return base if self.batch is None else replace(base, batch=min(self.batch, max(scale.batches)))


def speed(record: Record, against: str) -> Spread | None:
    return record.ratio(against)


def memory(record: Record, against: str) -> Spread | None:
    theirs, own = record.contenders[against].peak_bytes, record.ours.peak_bytes
    return None if theirs is None or own is None else Spread(*[theirs / max(own, 1)] * 3)


def same_bits(record: Record, against: str) -> Spread | None:
    return None if record.ours.repeatable is None else Spread(*[float(record.ours.repeatable)] * 3)


def overhead(record: Record, against: str) -> Spread:
    """By how much a step of ours takes longer, as a share of the other's."""
    return above(record, next(name for name, each in record.contenders.items() if each is record.ours), against)


def above(record: Record, name: str, bare: str) -> Spread:
    """By how much a contender takes longer than another, round by round."""
    low, median, high = ratios(record.contenders[name].times_s, record.contenders[bare].times_s)
    return Spread(low - 1, median - 1, high - 1)


def wait(record: Record, against: str) -> Spread | None:
    share = record.contenders[against].figures.get(WAIT)
    return None if share is None else Spread(share, share, share)


# Of a record: how many times as long, how many times as much memory, which part of our time, equal bits (1 or 0),
# how much longer, which part of the time waits for data.
MEASURES: dict[str, Callable[[Record, str], Spread | None]] = {
    "speed": speed,
    "limit": speed,
    "share": speed,
    "memory": memory,
    "same bits": same_bits,
    "overhead": overhead,
    "wait": wait,
}
AT_MOST = ("share", "overhead", "wait")

TARGETS = (
    Target("cpu", "forward", "Kornia", "speed", 2.0),
    Target("cpu", "forward", "Kornia + mask", "speed", 3.5),
    Target("cpu", "forward", "OpenCV", "speed", 1.0),
    Target("cpu", "forward+backward", "Kornia", "speed", 4.0),
    Target("cpu", "pool", "Kornia chain", "speed", 5.0),
    Target("cpu", "objective", "Kornia + masks", "speed", 4.0),
    Target("cpu", "objective", "Kornia + masks", "memory", 2.0),
    Target("cpu", "trainer", BARE, "overhead", 0.05),
    Target("cpu", "trainer", "s4aug-train", "wait", 0.01),
    Target("cpu", "trainer", "s4aug-train, memory map", "wait", 0.01),
    Target("cuda", "forward", "copy", "limit", 0.7, batch=32),
    Target("cuda", "forward", "Kornia + mask", "speed", 4.0),
    Target("cuda", "backward", "grid_sample", "speed", 2.0),
    Target("cuda", "backward", "", "same bits", 1.0),
    Target("cuda", "objective", "Kornia + masks", "speed", 6.0),
    Target("cuda", "step", "perturb + restore + loss", "share", 0.03),
    Target("cuda", "trainer", BARE, "overhead", 0.05),
    Target("cuda", "trainer", "s4aug-train", "wait", 0.01),
    Target("cuda", "trainer", "s4aug-train, memory map", "wait", 0.01),
    Target("cuda", "script", "plain script", "speed", 2.0),
)


@dataclass(frozen=True)
class Verdict:
    """A target, and what was measured; None where it was not."""

    target: Target
    case: Case
    value: Spread | None

    @property
    def met(self) -> bool | None:
        """By the median."""
        if self.value is None:
            return None
        median, bound = self.value.median, self.target.bound
        return median <= bound if self.target.measure in AT_MOST else median >= bound


def verdicts(run: Run) -> list[Verdict]:
    """On all targets for the run's device."""
    return [verdict(target, run) for target in TARGETS if target.device == run.device]


def verdict(target: Target, run: Run) -> Verdict:
    case = target.case(run)
    record = run.find(case)
    if record is None or (target.against and target.against not in record.contenders):
        return Verdict(target, case, None)
    return Verdict(target, case, MEASURES[target.measure](record, target.against))
