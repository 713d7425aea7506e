"""From the outcomes of runs to the figures of a table: mean and standard deviation over seeds, the paper's beside."""

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from . import paper
from .folder import Outcome
from .grid import TABLES, Cell, Entry, Grid
from .paper import Published

AXES = {"table2": "method", "table3": "class", "table4": "labelled tiles", "fig5": "lambda"}


@dataclass(frozen=True)
class Figure:
    """One number of a table.

    Args:
        category: Its row.
        series: Its column.
        published: The paper's; None where it has none.
        values: Ours in %, by seed; without the seeds that are missing.
    """

    category: str
    series: str
    published: Published | None
    values: Mapping[int, float]

    @property
    def mean(self) -> float | None:
        """Over seeds; None without any."""
        return statistics.fmean(self.values.values()) if self.values else None

    @property
    def sd(self) -> float | None:
        """Standard deviation of the sample (n - 1); None of less than two."""
        return statistics.stdev(self.values.values()) if len(self.values) > 1 else None

    def __str__(self) -> str:
        if self.mean is None:
            return "-"
        return f"{self.mean:.2f}{'' if self.sd is None else f' ± {self.sd:.2f}'}"

    def less(self, other: "Figure") -> "Figure":
        """The difference, seed by seed, of the seeds that both have."""
        both = {seed: value - other.values[seed] for seed, value in self.values.items() if seed in other.values}
        return Figure(self.category, f"{self.series} minus {other.series}", None, both)


@dataclass(frozen=True)
class Result:
    """A table: the paper's figures and ours.

    Args:
        table: One of `TABLES`.
        figures: Of every place.
        seeds: That were asked for.
        differs: What is not the paper's setting; empty if all is.
        missing: Names of runs that are not finished.
        notes: What to know of the figures.
    """

    table: str
    figures: tuple[Figure, ...]
    seeds: tuple[int, ...]
    differs: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def title(self) -> str:
        """What it shows, and that it is not the paper's setting."""
        return TABLES[self.table] + (" (* not the paper's setting)" if self.differs else "")

    @property
    def axis(self) -> str:
        """What its rows are."""
        return AXES[self.table]

    @property
    def categories(self) -> tuple[str, ...]:
        """Rows, in order."""
        return tuple(dict.fromkeys(figure.category for figure in self.figures))

    @property
    def series(self) -> tuple[str, ...]:
        """Columns, in order."""
        return tuple(dict.fromkeys(figure.series for figure in self.figures))

    def at(self, category: str, series: str) -> Figure | None:
        """The figure of a place."""
        found = (figure for figure in self.figures if (figure.category, figure.series) == (category, series))
        return next(found, None)

    def ours(self, figure: Figure) -> str:
        """A figure of ours, marked where the setting is not the paper's, with n where seeds are missing."""
        count = len(figure.values)
        return self.marked(figure) + (f" (n={count})" if 0 < count < len(self.seeds) else "")

    def marked(self, figure: Figure) -> str:
        """A figure of ours, with a star where the setting is not the paper's."""
        return f"{figure}{'*' if self.differs and figure.values else ''}"

    def told(self) -> tuple[str, ...]:
        """All that is to be said below the figures."""
        marked = [f"* not the paper's setting: {'; '.join(self.differs)}."] if self.differs else []
        spread = (
            f"Ours: mean ± standard deviation of the sample over n = {len(self.seeds)} seeds ({_listed(self.seeds)})."
        )
        if len(self.seeds) == 1:
            spread = f"Ours: one seed ({self.seeds[0]}), so there is no standard deviation (n = 1)."
        missing = [f"Not finished, and left out: {', '.join(self.missing)}."] if self.missing else []
        return (*marked, *missing, spread, *gains(self), *self.notes)


def collected(grid: Grid, outcomes: Mapping[Cell, Outcome], differs: tuple[str, ...]) -> Result:
    """The figures of a table.

    Args:
        grid: Its runs.
        outcomes: Of the runs that are finished.
        differs: What is not the paper's setting.
    """
    missing = tuple(cell.name for cell in grid.cells() if cell not in outcomes)
    return Result(grid.table, tuple(_figures(grid, outcomes)), grid.seeds, differs, missing, grid.notes())


def gains(result: Result) -> Iterator[str]:
    """What S4Net adds to the baseline, ours beside the paper's, in points."""
    first, second = paper.METHODS["s4net"], paper.METHODS["supervised"]
    for category in result.categories if result.table in ("table3", "table4") else ():
        yield from _gain(result, category, result.at(category, first), result.at(category, second))
    if result.table == "table2":
        yield from _gain(result, "", result.at(first, "mIoU"), result.at(second, "mIoU"))


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))


def _gain(result: Result, where: str, first: Figure | None, second: Figure | None) -> Iterator[str]:
    if first is None or second is None:
        return
    ours, place, theirs = first.less(second), f" ({where})" if where else "", "-"
    sign = "+" if ours.mean is not None and ours.mean >= 0 else ""
    if first.published and second.published:
        digits = first.published.digits
        theirs = f"{first.published.mean - second.published.mean:+.{digits}f}"
    counted = f"(seed by seed, n={len(ours.values)})"
    yield f"S4Net minus baseline{place}: paper {theirs}, ours {sign}{result.marked(ours)} {counted}."


def _figures(grid: Grid, outcomes: Mapping[Cell, Outcome]) -> Iterator[Figure]:
    for entry in grid.entries():
        found = {cell.seed: outcomes[cell] for cell in entry.cells if cell in outcomes}
        if grid.table == "table3":
            yield from _by_class(entry, found, _classes(outcomes))
        else:
            values = {seed: outcome.miou for seed, outcome in found.items()}
            yield Figure(entry.category, entry.series, entry.published, values)


def _by_class(entry: Entry, found: Mapping[int, Outcome], classes: tuple[str, ...]) -> Iterator[Figure]:
    published = paper.TABLE_3[entry.cells[0].method]
    for name in classes:
        values = {seed: outcome.iou.get(name) for seed, outcome in found.items()}
        there = {seed: value for seed, value in values.items() if value is not None}
        yield Figure(name, entry.series, published.get(name), there)


def _classes(outcomes: Mapping[Cell, Outcome]) -> tuple[str, ...]:
    """The paper's in its order, then others of the data."""
    own = [name for outcome in outcomes.values() for name in outcome.iou]
    return tuple(dict.fromkeys([*paper.CLASSES, *own]))
