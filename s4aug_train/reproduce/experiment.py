"""A grid at work: what is finished, what it will take, and what happens until all is done."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ..config import Config
from ..errors import S4AugTrainError
from .documents import write_all
from .fits import reason
from .folder import GridFolder, Outcome
from .grid import Cell
from .plan import Plan
from .results import Result, collected
from .schedule import Begun, Ended, Going, Start, work_off
from .survey import Survey
from .timing import Pace, timed

Timed = Callable[[Config, Survey, int], float]


@dataclass(frozen=True)
class Finished:
    """A run has its figure."""

    cell: Cell
    outcome: Outcome


@dataclass(frozen=True)
class Failed:
    """A run ended without one, and why; the same call tries it again."""

    cell: Cell
    why: str


Event = Begun | Going | Finished | Failed


@dataclass(frozen=True)
class Experiment:
    """A plan on a data set, in a folder.

    Args:
        plan: What is to be done.
        folder: Where.
        survey: Of the data.
        jobs: Runs at once.
    """

    plan: Plan
    folder: GridFolder
    survey: Survey
    jobs: int

    @cached_property
    def configs(self) -> Mapping[Cell, Config]:
        """The settings of each run."""
        return {cell: self.plan.config(cell) for cell in self.plan.grid.cells()}

    @cached_property
    def differs(self) -> tuple[str, ...]:
        """What is not the paper's setting."""
        return self.plan.differences(self.survey)

    def outcomes(self) -> dict[Cell, Outcome]:
        """Of the runs that are finished.

        Raises:
            ConfigError: One was trained with other settings.
        """
        found = {cell: self.folder.outcome(cell, config) for cell, config in self.configs.items()}
        return {cell: outcome for cell, outcome in found.items() if outcome is not None}

    def result(self, outcomes: Mapping[Cell, Outcome]) -> Result:
        """The table, as far as runs are finished."""
        return collected(self.plan.grid, outcomes, self.differs)

    def pace(self, outcomes: Mapping[Cell, Outcome], time_steps: Timed = timed) -> Pace:
        """How fast runs go: by finished ones of the same method, else by a short timing of its steps."""
        pace = self.learned(Pace(self.jobs, self.survey.size, self.survey.val), outcomes)
        at_once = min(self.jobs, len(self.configs) - len(outcomes))
        measured = {
            method: time_steps(self.configs[cell], self.survey, at_once)
            for method, cell in self.untimed(outcomes).items()
        }
        return replace(pace, step_s={**pace.step_s, **measured})

    def untimed(self, outcomes: Mapping[Cell, Outcome]) -> dict[str, Cell]:
        """Methods that have runs to do and none that is finished, each with one of its runs."""
        timed_by_runs = {cell.method for cell, outcome in outcomes.items() if outcome.step_s}
        left = {cell.method: cell for cell in self.configs if cell not in outcomes}
        return {method: cell for method, cell in left.items() if method not in timed_by_runs}

    def learned(self, pace: Pace, outcomes: Mapping[Cell, Outcome]) -> Pace:
        """A pace that goes by the finished runs, where there are any of a method."""
        seconds: dict[str, list[float]] = {}
        for cell, outcome in outcomes.items():
            if outcome.step_s:
                seconds.setdefault(cell.method, []).append(outcome.step_s)
        medians = {method: statistics.median(each) for method, each in seconds.items()}
        return replace(pace, step_s={**pace.step_s, **medians})

    def left_s(self, pace: Pace, cells: Sequence[Cell]) -> float:
        """Seconds until these runs are done, which may have begun."""
        shares = {cell: 1 - min(1.0, self.folder.steps_done(cell) / self.configs[cell].train.steps) for cell in cells}
        return pace.left_s(shares, self.configs)

    def work(self, outcomes: dict[Cell, Outcome], start: Start, signals: Sequence[int]) -> Iterator[Event]:
        """Run what is not finished, and write the results each time that one more is.

        Args:
            outcomes: Of the runs that are finished; others are added.
            start: Gives the process of a run.
            signals: As in `work_off`.

        Yields:
            What happens.

        Raises:
            S4AugTrainError: Results cannot be written.
        """
        self._write(outcomes)
        left = [cell for cell in self.configs if cell not in outcomes]
        for event in work_off(left, start, self.jobs, signals):
            if not isinstance(event, Ended):
                yield event
                continue
            told = self._ended(event)
            if isinstance(told, Finished):
                outcomes[told.cell] = told.outcome
                self._write(outcomes)
            if isinstance(told, Finished) or not signals:
                yield told

    def _ended(self, event: Ended) -> Finished | Failed:
        try:
            outcome = self.folder.outcome(event.cell, self.configs[event.cell])
        except S4AugTrainError as error:
            return Failed(event.cell, str(error))
        # What failed after its figure was written would count as finished in the next call too.
        if outcome is not None:
            return Finished(event.cell, outcome)
        return Failed(event.cell, reason(self.folder.log(event.cell), event.code))

    def _write(self, outcomes: Mapping[Cell, Outcome]) -> None:
        if outcomes:
            write_all(self.result(outcomes), self.folder.results(self.plan.grid.table))
