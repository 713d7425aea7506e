"""One run, from settings to records: data, network, method and loop put together."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path

from torch import nn

from .config import GIVEN, Config, TrainConfig
from .data.dataset import Dataset, Progress
from .data.own import OwnData
from .engine import Checkpoint, Loader, TrainingState, choose_device, chosen_precision, environment, train
from .evaluation import evaluate
from .files import write_json, write_text
from .guards import Guards, hints
from .launch import here
from .preparation import check_together, make_loader, named, prepared
from .ranks import Ranks, joined
from .records import EvaluationRecord, LeftOut, MetricsFile, Note, Record, read_metrics
from .run import RunFolder, clear, set_aside, tidy
from .segmenter import Segmenter
from .tensorboard import Board, check_tensorboard, state_panel
from .windows import Windows


def training(
    config: Config,
    run: RunFolder,
    *,
    model: nn.Module | None = None,
    data: OwnData | None = None,
    resume: Checkpoint | None = None,
    passed_over: Mapping[Path, str] | None = None,
    overwrite: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: Progress | None = None,
) -> Iterator[Record]:
    """Train and evaluate one run.

    Args:
        config: All settings.
        run: The folder it writes to; see `run.claim` for whether it may.
        model: A network in place of the one that the settings name.
        data: Datasets in place of the folder that the settings name.
        resume: A checkpoint to go on from.
        passed_over: Damaged checkpoints of the run, each with the warning to yield; they are kept under other names.
        overwrite: Give up what the folder holds, once everything is ready to begin.
        should_stop: Asked after each step; when true a checkpoint is written and the run ends.
        on_progress: Called with what is being done, how much is done, and of how much.

    Yields:
        Records as they are written to metrics.jsonl, and notes.

    Raises:
        S4AugTrainError: Whatever the user can cure, each told with its cure.
    """
    if model is not None:
        config = config.updated({"model.factory": GIVEN})
    device = choose_device(config.train.device, here())
    if config.train.tensorboard:
        check_tensorboard()
    with joined(device) as ranks:
        check_together(config, device, ranks)
        dataset, state = prepared(config, model, data, resume, device, ranks, on_progress)
        loader, where = make_loader(config.train, dataset, state.method, device, ranks, on_progress)
        if config.train.compile:
            state.network.compile()
        launches = ranks.gathered(ranks.launch)
        began = state.step, state.evaluated
        journal = _journal(run, config, dataset, state, loader, launches, overwrite) if ranks.first else None
        # The last evaluation is due again where the file of metrics has lost it.
        state.evaluated = ranks.gathered(0 if journal is None else journal.metrics.evaluated)[0]
        left_out = LeftOut(dataset.left_out)
        guards = Guards(compared=state.method.valid_by_geometry)
        save = partial(_save, run, state, config, dataset) if ranks.first else lambda improved: None
        kept = _kept_aside(passed_over or {}) if ranks.first else []
        if resume is not None and not run.last.exists():
            # Where nothing is left to train, nothing else would write it.
            save(False)
        on_step = named(on_progress, "training")
        records = train(
            state,
            loader,
            evaluate=partial(_evaluate, state, dataset, config.train, ranks, left_out, should_stop, on_progress),
            save=save,
            left_out=left_out,
            should_stop=lambda: ranks.any(should_stop()),
            on_step=lambda step: on_step(step, config.train.steps),
            ranks=ranks,
        )
        for record in chain(kept, _notes(where, config.train, loader), records):
            # What another process leaves out is not told before the first one has heard of it.
            left = left_out.notes() if ranks.first else ()
            for each in (*left, record, *guards.notes(record)):
                if journal is not None:
                    journal.append(each)
                yield each
        if journal is not None and began != (state.step, state.evaluated) == (config.train.steps, config.train.steps):
            for note in hints(read_metrics(run.metrics)):
                journal.append(note)
                yield note


class Journal:
    """What a run writes of its records.

    Args:
        metrics: Its metrics.jsonl.
        board: What TensorBoard shows, if it is asked for.
    """

    def __init__(self, metrics: MetricsFile, board: Board | None) -> None:
        self.metrics = metrics
        self.board = board

    def append(self, record: Record) -> None:
        """Write a record."""
        self.metrics.append(record)
        if self.board is not None:
            self.board.append(record)


def _journal(
    run: RunFolder,
    config: Config,
    dataset: Dataset,
    state: TrainingState,
    loader: Loader,
    launches: list[str],
    overwrite: bool,
) -> Journal:
    """The run's folder as training begins."""
    if overwrite:
        clear(run)
    run.path.mkdir(parents=True, exist_ok=True)
    tidy(run)
    metrics = MetricsFile(run.metrics, state.step, state.evaluated)
    write_text(run.config, config.to_yaml())
    dataset.split.write(run.split)
    processes = {"processes": len(launches), "launches": sorted({*launches} - {""})}
    write_json(run.environment, {**environment(state.device), **processes})
    if not config.train.tensorboard:
        return Journal(metrics, None)
    panel = partial(state_panel, state, loader, dataset.classes)
    return Journal(metrics, Board(run, state.step, metrics.evaluated, panel=panel))


def _kept_aside(passed_over: Mapping[Path, str]) -> list[Note]:
    """Damaged checkpoints, each renamed, and the warning that tells of it."""
    return [
        Note(f"{warning}; the damaged file is kept as {set_aside(path).name}") for path, warning in passed_over.items()
    ]


def _save(run: RunFolder, state: TrainingState, config: Config, dataset: Dataset, improved: bool) -> None:
    snapshot = _checkpoint(state, config, dataset)
    if improved:
        snapshot.write(run.best)
    snapshot.write(run.last, run.previous)


def _evaluate(
    state: TrainingState,
    dataset: Dataset,
    config: TrainConfig,
    ranks: Ranks,
    left_out: LeftOut,
    should_stop: Callable[[], bool],
    on_progress: Progress | None,
    step: int,
) -> EvaluationRecord | None:
    network = state.evaluated_network()
    # Running statistics are each process's own.
    ranks.follow_first(network.buffers())
    segmenter = Segmenter(
        network,
        dataset.classes,
        dataset.bands,
        dataset.dtype,
        dataset.normalization,
        state.device,
        chosen_precision(config.precision, state.device),
    )
    return evaluate(
        segmenter,
        dataset.val,
        Windows(config.window, config.stride),
        step=step,
        ranks=ranks,
        on_unreadable=left_out.add if dataset.skip else None,
        should_stop=should_stop,
        on_progress=named(on_progress, "evaluating"),
    )


def _notes(where: str, config: TrainConfig, loader: Loader) -> Iterator[Note]:
    """Where tiles are, and what makes up a step, for people."""
    yield Note(where)
    if loader.parts > 1:
        crops = f"{loader.parts * config.batch_labeled} labelled"
        if loader.unlabeled is not None:
            crops += f" and {loader.parts * config.batch_unlabeled} unlabelled"
        processes = loader.parts // config.accumulate
        yield Note(f"a step shows {crops} crops (processes: {processes}, passes of each: {config.accumulate})")


def _checkpoint(state: TrainingState, config: Config, dataset: Dataset) -> Checkpoint:
    return Checkpoint(
        step=state.step,
        config=config,
        classes=dataset.classes,
        bands=dataset.bands,
        dtype=dataset.dtype,
        normalization=dataset.normalization,
        split=dataset.split,
        best=state.best,
        network=state.network.state_dict(),
        training=state.state_dict(),
    )
