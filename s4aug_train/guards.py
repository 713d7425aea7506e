"""What goes wrong without an error: told from the records of a run."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from .records import EvaluationRecord, Note, Record, StepRecord

ONE_CLASS = 0.999  # share of the predicted pixels from which on it is called a collapse
LITTLE_VALID = 0.02  # share of the pixels that are compared
LITTLE_SAY = 0.001  # of the unlabelled loss, weighted, beside the supervised one
FALL = 0.02  # of the mIoU


class Guards:
    """Looks at the records of a run as they come.

    Args:
        compared: Whether `valid_fraction` is the share of pixels that are real in both views.
    """

    def __init__(self, *, compared: bool) -> None:
        self.compared = compared

    def notes(self, record: Record) -> Iterator[Note]:
        """What is odd about a record."""
        if isinstance(record, EvaluationRecord):
            yield from _collapse(record)
        elif isinstance(record, StepRecord) and self.compared:
            yield from self._little_valid(record)

    def _little_valid(self, record: StepRecord) -> Iterator[Note]:
        if record.weight > 0 and record.valid_fraction < LITTLE_VALID:
            self.compared = False  # said once
            yield Note(
                f"only {100 * record.valid_fraction:.1f} % of the unlabelled pixels could be compared: lower "
                f"method.translate, degrees or shear, raise train.crop, or look for tiles without real pixels"
            )


def _collapse(record: EvaluationRecord) -> Iterator[Note]:
    predicted = [sum(column) for column in zip(*record.confusion, strict=True)]
    present = sum(1 for row in record.confusion if sum(row))
    if present > 1 and max(predicted) > ONE_CLASS * sum(predicted):
        name = record.classes[predicted.index(max(predicted))]
        yield Note(
            f"nearly every pixel was predicted as {name}, of {present} classes in the truth: train longer, lower "
            f"train.lr or method.weight, or set train.class_weights=balanced"
        )


def hints(lines: Iterable[Mapping[str, Any]]) -> Iterator[Note]:
    """What the curves of a finished run say about its unlabelled data.

    Args:
        lines: Of its metrics.jsonl.
    """
    lines = list(lines)
    steps = [line for line in lines if "loss" in line and line["loss"] is not None]
    evaluations = [line for line in lines if line.get("miou") is not None]
    yield from _no_say([line for line in steps[len(steps) // 2 :] if line["lambda"] > 0])
    if steps and evaluations:
        yield from _fall(steps, evaluations)


def _no_say(steps: Sequence[Mapping[str, Any]]) -> Iterator[Note]:
    if not steps:
        return
    unlabelled = median(line["lambda"] * line["loss_consistency"] for line in steps)
    supervised = median(line["loss_supervised"] for line in steps)
    if unlabelled < LITTLE_SAY * supervised:
        yield Note(
            f"the unlabelled loss was {100 * unlabelled / supervised:.2g} % of the supervised one in the second half "
            f"of the run, so it hardly had a say: raise method.weight and compare"
        )


def _fall(steps: Sequence[Mapping[str, Any]], evaluations: Sequence[Mapping[str, Any]]) -> Iterator[Note]:
    best, last = max(evaluations, key=lambda line: float(line["miou"])), evaluations[-1]
    then, now = (_weight_at(steps, line["step"]) for line in (best, last))
    if last["miou"] < best["miou"] - FALL and now > 2 * then:
        yield Note(
            f"validation was best at step {best['step']} (mIoU {100 * best['miou']:.2f} %) and fell to "
            f"{100 * last['miou']:.2f} % while lambda grew from {then:.3g} to {now:.3g}: unlabelled data did not help "
            f"here; lower method.weight, and compare with --method supervised"
        )


def _weight_at(steps: Sequence[Mapping[str, Any]], step: int) -> float:
    return float(min(steps, key=lambda line: abs(line["step"] - step))["lambda"])
