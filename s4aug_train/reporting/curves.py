"""The section of learning curves: what metrics.jsonl holds."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from .charts import BINS, Line, line_chart
from .gathered import Gathered, Run
from .markup import Markup, tag
from .pieces import Section, figure, folded, paragraph, run_legend, section, small, table
from .words import number, percent


class Curve(NamedTuple):
    """A number of metrics.jsonl and how it is shown."""

    field: str
    title: str
    label: str
    told: str = ""
    shares: bool = False
    unlabelled: bool = False  # left out for runs that use no unlabelled tiles
    besides: str = ""  # told besides, where a run uses some


MAIN = (
    Curve("miou", "Validation mIoU", "mIoU (%)", " of whole held-out tiles, as training went on", shares=True),
    Curve(
        "loss",
        "Loss",
        "loss",
        " of a step",
        besides=": the supervised one, and λ times that of the unlabelled images",
    ),
    Curve("loss_supervised", "Supervised loss", "loss", " on the labelled images"),
    Curve("loss_consistency", "Unlabelled loss", "loss", " before it is weighted with λ", unlabelled=True),
    Curve("lambda", "λ", "λ", ", the weight of the unlabelled loss", unlabelled=True),
    Curve(
        "valid_fraction",
        "Valid fraction",
        "pixels (%)",
        " of the unlabelled crops: the pixels that are real in what is compared",
        shares=True,
        unlabelled=True,
    ),
)
MACHINE = (
    Curve("lr", "Learning rate", "learning rate"),
    Curve("images_per_s", "Speed", "images per second"),
    Curve("data_wait", "Waiting for data", "time (%)", shares=True),
    Curve("memory_mib", "Memory", "MiB", " at most so far"),
    Curve("skipped", "Skipped steps", "steps", " since the line before: loss or gradient was not finite"),
)
KNOWN = frozenset({"step", "iou", *(curve.field for curve in (*MAIN, *MACHINE))})


def curves_section(gathered: Gathered) -> Section:
    """All curves, each with all runs; those of the machine are folded."""
    runs = gathered.runs
    shown = [number for number, run in enumerate(runs) if run.lines]
    if not shown:
        return section("curves", "Learning curves", paragraph("No run here has a metrics.jsonl that can be read."))
    content = [
        _charts("curve", [*MAIN, *_extra(runs)], runs),
        folded("Learning rate, speed and memory", _charts("machine", MACHINE, runs)),
        folded("The last values as a table", _last(runs, shown)),
    ]
    if any(len(run.lines) > BINS for run in runs):
        content.append(small(f"Runs of more than {BINS} lines are drawn as means of neighbouring lines."))
    return section("curves", "Learning curves", run_legend(runs, shown), *content)


def _extra(runs: Sequence[Run]) -> Iterator[Curve]:
    """What methods tell besides, such as the agreement of two predictions."""
    names = {name for run in runs for line in run.lines for name, value in line.items() if _is_number(value)}
    for name in sorted(names - KNOWN):
        values = [line[name] for run in runs for line in run.lines if _is_number(line.get(name))]
        share = all(0 <= value <= 1 for value in values)
        yield Curve(name, _title(name), f"{_title(name)} (%)" if share else _title(name), shares=share)


def _title(field: str) -> str:
    words = field.replace("_", " ")
    return words[:1].upper() + words[1:]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _charts(key: str, curves: Sequence[Curve], runs: Sequence[Run]) -> Markup:
    return tag("div", {"class": "charts"}, [_figure(f"{key}-{i}", curve, runs) for i, curve in enumerate(curves)])


def _figure(key: str, curve: Curve, runs: Sequence[Run]) -> Markup | None:
    lines = [line for line in _lines(curve, runs) if line.known]
    if not lines or (curve.field == "skipped" and not any(y for line in lines for _, y in line.known)):
        return None
    drawing = line_chart(key, curve.title, lines, ("step", curve.label), shares=curve.shares)
    absent = [runs[n].name for n in range(len(runs)) if runs[n].lines and n not in {line.look for line in lines}]
    told = curve.told + (curve.besides if any(map(uses_unlabelled, runs)) else "")
    told += f". None: {', '.join(absent)}" if absent else ""
    return figure(drawing, curve.title, f"{told}." if told else None)


def _lines(curve: Curve, runs: Sequence[Run]) -> Iterator[Line]:
    for look, run in enumerate(runs):
        if not (curve.unlabelled and not uses_unlabelled(run)):
            lines = [line for line in run.lines if curve.field in line]
            values = tuple(line[curve.field] if _is_number(line[curve.field]) else None for line in lines)
            yield Line(run.name, look, tuple(float(line["step"]) for line in lines), values)


def uses_unlabelled(run: Run) -> bool:
    """Whether unlabelled images ever counted: metrics.jsonl holds zeros where there are none."""
    fields = ("lambda", "valid_fraction", "loss_consistency")
    return any(line.get(field) for line in run.lines for field in fields)


def _last(runs: Sequence[Run], shown: Sequence[int]) -> Markup:
    """The last value of each number, in each run."""
    curves = [*MAIN, *_extra(runs), *MACHINE]
    last = [_last_values(runs[n]) for n in shown]
    rows = [
        [curve.title, *(percent(v.get(curve.field)) if curve.shares else number(v.get(curve.field)) for v in last)]
        for curve in curves
        if any(curve.field in values for values in last)
    ]
    rows.insert(0, ["Step", *(number(values.get("step")) for values in last)])
    return table("Last values of metrics.jsonl", ["", *(runs[n].name for n in shown)], rows, kind="numbers")


def _last_values(run: Run) -> dict[str, float]:
    values: dict[str, float] = {}
    for line in run.lines:
        values.update({name: value for name, value in line.items() if _is_number(value)})
    zeros = {curve.field for curve in MAIN if curve.unlabelled and not uses_unlabelled(run)}
    return {name: value for name, value in values.items() if name not in zeros}
