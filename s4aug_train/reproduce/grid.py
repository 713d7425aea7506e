"""Which runs a table is made of."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from . import paper
from .paper import Published

# What the command line calls them, and what they show.
TABLES = {
    "table2": "Table 2: mIoU in % on the validation tiles",
    "table3": "Table 3: IoU in % by class on the validation tiles",
    "table4": "Table 4: mIoU in % by number of labelled tiles",
    "fig5": "Figure 5: mIoU in % by lambda",
}
SEEDS = (0, 1, 2)
SUPERVISED = ("supervised", "full")  # methods that show no unlabelled images


@dataclass(frozen=True)
class Cell:
    """One run of a grid; tables that need the same one share it.

    Args:
        method: As in `method.name`.
        labels: Labelled tiles.
        seed: Of all that is random but the validation tiles.
        weight: lambda, where it is not the paper's 2.
    """

    method: str
    labels: int
    seed: int
    weight: float | None = None

    @property
    def name(self) -> str:
        """Of its folder."""
        of_weight = "" if self.weight is None else f"-lambda{self.weight:g}"
        return f"{self.method}-labeled{self.labels}{of_weight}-seed{self.seed}"

    def settings(self) -> dict[str, Any]:
        """What it sets, and nobody else may."""
        weight = {} if self.weight is None else {"method.weight": self.weight}
        return {"method.name": self.method, "data.labeled": self.labels, "train.seed": self.seed, **weight}


@dataclass(frozen=True)
class Entry:
    """A place in a table, of several runs that differ by seed.

    Args:
        category: Its row; in Table 3, where a run has a figure for each class, empty.
        series: Its column.
        cells: The runs.
        published: The paper's figure; None where it has none.
    """

    category: str
    series: str
    cells: tuple[Cell, ...]
    published: Published | None


@dataclass(frozen=True)
class Grid:
    """All runs of a table.

    Args:
        table: One of `TABLES`.
        labels: Numbers of labelled tiles; one, but for Table 4.
        seeds: One run each.

    Raises:
        ConfigError: There are several numbers of labelled tiles where the table has one.
    """

    table: str
    labels: tuple[int, ...]
    seeds: tuple[int, ...] = SEEDS

    def __post_init__(self) -> None:
        if self.table != "table4" and len(self.labels) != 1:
            given = ", ".join(map(str, self.labels))
            raise ConfigError(f"{self.table} is of one number of labelled tiles, got --labels {given}; give one")

    def entries(self) -> tuple[Entry, ...]:
        """Places of the table, in the order in which their runs are worked off."""
        return tuple(self._entries())

    def cells(self) -> tuple[Cell, ...]:
        """Each run once: those of the first seed first, so that there is something to see early."""
        every = [cell for entry in self.entries() for cell in entry.cells]
        return tuple(sorted(dict.fromkeys(every), key=lambda cell: self.seeds.index(cell.seed)))

    def notes(self) -> tuple[str, ...]:
        """What to know of the paper's figures and of ours."""
        match self.table:
            case "table2":
                return paper.OF_TABLE_2
            case "table3":
                return paper.OF_TABLE_3
            case "table4":
                return paper.OF_TABLE_4
            case _:
                return paper.OF_FIGURE_5

    def _entries(self) -> Iterator[Entry]:
        labels = self.labels[0]
        match self.table:
            case "table2":
                for method, name in paper.METHODS.items():
                    yield Entry(name, "mIoU", self._seeded(method, labels), paper.TABLE_2[method])
            case "table3":
                for method, name in paper.METHODS.items():
                    yield Entry("", name, self._seeded(method, labels), None)
            case "table4":
                for count in self.labels:
                    for method in ("supervised", "s4net"):
                        published = paper.TABLE_4.get((method, count))
                        yield Entry(str(count), paper.METHODS[method], self._seeded(method, count), published)
            case _:
                for weight in paper.LAMBDAS:
                    other = None if weight == paper.LAMBDA else weight
                    cells = self._seeded("s4net", labels, other)
                    yield Entry(f"{weight:g}", "S4Net", cells, paper.FIGURE_5.get(weight))

    def _seeded(self, method: str, labels: int, weight: float | None = None) -> tuple[Cell, ...]:
        return tuple(Cell(method, labels, seed, weight) for seed in self.seeds)


def count_names(cells: Iterable[Cell]) -> str:
    """How many runs, for people."""
    number = len(tuple(cells))
    return f"{number} run{'' if number == 1 else 's'}"
