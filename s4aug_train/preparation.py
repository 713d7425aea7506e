"""What a run is made of before it begins: tiles, network, method, state and batches."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

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
from .engine import Checkpoint, Loader, TrainingState, changed_settings
from .errors import CheckpointError, ConfigError
from .files import content_hash
from .methods import Method, Setup, make_method
from .model import OwnNetwork, UNet, load_encoder_weights, own_network, read_encoder_weights
from .ranks import Ranks
from .rng import stream_seed


def check_resumable(checkpoint: Checkpoint, config: Config, dataset: Dataset) -> None:
    """Hold a resumed run to the settings, classes and split that it began with.

    Raises:
        CheckpointError: One differs; it is named with both values.
    """
    changed = changed_settings(checkpoint.config, config)
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


def prepared(
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
    state = TrainingState(network, _method(config, dataset), config.train, device, ranks)
    if checkpoint is not None:
        check_resumable(checkpoint, config, dataset)
        # Optimizers go on in the very tensors that they load.
        state.load(checkpoint.step, checkpoint.best, checkpoint.network, copy.deepcopy(checkpoint.training))
    return dataset, state


def check_together(config: Config, device: torch.device, ranks: Ranks) -> None:
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
    parts = () if dataset.own else (dataset.labeled, dataset.unlabeled, dataset.val)
    tiles = content_hash([[tile.id for tile in part] for part in parts])
    ranks.check_same({**config.flat(), "the hash of tiles": tiles, "the last step": step})


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


def _method(config: Config, dataset: Dataset) -> Method:
    setup = Setup(config, dataset.normalization, len(dataset.classes.names))
    method = make_method(setup)
    # It says itself whose masks it sees.
    weights = _class_weights(config.train, dataset, method.labelled_tiles(dataset.labeled, dataset.unlabeled))
    return method if weights is None else make_method(replace(setup, class_weights=weights))


def _class_weights(config: TrainConfig, dataset: Dataset, labeled: Sequence[Tile]) -> tuple[float, ...] | None:
    """One weight per class, of mean 1 where they are balanced: by the inverse of the labelled pixels of each.

    Args:
        config: Says which.
        dataset: Of the classes.
        labeled: The tiles that are trained on with their masks.

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
    tiles = readable(labeled, (lambda name, why: None) if dataset.skip else None)
    pixels = np.sum([_class_pixels(tile, len(names)) for tile in tiles], axis=0).tolist()
    if not any(pixels):
        raise ConfigError("train.class_weights=balanced: no labelled pixel was found to count; check the masks")
    inverse = [1 / count if count else 0.0 for count in pixels]
    return tuple(weight * len(names) / sum(inverse) for weight in inverse)


def _class_pixels(tile: Tile, classes: int) -> np.ndarray:  # [K]
    if tile.class_pixels:
        return np.array(tile.class_pixels)
    assert tile.labels is not None
    labels = np.asarray(tile.labels)
    real = labels if tile.valid is None else labels[np.asarray(tile.valid)]
    return np.bincount(real.ravel(), minlength=256)[:classes]


def make_loader(
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
    # Masks of unlabelled tiles are for nobody to see.
    unlabeled = [replace(tile, labels=None) for tile in unlabeled]
    each = list({tile.id: tile for tile in [*unlabeled, *labeled]}.values())
    placement = place(each, device, config.pool, sharing=ranks.local_count if device.type == "cpu" else 1)
    if placement.resident:
        there = {tile.id: tile for tile in held_on(each, device, named(on_progress, "loading tiles"))}
        labeled, unlabeled = ([there[tile.id] for tile in part] for part in (labeled, unlabeled))
    return labeled, unlabeled, str(placement)
