"""How a table of the paper is worked off and shown."""

import shlex
import sys
from contextlib import nullcontext, suppress
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import TrainingError
from ..reproduce.documents import header, rows
from ..reproduce.experiment import Experiment, Failed, Finished
from ..reproduce.fits import Fits, check_alone, visible_gpus
from ..reproduce.folder import GridFolder
from ..reproduce.grid import count_names
from ..reproduce.plan import Plan
from ..reproduce.results import Result
from ..reproduce.survey import decoded, surveyed
from ..reproduce.timing import Pace, told
from ..run import RunFolder, held
from .line import one_line
from .reporter import Reporter
from .signals import noted_signals
from .watch import Watch


def work_off(plan: Plan, out: Path, jobs: int | None, dry_run: bool) -> None:
    """Train what is left of the runs, and show what came of them.

    Args:
        plan: The runs.
        out: Folder of the grid.
        jobs: Runs at once; by default one a GPU, on the CPU one.
        dry_run: Tell the runs and how long they will take, and no more.

    Raises:
        S4AugTrainError: Whatever the user can cure, each told with its cure.
        SystemExit: It was stopped.
    """
    check_alone()
    folder = GridFolder(out)
    folder.check()
    folder.check_common(plan)
    config = plan.config(min(plan.grid.cells(), key=lambda cell: cell.labels))
    gpus = visible_gpus(config)
    with Reporter() as reporter:
        survey = surveyed(config, plan.grid.labels, reporter.progress)
        experiment = Experiment(plan, folder, survey, jobs or max(1, len(gpus)))
        pace = _announce(experiment, dry_run, reporter)
        if dry_run:
            return
        with held(RunFolder(out)):
            folder.begin(plan, decoded(config, reporter.progress))
            with noted_signals() as signals:
                result, failed = _work(experiment, Fits(folder, experiment.jobs, gpus), pace, signals, reporter)
    # Who stopped it may have closed the terminal, or ended what reads the pipe.
    with suppress(OSError, SystemExit) if signals else nullcontext():
        _print(result, folder.results(plan.grid.table))
    _end(signals, failed, folder)


def _announce(experiment: Experiment, dry_run: bool, reporter: Reporter) -> Pace:
    """What will be done, what it is not, and how long it will take."""
    outcomes = experiment.outcomes()
    left = [cell for cell in experiment.configs if cell not in outcomes]
    for cell in experiment.configs if dry_run else ():
        state = f"step {experiment.folder.steps_done(cell)}" if cell in left else "finished"
        reporter.line(f"{cell.name}: {state} of {experiment.configs[cell].train.steps}")
    if experiment.differs:
        reporter.line(f"not the paper's setting: {'; '.join(experiment.differs)}")
    if untimed := experiment.untimed(outcomes):
        reporter.line(f"timing a few steps of {', '.join(untimed)}")
    pace = experiment.pace(outcomes)
    steps = ", ".join(f"{method} {seconds:.3g} s a step" for method, seconds in pace.step_s.items())
    line = f"{count_names(experiment.configs)}, {len(outcomes)} finished, {experiment.jobs} at once"
    if left:
        line += f"; about {told(experiment.left_s(pace, left))} ({steps}), decoding of the tiles not counted"
    reporter.line(line)
    return pace


def _work(
    experiment: Experiment, fits: Fits, pace: Pace, signals: list[int], reporter: Reporter
) -> tuple[Result, list[Failed]]:
    """The table, and what failed."""
    outcomes, failed = experiment.outcomes(), list[Failed]()
    watch = Watch(experiment, pace, reporter)
    for event in experiment.work(outcomes, fits.start, signals):
        watch.show(event, len(outcomes))
        if isinstance(event, Finished):
            watch.pace = experiment.learned(pace, outcomes)
        if isinstance(event, Failed):
            failed.append(event)
    return experiment.result(outcomes), failed


def _print(result: Result, folder: Path) -> None:
    if not any(figure.values for figure in result.figures):
        return
    console = Console()
    console.print(result_table(result))
    for text in result.told():
        console.print(text, highlight=False, markup=False)
    written = ", ".join(str(folder / name) for name in ("results.csv", "results.md", "figure.svg"))
    click.echo(one_line(f"written: {written}"))


def result_table(result: Result) -> Table:
    """The paper's figures and ours, as `rows` has them."""
    table = Table(title=Text(result.title), title_justify="left")
    for number, name in enumerate(header(result)):
        table.add_column(Text(name), justify="right" if number else "left", overflow="fold")
    for row in rows(result):
        table.add_row(*map(Text, row), end_section=row[1] == "ours")
    return table


def _end(signals: list[int], failed: list[Failed], folder: GridFolder) -> None:
    """End as a call that was stopped, or in which runs failed.

    Raises:
        SystemExit: It was stopped.
        TrainingError: Runs failed.
    """
    again = shlex.join(["s4aug-train", *sys.argv[1:]])
    if signals:
        Reporter().line(f"stopped; go on with: {again}")
        raise SystemExit(128 + signals[0])
    if failed:
        each = "; ".join(f"{end.cell.name} ({end.why})" for end in failed)
        raise TrainingError(
            f"{count_names(end.cell for end in failed)} failed: {each}. What they printed is in "
            f"{folder.path / 'logs'}; cure it, and the same command runs them alone"
        )
