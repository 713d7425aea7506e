"""One run, from settings to records: data, network, method and loop put together."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .config import Config, TrainConfig
from .data.cache import Tile
from .data.dataset import Dataset, Progress, list_tiles, load_dataset
from .data.own import OwnData
from .data.pool import Pool
from .data.readable import readable
from .data.resident import held_on, place
from .engine import (
    Checkpoint,
    Loader,
    RunFolder,
    TrainingState,
    choose_device,
    clear,
    environment,
    set_aside,
    tidy,
    train,
)
from .errors import CheckpointError, ConfigError
from .evaluation import evaluate_tiles
from .files import content_hash, write_json, write_text
from .guards import Guards, hints
from .methods import Method, Setup, make_method
from .model import GIVEN, OwnNetwork, UNet, load_encoder_weights, own_network, read_encoder_weights
from .ranks import Ranks, here, joined
from .records import EvaluationRecord, LeftOut, MetricsFile, Note, Record, read_metrics
from .rng import stream_seed
from .tensorboard import Board, check_tensorboard, state_panel

# What a resumed run may change; all else would make it another run.
FREE_ON_RESUME = {
    "data.path",
    "data.classes",
    "data.unlabeled",
    "data.split",
    "data.unreadable",
    "train.device",
    "train.workers",
    "train.accumulate",  # the parts of a step are held to what they were
    "train.skip_limit",
    "train.pool",
    "train.log_every",
    "train.tensorboard",
    "train.checkpoint_every",
    "train.evaluate_every",
}


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
        run: The folder it writes to; see `engine.claim` for whether it may.
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
        _check_together(config, device, ranks)
        dataset, state = _prepared(config, model, data, resume, device, ranks, on_progress)
        loader, where = _loader(config.train, dataset, state.method, device, ranks, on_progress)
        if config.train.compile:
            state.network.compile()
        launches = ranks.gathered(ranks.launch)
        began = state.step, state.evaluated
        journal = _journal(run, config, dataset, state, loader, launches, overwrite) if ranks.first else None
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
            for each in (*left_out.notes(), record, *guards.notes(record)):
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
    return Journal(metrics, Board(run, state.step, state.evaluated, panel=panel))


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
    return evaluate_tiles(
        network,
        dataset.val,
        dataset,
        config,
        step=step,
        device=state.device,
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


def check_resumable(checkpoint: Checkpoint, config: Config, dataset: Dataset) -> None:
    """Hold a resumed run to the settings, classes and split that it began with.

    Raises:
        CheckpointError: One differs; it is named with both values.
    """
    old, new = checkpoint.config.to_dict(), config.to_dict()
    changed = [
        f"{group}.{name} (was {value}, now {new[group][name]})"
        for group, values in old.items()
        for name, value in values.items()
        if new[group][name] != value and f"{group}.{name}" not in FREE_ON_RESUME
    ]
    if checkpoint.classes.key != dataset.classes.key:
        changed.append(f"classes (was {', '.join(checkpoint.classes.names)}, now {', '.join(dataset.classes.names)})")
    if (checkpoint.bands, checkpoint.normalization) != (dataset.bands, dataset.normalization):
        changed.append("the images (their bands or statistics are others)")
    if checkpoint.split.hash != dataset.split.hash:
        changed.append(f"split (was {checkpoint.split.hash}, now {dataset.split.hash})")
    if changed:
        raise CheckpointError(
            f"a resumed run cannot change {'; '.join(changed)}: put it back, or begin a new run with another --out"
        )


def named(on_progress: Progress | None, what: str) -> Callable[[int, int], None]:
    """A progress call for one kind of work."""
    if on_progress is None:
        return lambda done, total: None
    return lambda done, total: on_progress(what, done, total)


def _prepared(
    config: Config,
    model: nn.Module | None,
    data: OwnData | None,
    checkpoint: Checkpoint | None,
    device: torch.device,
    ranks: Ranks,
    on_progress: Progress | None,
) -> tuple[Dataset, TrainingState]:
    """Decoded tiles, and the state that the run begins or goes on from; what is wrong is told as early as can be."""
    if data is not None and config.method.name == "full":
        raise ConfigError(
            "--method full needs the masks of the unlabelled tiles: put them into dataset.labeled instead"
        )
    begins = checkpoint is None and config.model.factory is None
    with ranks.in_turn():
        if data is None:
            list_tiles(config.data, on_progress)  # a wrong folder is told before a download
        pretrained = read_encoder_weights(config.model.encoder, config.model.weights) if begins else None
        dataset = _load(config, data, on_progress)
    _check_same(config, dataset, 0 if checkpoint is None else checkpoint.step, ranks)
    network = _new_network(config, dataset, model)
    if isinstance(network, OwnNetwork) and config.train.crop % network.stride:
        raise ConfigError(
            f"train.crop={config.train.crop} must be a multiple of {network.stride}, the network's stride; change it"
        )
    if pretrained is not None and isinstance(network, UNet):
        load_encoder_weights(network.encoder, pretrained)
    network = network.to(device)
    if config.train.sync_batchnorm and ranks.count > 1:
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    state = TrainingState(network, make_method(_setup(config, dataset)), config.train, device, ranks)
    if checkpoint is not None:
        check_resumable(checkpoint, config, dataset)
        # Optimizers go on in the very tensors that they load.
        state.load(checkpoint.step, checkpoint.best, checkpoint.network, copy.deepcopy(checkpoint.training))
    return dataset, state


def _check_together(config: Config, device: torch.device, ranks: Ranks) -> None:
    """What does not go with the device or with several processes."""
    if config.train.sync_batchnorm and ranks.count > 1 and device.type != "cuda":
        raise ConfigError("train.sync_batchnorm needs GPUs: PyTorch has it for no CPU; leave it out")
    if not config.train.graph:
        return
    if ranks.count > 1:
        raise ConfigError("train.graph goes with one process alone: leave it out")
    if device.type != "cuda":
        raise ConfigError("train.graph records a CUDA graph, which needs --device cuda")
    method = config.method
    if method.jitter or method.blur or method.noise:
        raise ConfigError("train.graph does not go with method.jitter, blur or noise, which are drawn on the host")


def _check_same(config: Config, dataset: Dataset, step: int, ranks: Ranks) -> None:
    """Hold the processes to one run, before the first of them writes.

    Raises:
        ConfigError: They mean different ones.
    """
    settings = {f"{group}.{name}": value for group, part in config.to_dict().items() for name, value in part.items()}
    parts = () if dataset.own else (dataset.labeled, dataset.unlabeled, dataset.val)
    tiles = content_hash([[tile.id for tile in part] for part in parts])
    ranks.check_same({**settings, "the hash of tiles": tiles, "the last step": step})


def _load(config: Config, data: OwnData | None, on_progress: Progress | None) -> Dataset:
    if data is not None:
        return data.dataset(include_labeled=config.data.include_labeled, skip=config.data.unreadable == "skip")
    return load_dataset(config.data, config.train.seed, workers=config.train.workers, on_progress=on_progress)


def _new_network(config: Config, dataset: Dataset, model: nn.Module | None) -> nn.Module:
    """A network whose random weights depend on the seed alone; one that was given keeps its own."""
    classes = len(dataset.classes.names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(config.train.seed, 0, "network"))
        if model is not None or config.model.factory:
            return own_network(model if model is not None else str(config.model.factory), classes, dataset.bands)
        return UNet(classes, dataset.bands, config.model.encoder)


def _setup(config: Config, dataset: Dataset) -> Setup:
    return Setup(config, dataset.normalization, len(dataset.classes.names), _class_weights(config.train, dataset))


def _class_weights(config: TrainConfig, dataset: Dataset) -> tuple[float, ...] | None:
    """One weight per class, of mean 1 where they are balanced: by the inverse of the labelled pixels of each.

    Raises:
        ConfigError: Numbers were given, but not one for each class.
    """
    names = dataset.classes.names
    if config.class_weights == "none":
        return None
    if config.class_weights != "balanced":
        given = tuple(float(part) for part in config.class_weights.split(","))
        if len(given) != len(names):
            raise ConfigError(
                f"train.class_weights holds {len(given)} numbers, there are {len(names)} classes: {', '.join(names)}"
            )
        return given
    # What cannot be read is told when it is to be trained on.
    tiles = readable(dataset.labeled, (lambda name, why: None) if dataset.skip else None)
    pixels = np.sum([_class_pixels(tile, len(names)) for tile in tiles], axis=0).tolist()
    if not any(pixels):
        raise ConfigError("train.class_weights=balanced: no labelled pixel was found to count; check the masks")
    inverse = [1 / count if count else 0.0 for count in pixels]
    return tuple(weight * len(names) / sum(inverse) for weight in inverse)


def _class_pixels(tile: Tile, classes: int) -> np.ndarray:  # [K]
    if tile.class_pixels:
        return np.array(tile.class_pixels)
    assert tile.labels is not None
    return np.bincount(np.asarray(tile.labels).ravel(), minlength=256)[:classes]


def _loader(
    config: TrainConfig,
    dataset: Dataset,
    method: Method,
    device: torch.device,
    ranks: Ranks,
    on_progress: Progress | None,
) -> tuple[Loader, str]:
    """The batches, and where they come from, for people."""
    labeled, unlabeled, where = _placed(config, dataset, method, device, ranks, on_progress)
    margins = method.margins()
    options = {"alike": dataset.own, "steady": config.graph, "skip": dataset.skip}
    of_labeled = Pool(labeled, config.crop, labelled=True, margin=margins[0], **options)
    of_unlabeled = None
    if method.uses_unlabeled:
        of_unlabeled = Pool(unlabeled, config.crop, labelled=False, margin=margins[1], **options)
    loader = Loader(
        labeled=of_labeled,
        unlabeled=of_unlabeled,
        batch_labeled=config.batch_labeled,
        batch_unlabeled=config.batch_unlabeled,
        seed=config.seed,
        weight=method.weight,
        workers=config.workers,
        device=device,
        processes=dataset.own,
        first_part=ranks.rank * config.accumulate,
        own_parts=config.accumulate,
        parts=ranks.count * config.accumulate,
    )
    return loader, where


def _placed(
    config: TrainConfig,
    dataset: Dataset,
    method: Method,
    device: torch.device,
    ranks: Ranks,
    on_progress: Progress | None,
) -> tuple[Sequence[Tile], Sequence[Tile], str]:
    """Labelled and unlabelled tiles where they are read from, and where that is, for people."""
    labeled = method.labelled_tiles(dataset.labeled, dataset.unlabeled)
    unlabeled: Sequence[Tile] = dataset.unlabeled if method.uses_unlabeled else []
    if dataset.own:
        how = f"by {config.workers} processes" if config.workers else "in the training loop"
        return labeled, unlabeled, f"tiles read from datasets given in Python, {how}"
    each = list({tile.id: tile for tile in [*unlabeled, *labeled]}.values())
    placement = place(each, device, config.pool, sharing=ranks.local_count if device.type == "cpu" else 1)
    if placement.resident:
        there = {tile.id: tile for tile in held_on(each, device, named(on_progress, "loading tiles"))}
        labeled, unlabeled = ([there[tile.id] for tile in part] for part in (labeled, unlabeled))
    return labeled, unlabeled, str(placement)


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
