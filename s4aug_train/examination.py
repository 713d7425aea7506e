"""Trained checkpoints on whole tiles: which tiles, by which settings, and what is found."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from . import evaluation
from .assessment import Assessment
from .config import Config
from .data.cache import OnUnreadable, Tile
from .data.dataset import Progress, list_tiles, load_validation
from .data.layouts import Listing, choose_classes
from .data.own import OwnData
from .data.palette import ClassTable
from .data.pool import check_alike
from .data.readable import first_readable
from .data.split import Split
from .engine import Checkpoint, choose_device
from .errors import CheckpointError, ConfigError, DataError
from .files import real_path
from .launch import here
from .preparation import named
from .ranks import joined
from .records import EvaluationRecord, LeftOut, Note
from .run import find_checkpoint
from .tta import Averaging
from .windows import Windows

# What an evaluation may change; all else holds as the checkpoint was trained.
FREE = {
    "data.path",
    "data.classes",
    "data.image_pattern",
    "data.mask_pattern",
    "data.mismatch",
    "data.unreadable",
    "model.factory",
    "train.device",
    "train.precision",
    "train.workers",
    "train.window",
    "train.stride",
}

Named = tuple[str | Path, Checkpoint]  # as a user says it


def evaluate(
    path: str | Path,
    settings: Mapping[str, Any] | None = None,
    *,
    split: str = "val",
    model: nn.Module | None = None,
    dataset: OwnData | None = None,
    on_note: Callable[[Note], None] = lambda note: None,
    on_progress: Progress | None = None,
) -> EvaluationRecord:
    """Evaluate a run folder's last checkpoint, or a checkpoint file, on whole tiles.

    Args:
        path: Run folder or checkpoint.
        settings: Settings (`group.field`) that differ from the run's, for example `data.path`.
        split: "val" for the run's own validation tiles, "all" for every labelled tile of the data, or the path of a
            split manifest whose `val` is meant.
        model: The network that the run trained, where it was one of the user's; its weights are replaced.
        dataset: Its `val` is evaluated, instead of tiles of a folder.
        on_note: Told what was left out, under `data.unreadable=skip`.
        on_progress: As in `fit`.

    Raises:
        CheckpointError: There is no such checkpoint, or its classes are not those of the data.
        ConfigError: A setting has no say in an evaluation.
        DataError: The tiles are not there, or cannot be read.
    """
    return assess(
        path, settings, split=split, model=model, dataset=dataset, on_note=on_note, on_progress=on_progress
    ).record()


def assess(
    path: str | Path,
    settings: Mapping[str, Any] | None = None,
    *,
    split: str = "val",
    model: nn.Module | None = None,
    dataset: OwnData | None = None,
    tta: str | None = None,
    smooth: bool = False,
    on_note: Callable[[Note], None] = lambda note: None,
    on_progress: Progress | None = None,
) -> Assessment:
    """Evaluate as `evaluate` does, for intervals, tests and diagrams.

    Args:
        path: As in `evaluate`, as are all that are not named here.
        settings: As in `evaluate`.
        split: As in `evaluate`.
        model: As in `evaluate`.
        dataset: As in `evaluate`.
        tta: "flips" or "affine:K": predictions of so many views are averaged, with the motions of the training.
        smooth: Windows fade into each other.
        on_note: As in `evaluate`.
        on_progress: As in `evaluate`.

    Raises:
        CheckpointError: As in `evaluate`.
        ConfigError: As in `evaluate`, or `tta` is none of these.
        DataError: As in `evaluate`.
    """
    (found,) = assess_all(
        [path],
        settings,
        split=split,
        model=model,
        dataset=dataset,
        tta=tta,
        smooth=smooth,
        on_note=on_note,
        on_progress=on_progress,
    )
    return found


def assess_all(
    paths: Sequence[str | Path],
    settings: Mapping[str, Any] | None = None,
    *,
    split: str = "val",
    model: nn.Module | None = None,
    dataset: OwnData | None = None,
    tta: str | None = None,
    smooth: bool = False,
    on_note: Callable[[Note], None] = lambda note: None,
    on_progress: Progress | None = None,
) -> list[Assessment]:
    """Evaluate checkpoints on the same tiles, read in the same way: as the first of them says.

    Args:
        paths: As `path` in `assess`, as are all others.
        settings: As in `assess`.
        split: As in `assess`.
        model: As in `assess`; of all of them.
        dataset: As in `assess`.
        tta: As in `assess`.
        smooth: As in `assess`.
        on_note: As in `assess`.
        on_progress: As in `assess`.

    Raises:
        CheckpointError: As in `assess`.
        ConfigError: As in `assess`.
        DataError: As in `assess`, or one was trained on a tile.
    """
    checkpoints = [(path, Checkpoint.read(find_checkpoint(Path(path)))) for path in paths]
    views = [None if tta is None else Averaging.named(tta, each.config.method) for _, each in checkpoints]
    config = settled(checkpoints[0][1].config, dict(settings or {}))
    own = model or (settings or {}).get("model.factory")
    windows = Windows(config.train.window, config.train.stride, smooth=smooth)
    device = choose_device(config.train.device, here())
    left_out = LeftOut({})
    on_unreadable = left_out.add if config.data.unreadable == "skip" else None
    assessments = []
    with joined(device) as ranks:
        with ranks.in_turn():
            tiles = tiles_of(checkpoints, config, split, dataset, on_unreadable, on_progress)
        for (path, checkpoint), averaging in zip(checkpoints, views, strict=True):
            found = evaluation.assess(
                checkpoint.segmenter(device, config.train.precision, own),
                tiles,
                windows,
                step=checkpoint.step,
                tta=averaging,
                ranks=ranks,
                on_unreadable=on_unreadable,
                on_progress=named(on_progress, "evaluating" if len(paths) == 1 else f"evaluating {path}"),
            )
            assert found is not None
            assessments.append(found)
    for note in left_out.notes():
        on_note(note)
    return assessments


def settled(config: Config, given: Mapping[str, Any]) -> Config:
    """The settings of an evaluation.

    Raises:
        ConfigError: One would have no effect.
    """
    changed = config.updated({"data.classes": None, **given})
    old, new = config.flat(), changed.flat()
    for key in given:
        if key not in FREE and old[key] != new[key]:
            raise ConfigError(
                f"{key} has no say in an evaluation: it is {old[key]} in the checkpoint; leave it out. What may be "
                f"set: {', '.join(sorted(FREE))}"
            )
    return changed


def tiles_of(
    checkpoints: Sequence[Named],
    config: Config,
    split: str,
    dataset: OwnData | None,
    on_unreadable: OnUnreadable | None,
    on_progress: Progress | None,
) -> Sequence[Tile]:
    """What is evaluated, fit for all checkpoints."""
    tiles: Sequence[Tile]
    if dataset is not None:
        _check_classes(checkpoints, tuple(dataset.classes), "the dataset")
        tiles = dataset.dataset(skip=on_unreadable is not None).val
    else:
        if not config.data.path:
            raise DataError("its tiles were given from Python; name a folder that holds them with --data")
        listing = list_tiles(config.data, on_progress)
        ids = _ids(checkpoints[0][1], listing, split)
        _check_unseen(checkpoints, config, ids, split)
        tiles = load_validation(
            listing,
            config.data,
            _classes_of(listing, config, checkpoints),
            ids,
            on_unreadable=on_unreadable,
            workers=config.train.workers,
            on_progress=on_progress,
        )
        check_alike(tiles)
    _check_kind(checkpoints, first_readable(tiles, on_unreadable), config)
    return tiles


def _ids(checkpoint: Checkpoint, listing: Listing, split: str) -> Sequence[str]:
    """Which tiles are meant."""
    if split == "all":
        return [tile.id for tile in listing.labelled]
    return checkpoint.split.val if split == "val" else Split.read(Path(split)).val


def _check_unseen(checkpoints: Sequence[Named], config: Config, ids: Sequence[str], split: str) -> None:
    """Hold tiles to being none that a checkpoint was trained on.

    Raises:
        DataError: One is.
    """
    for path, checkpoint in checkpoints:
        trained = {*checkpoint.split.labeled, *checkpoint.split.unlabeled}
        seen = [tile for tile in ids if tile in trained]
        if seen and real_path(Path(config.data.path)) == real_path(Path(checkpoint.config.data.path)):
            raise DataError(
                f"{split}: {len(seen)} of its {len(ids)} validation tiles, for example {seen[0]}, were trained on by "
                f"{path}; evaluate on tiles that were held out"
            )


def _classes_of(listing: Listing, config: Config, checkpoints: Sequence[Named]) -> ClassTable:
    """How the masks are read: by the table that is given, else as in training where they are the same, else by theirs.

    A table must have the checkpoints' classes.
    """
    trained, given = checkpoints[0][1], config.data.classes
    theirs = trained.config.data.path
    same = bool(theirs) and real_path(Path(config.data.path)) == real_path(Path(theirs))
    own = None if same and not given else choose_classes(listing, Path(given) if given else None)
    table = own or trained.classes
    _check_classes(checkpoints, table.names, str(listing.root if own else "the other"))
    return table


def _check_classes(checkpoints: Sequence[Named], names: tuple[str, ...], whose: str) -> None:
    for path, checkpoint in checkpoints:
        known = checkpoint.classes.names
        if known != names:
            raise CheckpointError(
                f"the checkpoint has {len(known)} classes ({', '.join(known)}), {whose} has {len(names)} "
                f"({', '.join(names)}); evaluate {path} on the classes it was trained for"
            )


def _check_kind(checkpoints: Sequence[Named], first: Tile, config: Config) -> None:
    bands, dtype = first.image.shape[0], str(first.image.dtype)
    for path, checkpoint in checkpoints:
        if (bands, dtype) != (checkpoint.bands, checkpoint.dtype):
            raise DataError(
                f"tile {first.id} of {config.data.path} has {bands} bands of {dtype}, the checkpoint was trained on "
                f"{checkpoint.bands} of {checkpoint.dtype}; evaluate {path} on data of the same kind"
            )
