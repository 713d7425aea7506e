"""The table that a run ends with."""

import io
import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from .records import Measured, Record

MIB = 2**20


def rendered(records: Sequence[Record], width: int) -> str:
    """As text."""
    table = Table(title="Ratios: time by ours, more than 1 is good for us; the copy's is our share of the limit")
    for name in ("case", "contender", "median, ms", "quartiles", "ratio", "quartiles", "peak, MiB", "same bits"):
        table.add_column(name, justify="left" if name in ("case", "contender") else "right", no_wrap=True)
    for record in records:
        for i, (name, measured) in enumerate(record.contenders.items()):
            table.add_row(record.case.name if i == 0 else "", name, *cells(record, name, measured))
        table.add_section()
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    console.print("\n".join([*told_figures(records), *refusals(records)]))
    return console.file.getvalue()  # type: ignore[attr-defined]


def told_figures(records: Sequence[Record]) -> list[str]:
    """What contenders told of themselves."""
    return [
        f"{record.case.name}: {name}: {what} {100 * share:.2g} %"
        for record in records
        for name, each in record.contenders.items()
        for what, share in each.figures.items()
    ]


def refusals(records: Sequence[Record]) -> list[str]:
    """Who took no part, and why; each once."""
    told = [f"{r.case.kind}: {name}: {reason}" for r in records for name, reason in r.refused.items()]
    return list(dict.fromkeys(told))


def cells(record: Record, name: str, measured: Measured) -> list[str]:
    time, ratio = measured.time, record.ratio(name)
    own = measured is record.ours
    same = {True: "yes", False: "no", None: ""}[measured.repeatable]
    return [
        milliseconds(time.median),
        f"{milliseconds(time.low)} to {milliseconds(time.high)}",
        "" if own else digits(ratio.median),
        "" if own else f"{digits(ratio.low)} to {digits(ratio.high)}",
        mebibytes(measured.peak_bytes),
        same,
    ]


def digits(value: float) -> str:
    """Two or three of them, never an exponent: 1234, 12.3, 1.23, 0.012."""
    if value == 0:
        return "0"
    places = 1 - math.floor(math.log10(value)) + (0.1 <= value < 100)
    return f"{value:.{max(places, 0)}f}"


def milliseconds(seconds: float) -> str:
    return digits(1e3 * seconds)


def mebibytes(count: int | None) -> str:
    return "" if count is None else digits(count / MIB)
