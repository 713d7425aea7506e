"""The trainer for Python: fitting, evaluating, predicting, exporting; the command line runs the same."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from .config import Config
from .data.dataset import Progress
from .data.own import OwnData
from .engine import newest
from .errors import ConfigError
from .examination import assess as assess
from .examination import evaluate as evaluate
from .exporting import export as export
from .gathering import report as report
from .launch import here
from .mapmaking import predict as predict
from .records import EvaluationRecord, Record, Stopped
from .run import RunFolder, begun_by, claim, fresh_run, held
from .training import training


@dataclass(frozen=True)
class FitResult:
    """What came of a run.

    Args:
        run: The folder, with its checkpoints, metrics and settings.
        evaluation: The last evaluation on the validation tiles; None if the run had been finished before, or was
            stopped.
    """

    run: RunFolder
    evaluation: EvaluationRecord | None


def fit(
    config: Config,
    *,
    out: str | Path | None = None,
    model: nn.Module | None = None,
    dataset: OwnData | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_record: Callable[[Record], None] = lambda record: None,
    on_progress: Progress | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> FitResult:
    """Train and evaluate one run, to its end.

    Args:
        config: All settings, as made by `configured`.
        out: Run folder; by default a fresh, numbered one in runs/.
        model: A network that maps [B, bands, H, W] to logits [B, K, H, W], or at a stride; by default what
            `config.model` says. It is trained in place.
        dataset: Tiles of the user's; by default those of `config.data`.
        resume: Go on from the newest checkpoint in `out` that can be read, or begin if there is none.
        overwrite: Give up the run that `out` holds.
        on_record: Called with each record as it is written.
        on_progress: Called with what is being done, how much is done, and of how much.
        should_stop: Asked after each step; when true a checkpoint is written and the run ends.

    Returns:
        The run folder and the last evaluation.

    Raises:
        S4AugTrainError: Whatever the user can cure, each told with its cure.
    """
    if resume and (out is None or overwrite):
        raise ConfigError("resume=True needs out, and excludes overwrite=True")
    rank = here()
    if out is not None and begun_by(RunFolder(Path(out)), rank):
        resume, overwrite = True, False
    if out is not None:
        claim(RunFolder(Path(out)), resume=resume, overwrite=overwrite, rank=rank)
    run = RunFolder(Path(out)) if out is not None else fresh_run(Path("runs"), config.method.name, rank)
    last = None
    with held(run, rank):
        found = newest(run) if resume else None
        for record in training(
            config,
            run,
            model=model,
            data=dataset,
            resume=found.checkpoint if found else None,
            passed_over=found.passed_over if found else None,
            overwrite=overwrite,
            should_stop=should_stop,
            on_progress=on_progress,
        ):
            on_record(record)
            if isinstance(record, EvaluationRecord | Stopped):
                last = record if isinstance(record, EvaluationRecord) else None
    return FitResult(run, last)
