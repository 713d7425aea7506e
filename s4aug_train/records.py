"""What a run tells: frozen records, one JSON object a line in metrics.jsonl."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from .errors import DataError
from .files import append_text, parse_json, write_text

NAMED = 5  # of what is left out, in one note


@dataclass(frozen=True)
class StepRecord:
    """One training step."""

    step: int
    loss: float
    loss_supervised: float
    loss_consistency: float  # of the unlabelled images, unweighted
    weight: float  # lambda
    valid_fraction: float  # of the unlabelled pixels that were compared; 0 without unlabelled images
    lr: float
    images_per_s: float
    data_wait: float  # share of the time spent waiting for data
    memory_mib: float  # the most so far: allocated by torch on a GPU, else resident
    extra: dict[str, float] = field(default_factory=dict)  # what a method tells besides
    skipped: int = 0  # of the steps since the last record: loss or gradient was not finite

    def to_dict(self) -> dict[str, Any]:
        """As written to metrics.jsonl."""
        values = asdict(self)
        values.update(values.pop("extra"))
        named = {("lambda" if name == "weight" else name): value for name, value in values.items()}
        # JSON has no NaN, which means are if every step was skipped.
        return {name: value if math.isfinite(value) else None for name, value in named.items()}


# What lines of metrics.jsonl call something else; no more that a method tells can have these names.
RESERVED = frozenset({*(field.name for field in fields(StepRecord)), "lambda", "iou", "miou"})


@dataclass(frozen=True)
class EvaluationRecord:
    """One evaluation on whole tiles."""

    step: int
    miou: float | None  # 0..1, over the classes that the truth holds; None where it holds none
    iou: dict[str, float | None]  # 0..1; None: the truth does not hold the class
    confusion: list[list[int]]  # rows truth, columns prediction, px
    classes: list[str]
    tiles: int

    @property
    def accuracy(self) -> float | None:
        """Share of the labelled pixels that are predicted right (overall accuracy); None where there are none."""
        whole = sum(map(sum, self.confusion))
        return sum(row[index] for index, row in enumerate(self.confusion)) / whole if whole else None

    @property
    def never_predicted(self) -> list[str]:
        """Classes that no labelled pixel is predicted as."""
        return [name for index, name in enumerate(self.classes) if not any(row[index] for row in self.confusion)]

    @property
    def absent(self) -> list[str]:
        """Classes that the truth does not hold."""
        return [name for name, row in zip(self.classes, self.confusion, strict=True) if not any(row)]

    def to_dict(self) -> dict[str, Any]:
        """As written to metrics.jsonl."""
        return {"step": self.step, "miou": self.miou, "iou": self.iou}

    def to_json(self) -> dict[str, Any]:
        """As printed by `evaluate --json`."""
        values = asdict(self)
        del values["step"]
        return {**values, "accuracy": self.accuracy, "never_predicted": self.never_predicted, "absent": self.absent}


@dataclass(frozen=True)
class Note:
    """Something that was decided, for people; not in metrics.jsonl."""

    text: str


@dataclass(frozen=True)
class Stopped:
    """The end of a run that was asked to stop, and saved; not in metrics.jsonl."""

    step: int


class LeftOut:
    """Files and tiles that could not be read, for people: each is told once, however often it is tried.

    Args:
        known: Why each of those that are known already could not be read, by name.
    """

    def __init__(self, known: Mapping[str, str]) -> None:
        self.told: set[str] = set()
        self.untold = dict(known)

    def add(self, name: str, why: str) -> None:
        """One more, or one that is known."""
        if name not in self.told:
            self.untold.setdefault(name, why)

    def notes(self) -> Iterator[Note]:
        """A note of those that were not told yet."""
        if not self.untold:
            return
        names, why = list(self.untold), next(iter(self.untold.values()))
        self.told.update(names)
        self.untold.clear()
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        listed = f"{len(names)} that cannot be read ({', '.join(names[:NAMED])}{more}), the first: "
        yield Note(f"left out (data.unreadable=skip): {listed if len(names) > 1 else ''}{why}")


Record = StepRecord | EvaluationRecord | Note | Stopped


class MetricsFile:
    """metrics.jsonl of a run, appended line by line.

    Args:
        path: The file.
        step: Step lines beyond this, left by a run that was killed after its last checkpoint, are dropped, so
            that a resumed run has each step once.
        evaluated: The same for evaluations.

    Attributes:
        evaluated: The step of the last evaluation that the file holds; 0 without any.
    """

    def __init__(self, path: Path, step: int = 0, evaluated: int = 0) -> None:
        self.path = path
        lines = read_metrics(path) if path.exists() else []
        kept = [line for line in lines if line["step"] <= (evaluated if "miou" in line else step)]
        self.evaluated = max((line["step"] for line in kept if "miou" in line), default=0)
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))

    def append(self, record: Record) -> None:
        """Write one line and flush it."""
        if isinstance(record, Note | Stopped):
            return
        append_text(self.path, json.dumps(record.to_dict()) + "\n")


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a metrics.jsonl; a last line cut short by a kill is left out.

    Raises:
        DataError: A line within the file is not the JSON of a record.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            values = parse_json(line)
            _check_record(values)
        except (ValueError, OverflowError) as error:
            if number < len(lines):
                raise DataError(f"{path}, line {number}, is no record of a run; restore or delete the file") from error
        else:
            yield values


def _check_record(values: Any) -> None:
    """Hold a line to what `to_dict` writes: numbers by name, and for an evaluation those of classes.

    Raises:
        ValueError: It is something else.
        OverflowError: A number is none that we wrote.
    """
    if not isinstance(values, dict) or not isinstance(values.get("step"), int):
        raise ValueError("no step")
    iou = values.get("iou", {})
    if not isinstance(iou, dict) or ("iou" in values) != ("miou" in values):
        raise ValueError("no IoU by class")
    for number in (*(value for name, value in values.items() if name != "iou"), *iou.values()):
        if number is not None and not (isinstance(number, int | float) and math.isfinite(number)):
            raise ValueError("not a number")
