"""How a run is shown: a live bar in a terminal, plain lines elsewhere, and log.txt always."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO, cast

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from ..files import append_text
from ..records import EvaluationRecord, Note, Record, StepRecord
from .line import one_line
from .stderr import Stderr

QUIET_S = 10.0  # without a terminal, a progress line at most this often


class Reporter:
    """Shows progress and records on stderr; use it as a context.

    Args:
        log: File that gets every line; None for no file.
        quiet: Nothing is shown or logged, as by the processes of a run that another one speaks for.
    """

    def __init__(self, log: Path | None = None, *, quiet: bool = False) -> None:
        # Some services have no standard error at all, for which Console has its own cure.
        there = cast(TextIO, Stderr()) if sys.stderr is not None else None
        self.console = Console(file=there, stderr=True, quiet=quiet)
        self.log = None if quiet else log
        self.live = self.console.is_terminal and not quiet
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self.tasks: dict[str, TaskID] = {}
        self.began: dict[str, tuple[float, int]] = {}  # what: clock and count at the first call
        self.shown = 0.0

    def __enter__(self) -> "Reporter":
        if self.live:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.bar.stop()

    def line(self, text: str) -> None:
        """Print one line, and log it."""
        text = one_line(text)
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
        if self.log is not None and self.log.parent.is_dir():
            append_text(self.log, f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    def progress(self, what: str, done: int, total: int) -> None:
        """Show how far something is."""
        now = time.monotonic()
        self.began.setdefault(what, (now, done - 1))
        if self.live:
            if what not in self.tasks:
                self.tasks[what] = self.bar.add_task(what, total=total)
            # There may be less to do than was thought.
            self.bar.update(self.tasks[what], completed=done, total=total, visible=done < total)
        elif what != "training" and now - max(self.shown, self.began[what][0]) > QUIET_S:
            self.shown = now
            self.line(f"{what}: {done}/{total}, {self._remaining(what, done, total)} left")
        if done == total:
            self.began.pop(what)

    def record(self, record: Record, steps: int) -> None:
        """Show a record as a line."""
        if isinstance(record, Note):
            self.line(record.text)
        elif isinstance(record, EvaluationRecord):
            value = "no class in the truth" if record.miou is None else f"mIoU {100 * record.miou:.2f} %"
            self.line(f"step {record.step}/{steps}  validation on {record.tiles} tiles: {value}")
        elif isinstance(record, StepRecord):
            left = self._remaining("training", record.step, steps)
            self.line(f"step {record.step}/{steps}  {step_text(record)}  {left} left")

    def _remaining(self, what: str, done: int, total: int) -> str:
        if what not in self.began:
            return "0:00"
        clock, first = self.began[what]
        seconds = (time.monotonic() - clock) / max(done - first, 1) * (total - done)
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def step_text(record: StepRecord) -> str:
    """Losses, speed and memory of a step record."""
    text = f"loss {record.loss:.4f}  supervised {record.loss_supervised:.4f}"
    if record.weight > 0:
        text += (
            f"  unlabelled {record.loss_consistency:.5f} x {record.weight:.3f}"
            f"  valid {100 * record.valid_fraction:.0f} %"
        )
    text += "".join(f"  {name.replace('_', ' ')} {value:.3f}" for name, value in record.extra.items())
    text += f"  lr {record.lr:.5f}  {record.images_per_s:.1f} images/s  waiting {100 * record.data_wait:.0f} %"
    return f"{text}  memory {record.memory_mib / 1024:.1f} GiB"


def evaluation_table(record: EvaluationRecord, title: str, more: Mapping[str, Sequence[str]] | None = None) -> Table:
    """IoU by class, with the share of the truth that each class has.

    Args:
        record: The evaluation.
        title: Above the table.
        more: Further columns by their names: a text for each class, then one for the mean.
    """
    more = more or {}
    accuracy = Text(f"overall accuracy {accuracy_text(record)}")
    table = Table(title=Text(one_line(title)), title_justify="left", caption=accuracy, caption_justify="left")
    table.add_column("class", overflow="fold")
    for name in ("IoU %", *more, "share of truth %"):
        table.add_column(name, justify="right")
    pixels = [sum(row) for row in record.confusion]
    absent = "absent" if more else "absent from the truth"
    for number, (name, share) in enumerate(zip(record.classes, pixels, strict=True)):
        value = record.iou[name]
        text = absent if value is None else f"{100 * value:.2f}"
        cells = (column[number] for column in more.values())
        table.add_row(Text(name), text, *cells, f"{100 * share / max(sum(pixels), 1):.2f}")
    table.add_section()
    mean = "-" if record.miou is None else f"{100 * record.miou:.2f}"
    table.add_row("mean of the classes present", mean, *(column[-1] for column in more.values()), "")
    return table


def accuracy_text(record: EvaluationRecord) -> str:
    """Share of the labelled pixels that are predicted right."""
    return "-" if record.accuracy is None else f"{100 * record.accuracy:.1f} %"


def classes_note(record: EvaluationRecord) -> str | None:
    """Classes that the network never predicted on the tiles, and those that the truth does not hold, in one line."""
    never, absent = record.never_predicted, record.absent
    named = {
        "never predicted": [name for name in never if name not in absent],
        "absent from the truth": [name for name in absent if name not in never],
        "neither in the truth nor predicted": [name for name in absent if name in never],
    }
    told = "; ".join(f"{what}: {', '.join(names)}" for what, names in named.items() if names)
    return f"note: on these tiles {told}" if told else None
