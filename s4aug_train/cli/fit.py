"""`s4aug-train fit`: train and evaluate one run."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from ..config import Config, read_settings
from ..errors import ConfigError
from ..files import shell_path
from ..launch import here
from ..presets import configured
from ..records import EvaluationRecord, Stopped, read_metrics
from ..run import RunFolder, begun_by, claim, find_checkpoint, fresh_run, held
from .line import one_line
from .options import (
    data_options,
    device_options,
    method_option,
    model_option,
    preset_option,
    require_data,
    require_named,
    set_option,
    settings_of,
    split_options,
    workers_option,
)
from .reporter import Reporter, classes_note, evaluation_table
from .signals import noted_signals

if TYPE_CHECKING:
    from ..engine import Resumption


@click.command()
@data_options
@click.option("--out", type=click.Path(path_type=Path), help="Run folder; by default a fresh one in runs/.")
@method_option
@model_option
@preset_option
@click.option("--split", metavar="FILE", help="Split manifest, instead of drawing one.")
@split_options
@click.option("--weights", metavar="imagenet|none|PATH", help="Of the encoder; imagenet by default.")
@click.option("--steps", type=click.IntRange(1), help="Optimizer steps.")
@click.option("--batch-labeled", type=click.IntRange(1), metavar="N", help="Labelled crops a step.")
@click.option("--batch-unlabeled", type=click.IntRange(1), metavar="N", help="Unlabelled crops a step.")
@click.option("--crop", type=click.IntRange(64), metavar="PX", help="Side of a crop.")
@device_options
@workers_option
@click.option("--compile/--no-compile", "compile_", default=None, help="The network through torch.compile.")
@click.option("--tensorboard/--no-tensorboard", default=None, help="Also write RUN/tb for TensorBoard.")
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="YAML with groups of settings.")
@set_option
@click.option(
    "--resume",
    is_flag=False,
    flag_value="auto",
    metavar="[auto|PATH]",
    help="Go on from the newest checkpoint in --out that can be read (or begin, if there is none), or from PATH.",
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
    rank = here()
    typed = settings_of(options, assignments)
    given = {**(read_settings(config_file) if config_file else {}), **typed}
    _check_usage(typed, resume, overwrite)
    if out is not None and begun_by(RunFolder(out), rank):
        # torchrun's same command again, after a process had failed.
        resume, overwrite = "auto", False
    run, found = _run_folder(out, resume)
    config = _resolved(given, preset_name, found, run if resume else None)
    require_named(config, typed)
    if run is not None:
        claim(run, resume=resume is not None, overwrite=overwrite, rank=rank)
    run = run or fresh_run(Path("runs"), config.method.name, rank)
    with held(run, rank), Reporter(run.log, quiet=not rank.first) as reporter, noted_signals() as signals:
        last, stopped = _train(config, run, found, overwrite, signals, reporter)
        if stopped or signals:
            reporter.line(f"stopped; go on with: s4aug-train fit --out {shell_path(run.path)} --resume")
            # Of several processes another one may have been asked.
            raise SystemExit(128 + (signals[0] if signals else signal.SIGTERM))
    if not rank.first:
        return
    if last is None:
        again = f"s4aug-train evaluate {shell_path(run.path)}"
        click.echo(one_line(f"the run was finished before; see it with: {again}"))
    else:
        Console().print(evaluation_table(last, f"{config.method.name} after {last.step} steps"))
        if note := classes_note(last):
            click.echo(one_line(note))
        _print_best(run)
    click.echo(one_line(f"run folder: {run.path}"))


def _check_usage(typed: dict[str, Any], resume: str | None, overwrite: bool) -> None:
    if resume is not None and overwrite:
        raise click.UsageError("--resume and --overwrite exclude each other")
    if "data.split" in typed and {"data.labeled", "data.val"} & typed.keys():
        raise click.UsageError("--split names the tiles; leave out --labeled and --val")


def _run_folder(out: Path | None, resume: str | None) -> "tuple[RunFolder | None, Resumption | None]":
    """The run folder that is named (or follows from the checkpoint), and what to go on from."""
    run = RunFolder(out) if out else None
    if resume is None:
        return run, None
    if resume == "auto":
        if run is None:
            raise ConfigError("--resume needs --out RUN, or a checkpoint: --resume runs/NAME/checkpoints/last.pt")
        from ..engine import newest

        return run, newest(run)
    path = find_checkpoint(Path(resume))
    home = RunFolder(path.parent.parent)
    if run is None and not (path.parent.name == "checkpoints" and home.config.exists()):
        raise ConfigError(f"--resume {resume} is not in the folder of a run; say with --out where to go on")
    run = run or home
    from ..engine import chosen

    return run, chosen(path, run)


def _resolved(
    given: dict[str, Any], preset_name: str | None, found: "Resumption | None", resumed: RunFolder | None
) -> Config:
    """Preset, then what the demo means, then what was asked for; a resumed run begins from its own settings."""
    if found is not None:
        config = found.checkpoint.config
    elif resumed is not None and resumed.config.exists():
        config = Config().updated(read_settings(resumed.config))
    else:
        config = configured(given, preset_name)
    config = config.updated(given)
    require_data(config.data)
    return config


def _print_best(run: RunFolder) -> None:
    """The best evaluation beside the last; chosen on the same tiles, so it flatters."""
    evaluations = [line for line in read_metrics(run.metrics) if line.get("miou") is not None]
    if evaluations:
        best = max(evaluations, key=lambda line: float(line["miou"]))
        # A run that went on from another's checkpoint need not have been better than that one.
        kept = " (best.pt)" if run.best.exists() else ""
        click.echo(f"best on these tiles: mIoU {100 * best['miou']:.2f} % after {best['step']} steps{kept}")


def _train(
    config: Config,
    run: RunFolder,
    found: "Resumption | None",
    overwrite: bool,
    signals: list[int],
    reporter: Reporter,
) -> tuple[EvaluationRecord | None, bool]:
    """The last evaluation, and whether the run was stopped."""
    from ..training import training

    def progress(what: str, done: int, total: int) -> None:
        reporter.progress(what, done, total)
        # Before the training begins there is nothing to save.
        if signals and what not in ("training", "evaluating"):
            reporter.line("stopped before training began")
            raise SystemExit(128 + signals[0])

    last, stopped = None, False
    for record in training(
        config,
        run,
        resume=found.checkpoint if found else None,
        passed_over=found.passed_over if found else None,
        overwrite=overwrite,
        should_stop=lambda: bool(signals),
        on_progress=progress,
    ):
        reporter.record(record, config.train.steps)
        last = record if isinstance(record, EvaluationRecord) else last
        stopped = stopped or isinstance(record, Stopped)
    return last, stopped
