"""How a grid at work is shown."""

import time

from ..reproduce.experiment import Event, Experiment, Failed, Finished
from ..reproduce.fits import is_held
from ..reproduce.schedule import Begun, Going
from ..reproduce.timing import Pace, told
from .reporter import Reporter

LIVE_S, QUIET_S = 1.0, 60.0  # how far the runs are is told this often: in a terminal, and without


class Watch:
    """Shows a grid at work: bars in a terminal, plain lines elsewhere.

    Args:
        experiment: The grid.
        pace: How fast it goes; to be set anew as runs are finished.
        reporter: Where to.
    """

    def __init__(self, experiment: Experiment, pace: Pace, reporter: Reporter) -> None:
        self.experiment = experiment
        self.pace = pace
        self.reporter = reporter
        self.shown = time.monotonic()

    def show(self, event: Event, finished: int) -> None:
        """Tell what happens, with `finished` runs in all."""
        match event:
            case Begun(cell):
                # A process that has just begun holds nothing yet.
                other = is_held(self.experiment.folder.run(cell))
                state = "still going on from an earlier call, waited for" if other else "begun"
                self.reporter.line(f"{cell.name}: {state}; log {self.experiment.folder.log(cell)}")
            case Finished(cell, outcome):
                self._bar_ends(event)
                done = f"{finished} of {len(self.experiment.configs)} finished"
                self.reporter.line(f"{cell.name}: mIoU {outcome.miou:.2f} %; {done}")
            case Failed(cell, why):
                self._bar_ends(event)
                self.reporter.line(f"{cell.name}: failed: {why}")
            case Going() if time.monotonic() - self.shown > (LIVE_S if self.reporter.live else QUIET_S):
                self.shown = time.monotonic()
                self._going(event)

    def _going(self, event: Going) -> None:
        steps = {cell: self.experiment.folder.steps_done(cell) for cell in event.running}
        totals = {cell: self.experiment.configs[cell].train.steps for cell in steps}
        if self.reporter.live:
            for cell, step in steps.items():
                self.reporter.progress(cell.name, min(step, totals[cell] - 1), totals[cell])
            return
        left = self.experiment.left_s(self.pace, [*event.running, *event.waiting])
        each = ", ".join(f"{cell.name} step {step}/{totals[cell]}" for cell, step in steps.items())
        self.reporter.line(f"{each}; {len(event.waiting)} waiting; about {told(left)} left")

    def _bar_ends(self, event: Finished | Failed) -> None:
        if event.cell.name in self.reporter.tasks:
            total = self.experiment.configs[event.cell].train.steps
            self.reporter.progress(event.cell.name, total, total)
