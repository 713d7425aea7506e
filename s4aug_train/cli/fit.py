"""`s4aug-train fit`: train and evaluate one run."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click
from rich.console import Console

from .. import api
from ..config import CHOICES, PRESETS, Config, preset, read_settings
from ..engine import RunFolder, claim, fresh_run
from ..errors import CheckpointError, ConfigError
from ..records import EvaluationRecord
from .options import data_options, device_options, require_data, set_option, settings_of, split_options
from .reporter import Reporter, evaluation_table

# What `--data demo` means unless it is said otherwise.
DEMO = {"model.weights": "none", "data.labeled": 20}


@click.command()
@data_options
@click.option("--out", type=click.Path(path_type=Path), help="Run folder; by default a fresh one in runs/.")
@click.option("--method", type=click.Choice(CHOICES["method.name"]), help="What is trained; s4net by default.")
@click.option(
    "--preset",
    "preset_name",
    type=click.Choice(list(PRESETS)),
    help="paper (default), or quick for a laptop CPU.",
)
@click.option("--split", metavar="FILE", help="Split manifest, instead of drawing one.")
@split_options
@click.option("--weights", metavar="imagenet|none|PATH", help="Of the encoder; imagenet by default.")
@click.option("--steps", type=click.IntRange(1), help="Optimizer steps.")
@click.option("--batch-labeled", type=click.IntRange(1), metavar="N", help="Labelled crops a step.")
@click.option("--batch-unlabeled", type=click.IntRange(1), metavar="N", help="Unlabelled crops a step.")
@click.option("--crop", type=click.IntRange(32), metavar="PX", help="Side of a crop.")
@device_options
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="YAML with groups of settings.")
@set_option
@click.option(
    "--resume",
    is_flag=False,
    flag_value="auto",
    metavar="[auto|PATH]",
    help="Go on from the newest checkpoint in --out (or begin, if there is none), or from PATH.",
)
@click.option("--overwrite", is_flag=True, help="Give up the run that --out holds.")
def fit(
    out: Path | None,
    preset_name: str | None,
    config_file: Path | None,
    assignments: tuple[str, ...],
    resume: str | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Train a network on labelled and unlabelled tiles, and evaluate it on whole held-out tiles."""
    given = {**(read_settings(config_file) if config_file else {}), **settings_of(options, assignments)}
    run, checkpoint = _run_folder(out, resume)
    config = _resolved(given, preset_name, run if checkpoint else None)
    run = run or fresh_run(Path("runs"), config.method.name)
    claim(run, resume=resume is not None, overwrite=overwrite)
    with Reporter(run.log) as reporter, _signals() as signals:
        last = _train(config, run, checkpoint, signals, reporter)
        if signals:
            reporter.line(f"stopped; go on with: s4aug-train fit --out {run.path} --resume")
            raise SystemExit(128 + signals[0])
    if last is None:
        click.echo(f"the run was finished before; see it with: s4aug-train evaluate {run.path}")
    else:
        Console().print(evaluation_table(last, f"{config.method.name} after {last.step} steps"))
    click.echo(f"run folder: {run.path}")


def _run_folder(out: Path | None, resume: str | None) -> tuple[RunFolder | None, Path | None]:
    """The run folder that is named (or follows from the checkpoint), and the checkpoint to go on from."""
    run = RunFolder(out) if out else None
    if resume is None:
        return run, None
    if resume == "auto":
        if run is None:
            raise ConfigError("--resume needs --out RUN, or a checkpoint: --resume runs/NAME/checkpoints/last.pt")
        return run, run.last if run.last.exists() else None
    path = Path(resume)
    if path.is_dir():
        path = RunFolder(path).last
    if not path.is_file():
        raise CheckpointError(f"--resume {resume}: there is no checkpoint; give a run folder or a checkpoint file")
    return run or RunFolder(path.parent.parent), path


def _resolved(given: dict[str, Any], preset_name: str | None, resumed: RunFolder | None) -> Config:
    """Preset, then what the demo means, then what was asked for; a resumed run begins from its own settings."""
    if resumed is not None and not preset_name:
        config = Config().updated({**api.saved_settings(resumed), **given})
    else:
        demo = given.get("data.path") == "demo"
        config = preset(preset_name or ("quick" if demo else "paper"))
        config = config.updated({**(DEMO if demo else {}), **given})
    require_data(config.data)
    return config


def _train(
    config: Config, run: RunFolder, checkpoint: Path | None, signals: list[int], reporter: Reporter
) -> EvaluationRecord | None:
    def progress(what: str, done: int, total: int) -> None:
        reporter.progress(what, done, total)
        # Before the training begins there is nothing to save.
        if signals and what not in ("training", "evaluating"):
            raise SystemExit(128 + signals[0])

    last = None
    for record in api.fit(config, run, resume=checkpoint, should_stop=lambda: bool(signals), on_progress=progress):
        reporter.record(record, config.train.steps)
        last = record if isinstance(record, EvaluationRecord) else last
    return last


@contextmanager
def _signals() -> Iterator[list[int]]:
    """SIGINT and SIGTERM are noted, for the loop to stop at the next step; a second one ends at once."""
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
