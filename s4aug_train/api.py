"""The trainer for Python: `fit` and `evaluate_checkpoint`; the command line calls nothing else to train."""

import platform
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import torch

from s4aug import __version__

from .config import Config, TrainConfig
from .data.cache import Tile
from .data.dataset import Dataset, Progress, list_tiles, load_dataset, load_validation
from .data.layouts import Listing, choose_classes
from .data.palette import ClassTable
from .data.pool import Pool, check_alike
from .data.split import Split
from .engine import PRECISIONS, Checkpoint, Loader, RunFolder, TrainingState, clear, find_checkpoint, train
from .errors import CheckpointError, ConfigError, DataError
from .evaluate import evaluate
from .files import write_json, write_text
from .inference import Windows
from .methods import Method, make_method
from .model import UNet, load_encoder_weights, read_encoder_weights
from .records import EvaluationRecord, MetricsFile, Record
from .rng import stream_seed

# What a resumed run may change; all else would make it another run.
FREE_ON_RESUME = {
    "data.path",
    "data.classes",
    "data.unlabeled",
    "data.split",
    "train.device",
    "train.workers",
    "train.log_every",
    "train.checkpoint_every",
    "train.evaluate_every",
}


def fit(
    config: Config,
    run: RunFolder,
    *,
    resume: Path | None = None,
    overwrite: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: Progress | None = None,
) -> Iterator[Record]:
    """Train and evaluate one run.

    Args:
        config: All settings.
        run: The folder it writes to; see `engine.claim` for whether it may.
        resume: A checkpoint to go on from.
        overwrite: Give up what the folder holds, once everything is ready to begin.
        should_stop: Asked after each step; when true a checkpoint is written and the run ends.
        on_progress: Called with what is being done, how much is done, and of how much.

    Yields:
        Records as they are written to metrics.jsonl.

    Raises:
        S4AugTrainError: Whatever the user can cure, each told with its cure.
    """
    device = choose_device(config.train.device)
    checkpoint = None if resume is None else Checkpoint.read(resume)
    list_tiles(config.data, on_progress)  # a wrong folder is told before a download
    pretrained = None if checkpoint else read_encoder_weights(config.model.encoder, config.model.weights)
    workers = config.train.workers
    dataset = load_dataset(config.data, config.train.seed, workers=workers, on_progress=on_progress)
    network = _new_network(config, dataset)
    if pretrained is not None:
        load_encoder_weights(network.encoder, pretrained)
    state = TrainingState(network.to(device), config.train, device)
    if checkpoint is not None:
        check_resumable(checkpoint, config, dataset)
        state.load(checkpoint.step, checkpoint.best, checkpoint.network, checkpoint.training)
    method = make_method(config, dataset.normalization)
    loader = _loader(config.train, dataset, method, device)
    if overwrite:
        clear(run)
    run.path.mkdir(parents=True, exist_ok=True)
    metrics = MetricsFile(run.metrics, state.step, state.evaluated)
    _describe(run, config, dataset, device)
    on_step = _named(on_progress, "training")

    def save(improved: bool) -> None:
        snapshot = _checkpoint(state, config, dataset)
        if improved:
            snapshot.write(run.best)
        snapshot.write(run.last)

    for record in train(
        state,
        method,
        loader,
        evaluate=lambda step: _evaluate(
            network, dataset, dataset.val, config.train, device, step, on_progress, should_stop
        ),
        save=save,
        should_stop=should_stop,
        on_step=lambda step: on_step(step, config.train.steps),
    ):
        metrics.append(record)
        yield record


def evaluate_checkpoint(
    path: Path,
    config_changes: dict[str, object],
    *,
    split: str = "val",
    on_progress: Progress | None = None,
) -> EvaluationRecord:
    """Evaluate a run folder's last checkpoint, or a checkpoint file, on whole tiles.

    Args:
        path: Run folder or checkpoint.
        config_changes: Settings (`group.field`) that differ from the run's, for example `data.path`.
        split: "val" for the run's own validation tiles, or the path of a split manifest whose `val` is meant.
        on_progress: As in `fit`.

    Raises:
        CheckpointError: There is no such checkpoint, or its classes are not those of the data.
        DataError: The tiles are not there.
    """
    checkpoint = Checkpoint.read(find_checkpoint(path))
    config = checkpoint.config.updated({"data.classes": None, **config_changes})
    device = choose_device(config.train.device)
    ids = checkpoint.split.val if split == "val" else _unseen(checkpoint, config, Path(split))
    listing = list_tiles(config.data, on_progress)
    classes = _classes_of(listing, config, checkpoint)
    workers = config.train.workers
    tiles = load_validation(listing, config.data, classes, ids, workers=workers, on_progress=on_progress)
    check_alike(tiles)
    bands, dtype = tiles[0].image.shape[0], str(tiles[0].image.dtype)
    if (bands, dtype) != (checkpoint.bands, checkpoint.dtype):
        raise DataError(
            f"tile {tiles[0].id} of {config.data.path} has {bands} bands of {dtype}, the checkpoint was trained on "
            f"{checkpoint.bands} of {checkpoint.dtype}; evaluate on data of the same kind"
        )
    network = checkpoint.build_network().to(device)
    record = _evaluate(network, checkpoint, tiles, config.train, device, checkpoint.step, on_progress)
    assert record is not None
    return record


def choose_device(name: str) -> torch.device:
    """The device of a name; `auto` is CUDA where it is, else the CPU.

    Raises:
        ConfigError: There is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"train.device must be auto, cpu, cuda or cuda:N, got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"train.device must be auto, cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"there is no {name}: torch sees {torch.cuda.device_count()} GPUs; use --device cpu")
    return device


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


def _new_network(config: Config, dataset: Dataset) -> UNet:
    """A network whose random weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(config.train.seed, 0, "network"))
        return UNet(len(dataset.classes.names), dataset.bands, config.model.encoder)


def _loader(config: TrainConfig, dataset: Dataset, method: Method, device: torch.device) -> Loader:
    seen = method.labelled_tiles(dataset.labeled, dataset.unlabeled)
    return Loader(
        labeled=Pool(seen, config.crop, labelled=True),
        unlabeled=Pool(dataset.unlabeled, config.crop, labelled=False) if method.uses_unlabeled else None,
        batch_labeled=config.batch_labeled,
        batch_unlabeled=config.batch_unlabeled,
        seed=config.seed,
        workers=config.workers,
        device=device,
    )


def _evaluate(
    network: UNet,
    source: Dataset | Checkpoint,
    tiles: Sequence[Tile],
    config: TrainConfig,
    device: torch.device,
    step: int,
    on_progress: Progress | None,
    should_stop: Callable[[], bool] = lambda: False,
) -> EvaluationRecord | None:
    return evaluate(
        network,
        tiles,
        source.classes.names,
        source.normalization,
        Windows(config.window, config.stride),
        step=step,
        device=device,
        autocast=PRECISIONS[config.precision],
        should_stop=should_stop,
        on_progress=_named(on_progress, "evaluating"),
    )


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


def _unseen(checkpoint: Checkpoint, config: Config, manifest: Path) -> tuple[str, ...]:
    """The validation tiles of a manifest; none of them may be one that the checkpoint was trained on."""
    ids = Split.read(manifest).val
    trained = {*checkpoint.split.labeled, *checkpoint.split.unlabeled}
    seen = [tile for tile in ids if tile in trained]
    if seen and Path(config.data.path).resolve() == Path(checkpoint.config.data.path).resolve():
        raise DataError(
            f"{manifest}: {len(seen)} of its {len(ids)} validation tiles, for example {seen[0]}, were trained on; "
            f"evaluate on tiles that were held out"
        )
    return ids


def _classes_of(listing: Listing, config: Config, checkpoint: Checkpoint) -> ClassTable:
    """How the data's masks are read: by its own table, which must have the checkpoint's classes, or by theirs."""
    table = choose_classes(listing, Path(config.data.classes) if config.data.classes else None) or checkpoint.classes
    if table.names != checkpoint.classes.names:
        known, found = (", ".join(names) for names in (checkpoint.classes.names, table.names))
        raise CheckpointError(
            f"the checkpoint has {len(checkpoint.classes.names)} classes ({known}), {listing.root} has "
            f"{len(table.names)} ({found}); evaluate on the classes it was trained for"
        )
    return table


def _describe(run: RunFolder, config: Config, dataset: Dataset, device: torch.device) -> None:
    write_text(run.config, config.to_yaml())
    dataset.split.write(run.split)
    write_json(run.environment, environment(device))


def environment(device: torch.device) -> dict[str, object]:
    """Versions and machine, as written to env.json."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    packages = ("torch", "torchvision", "kornia", "numpy", "rasterio")
    return {
        "s4aug": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": f"{device.type}: {name}",
        "threads": torch.get_num_threads(),
        **{package: version(package) for package in packages},
    }


def _named(on_progress: Progress | None, what: str) -> Callable[[int, int], None]:
    if on_progress is None:
        return lambda done, total: None
    return lambda done, total: on_progress(what, done, total)
