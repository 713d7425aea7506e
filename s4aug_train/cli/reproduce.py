"""`s4aug-train reproduce`: a table of the paper, ours beside theirs."""

import shlex
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..engine import RunFolder, held
from ..errors import TrainingError
from ..limits import CHOICES
from ..presets import configured
from ..reproduce import paper
from ..reproduce.documents import header, rows
from ..reproduce.experiment import Experiment, Failed, Finished
from ..reproduce.fits import Fits, check_alone, visible_gpus
from ..reproduce.folder import GridFolder
from ..reproduce.grid import SEEDS, TABLES, Grid, count_names
from ..reproduce.plan import Plan, scaled
from ..reproduce.results import Result
from ..reproduce.survey import decoded, surveyed
from ..reproduce.timing import Pace, told
from .line import one_line
from .options import data_options, device_options, require_data, set_option, settings_of
from .reporter import Reporter
from .signals import noted_signals
from .watch import Watch


class Numbers(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases alone
    """Whole numbers from `least` on, as in 20,50,100.

    Args:
        least: What each must be at least.
    """

    name = "numbers"

    def __init__(self, least: int) -> None:
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Each once, in the order given."""
        if isinstance(value, tuple):
            return value
        parts = value.replace(",", " ").split()
        if not parts or not all(part.isdecimal() and int(part) >= self.least for part in parts):
            self.fail(f"{value!r} is not a list of whole numbers from {self.least} on, as in 1,2", param, ctx)
        return tuple(dict.fromkeys(map(int, parts)))


@click.command()
@click.argument("table", type=click.Choice(list(TABLES)))
@data_options
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the runs and results.")
@click.option("--seeds", type=Numbers(0), default=SEEDS, metavar="N,N", help="One run each; 0,1,2 by default.")
@click.option("--labels", type=Numbers(1), metavar="N,N", help="Labelled tiles; 100, of table4 20,50,100 by default.")
@click.option("--budget", type=click.IntRange(1), metavar="STEPS", help="Steps of a run; the paper's are 100,000.")
@click.option("--encoder", type=click.Choice(CHOICES["model.encoder"]), help="The paper's is resnet50.")
@click.option("--scale", type=float, metavar="S", help="Crops and windows of 512 S px. Tiles are not resized.")
@click.option("--weights", metavar="imagenet|none|PATH", help="Of the encoder; imagenet by default.")
@device_options
@set_option
@click.option("--jobs", type=click.IntRange(1), metavar="N", help="Runs at once; one a GPU, on the CPU 1 by default.")
@click.option("--dry-run", is_flag=True, help="Tell the runs and how long they will take, and end.")
def reproduce(table: str, out: Path, jobs: int | None, dry_run: bool, **options: Any) -> None:
    """Train all runs of a table of the paper, or go on, and show ours beside the paper's figures."""
    check_alone()
    plan, folder = _plan(table, options), GridFolder(out)
    folder.check()
    folder.check_common(plan)
    config = plan.config(plan.grid.cells()[0])
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
    _print(result, folder.results(table))
    _end(signals, failed, folder)


def _plan(table: str, options: dict[str, Any]) -> Plan:
    names = {"budget": "train.steps", "encoder": "model.encoder"}
    ours = {key: options.pop(name) for name, key in names.items()}
    seeds, labels, scale = (options.pop(name) for name in ("seeds", "labels", "scale"))
    sides = {} if scale is None else scaled(scale)
    given = {key: value for key, value in ours.items() if value is not None}
    given |= sides | settings_of({name: value for name, value in options.items() if name != "assignments"})
    given |= settings_of({}, options["assignments"])
    config = configured({key: value for key, value in given.items() if key.startswith("data.")})
    require_data(config.data)
    usual = paper.LABEL_COUNTS if table == "table4" else (config.data.labeled,)
    return Plan(Grid(table, labels or usual, seeds), given)


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
        click.echo(f"stopped; go on with: {again}", err=True)
        raise SystemExit(128 + signals[0])
    if failed:
        each = "; ".join(f"{end.cell.name} ({end.why})" for end in failed)
        raise TrainingError(
            f"{count_names(end.cell for end in failed)} failed: {each}. What they printed is in "
            f"{folder.path / 'logs'}; cure it, and the same command runs them alone"
        )
