"""How an assessment is shown: a compact table, what there is to say in a line each, and a confusion matrix."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from ..assessment import Assessment, Intervals
from ..comparison import Comparison
from ..resampling import Bounds
from .line import one_line
from .reporter import accuracy_text, classes_note, evaluation_table

NAME_WIDTH = 22  # of class names beside a confusion matrix; longer ones are cut
NUMBER_WIDTH = 4


def print_assessment(console: Console, assessment: Assessment, intervals: Intervals, title: str) -> None:
    """IoU with intervals by class, then boundaries and calibration."""
    bounds = [*(intervals.iou[name] for name in assessment.classes), intervals.miou]
    more = {f"{100 * intervals.level:.0f} % interval": [_interval_text(each) for each in bounds]}
    console.print(evaluation_table(assessment.record(), title, more))
    for line in _lines(assessment):
        console.print(line, highlight=False, markup=False)


def _interval_text(bounds: Bounds | None) -> str:
    return "-" if bounds is None else " to ".join(f"{100 * value:.1f}" for value in bounds)


def _lines(assessment: Assessment) -> Iterator[str]:
    if note := classes_note(assessment.record()):
        yield one_line(note)
    if len(assessment.tiles) < 2:
        yield "no intervals: they take two tiles or more"
    near = [f"{part.label}: {100 * part.accuracy:.1f}" for part in assessment.boundary() if part.accuracy is not None]
    yield f"accuracy % by px to the nearest boundary of the truth: {', '.join(near) or 'no labelled pixel'}"
    ece = assessment.ece()
    if ece is None:
        return
    filled = [b for b in assessment.calibration() if b.confidence is not None]
    confidence, accuracy = (
        sum(b.share * (getattr(b, name) or 0) for b in filled) for name in ("confidence", "accuracy")
    )
    verdict = "too sure" if confidence > accuracy else "not sure enough"
    yield (
        f"confidence {100 * confidence:.1f} %, accuracy {100 * accuracy:.1f} % of the pixels: {verdict}; expected "
        f"calibration error {100 * ece:.1f} %"
    )


def print_comparison(
    console: Console, ours: Assessment, theirs: Assessment, comparison: Comparison, other: Path
) -> None:
    """Two checkpoints side by side, and in words whether they differ."""
    iou, second = ours.iou(), theirs.iou()
    pairs = [*((iou[name], second[name]) for name in ours.classes), (ours.miou, theirs.miou)]
    more = {
        "against %": ["" if b is None else f"{100 * b:.2f}" for _, b in pairs],
        "difference": ["" if a is None or b is None else f"{100 * (a - b):+.2f}" for a, b in pairs],
    }
    table = evaluation_table(ours.record(), f"against {other}, step {theirs.step}", more)
    table.caption = f"overall accuracy {accuracy_text(ours.record())}, against {accuracy_text(theirs.record())}"
    console.print(table)
    console.print(one_line(verdict_text(comparison, other)), highlight=False, markup=False)


def verdict_text(comparison: Comparison, other: Path) -> str:
    """What a comparison says, in words."""
    if comparison.difference is None or comparison.p_value is None:
        return "nothing to compare: no class in the truth"
    text = f"mIoU {100 * comparison.difference:+.2f} points against {other} on {comparison.tiles} tiles"
    if comparison.interval is not None:
        low, high = (f"{100 * value:+.2f}" for value in comparison.interval)
        text += f", 95 % interval {low} to {high}"
    text += f", p = {comparison.p_value:.3g}: "
    if not comparison.shown:
        return text + "no difference is shown"
    return text + ("better" if comparison.difference > 0 else "worse")


def print_confusion(console: Console, assessment: Assessment) -> None:
    """The confusion matrix, % of the truth; as many columns at once as the console is wide."""
    console.print("confusion, % of the pixels of a class (rows) that are predicted as (columns):", highlight=False)
    counts = assessment.confusion().counts.tolist()
    names = [f"{number} {name}" for number, name in enumerate(assessment.classes, 1)]
    width = min(max(map(len, names)), NAME_WIDTH)
    step = max(1, (console.width - width) // NUMBER_WIDTH)
    for first in range(0, len(names), step):
        shown = range(first, min(first + step, len(names)))
        lines = [_line("", width, [str(number + 1) for number in shown])]
        for name, row in zip(names, counts, strict=True):
            lines.append(_line(name, width, [_percent(row[number], sum(row)) for number in shown]))
        console.print(Text("\n".join(lines)), no_wrap=True, crop=False)


def _line(name: str, width: int, cells: Sequence[str]) -> str:
    cut = name if len(name) <= width else name[: width - 1] + "…"
    return cut.ljust(width) + "".join(cell.rjust(NUMBER_WIDTH) for cell in cells)


def _percent(count: int, whole: int) -> str:
    """Whole percent; a dot where there is none at all, and nothing for a class that the truth does not hold."""
    if not whole:
        return ""
    return f"{100 * count / whole:.0f}" if count else "·"
