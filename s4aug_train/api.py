"""The trainer for Python: `fit`, `evaluate` and `export`; the command line runs the same `training`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from .config import Config
from .data.cache import OnUnreadable, Tile
from .data.dataset import Progress, list_tiles, load_validation
from .data.layouts import Listing, choose_classes
from .data.own import OwnData
from .data.palette import ClassTable
from .data.pool import check_alike
from .data.readable import first_readable
from .data.split import Split
from .engine import Checkpoint, RunFolder, begun_by, choose_device, claim, find_checkpoint, fresh_run, held, newest
from .errors import CheckpointError, ConfigError, DataError
from .evaluation import evaluate as evaluate_on
from .exporting import Export, export_checkpoint
from .formats import format_of
from .preparation import named
from .ranks import here
from .records import EvaluationRecord, LeftOut, Note, Record
from .training import training
from .windows import Windows


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
    ranks = here()
    if out is not None and begun_by(RunFolder(Path(out)), ranks):
        resume, overwrite = True, False
    if out is not None:
        claim(RunFolder(Path(out)), resume=resume, overwrite=overwrite, ranks=ranks)
    run = RunFolder(Path(out)) if out is not None else fresh_run(Path("runs"), config.method.name, ranks)
    last = None
    with held(run, ranks):
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
            last = record if isinstance(record, EvaluationRecord) else last
    return FitResult(run, last)


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
        split: "val" for the run's own validation tiles, or the path of a split manifest whose `val` is meant.
        model: The network that the run trained, where it was one of the user's; its weights are replaced.
        dataset: Its `val` is evaluated, instead of tiles of a folder.
        on_note: Told what was left out, under `data.unreadable=skip`.
        on_progress: As in `fit`.

    Raises:
        CheckpointError: There is no such checkpoint, or its classes are not those of the data.
        DataError: The tiles are not there, or cannot be read.
    """
    given = dict(settings or {})
    checkpoint = Checkpoint.read(find_checkpoint(Path(path)))
    config = checkpoint.config.updated({"data.classes": None, **given})
    device = choose_device(config.train.device)
    left_out = LeftOut({})
    on_unreadable = left_out.add if config.data.unreadable == "skip" else None
    tiles: Sequence[Tile]
    if dataset is not None:
        tiles = _own_tiles(dataset, checkpoint, on_unreadable is not None)
    else:
        tiles = _listed_tiles(checkpoint, config, split, on_unreadable, on_progress)
    first = first_readable(tiles, on_unreadable)
    bands, dtype = first.image.shape[0], str(first.image.dtype)
    if (bands, dtype) != (checkpoint.bands, checkpoint.dtype):
        raise DataError(
            f"tile {first.id} of {config.data.path} has {bands} bands of {dtype}, the checkpoint was trained on "
            f"{checkpoint.bands} of {checkpoint.dtype}; evaluate on data of the same kind"
        )
    record = evaluate_on(
        checkpoint.segmenter(device, config.train.precision, model or given.get("model.factory")),
        tiles,
        Windows(config.train.window, config.train.stride),
        step=checkpoint.step,
        on_unreadable=on_unreadable,
        on_progress=named(on_progress, "evaluating"),
    )
    for note in left_out.notes():
        on_note(note)
    assert record is not None
    return record


def export(
    checkpoint: str | Path,
    out: str | Path,
    *,
    format: str,
    model: nn.Module | str | None = None,
    data: str | Path | None = None,
    on_progress: Progress | None = None,
) -> Export:
    """Write the network of a run folder's last checkpoint, or of a checkpoint file, for use elsewhere.

    The file is run and compared with the network in PyTorch before it appears under its name.

    Args:
        checkpoint: Run folder or checkpoint.
        out: The file to write, .onnx, .pt2 (torch-export) or .safetensors.
        format: "onnx", "torch-export" or "safetensors".
        model: The network that the run trained, or its name, where it was one of the user's.
        data: Folder of tiles to compare on; by default those of the run, where they are there.
        on_progress: As in `fit`.

    Returns:
        The file, and how far its probabilities are from those of the network.

    Raises:
        CheckpointError: There is no such checkpoint.
        ConfigError: There is no such format, or one of its packages is missing.
        ExportError: The network cannot be traced, or the file computes something else; nothing is left of it.
        S4AugTrainError: The file cannot be written.
    """
    path = Path(out)
    form = format_of(format, path)
    form.check()
    found = Checkpoint.read(find_checkpoint(Path(checkpoint)))
    folder = None if data is None else str(data)
    return export_checkpoint(found, form, path, own=model, data=folder, on_progress=on_progress)


def _own_tiles(dataset: OwnData, checkpoint: Checkpoint, skip: bool) -> Sequence[Tile]:
    if tuple(dataset.classes) != checkpoint.classes.names:
        raise CheckpointError(
            f"the checkpoint has the classes {', '.join(checkpoint.classes.names)}, the dataset "
            f"{', '.join(dataset.classes)}; evaluate on the classes it was trained for"
        )
    return dataset.dataset(skip=skip).val


def _listed_tiles(
    checkpoint: Checkpoint,
    config: Config,
    split: str,
    on_unreadable: OnUnreadable | None,
    on_progress: Progress | None,
) -> Sequence[Tile]:
    """The validation tiles of the run, or of a manifest, from the folder of the settings."""
    ids = checkpoint.split.val if split == "val" else _unseen(checkpoint, config, Path(split))
    listing = list_tiles(config.data, on_progress)
    classes = _classes_of(listing, config, checkpoint)
    tiles = load_validation(
        listing,
        config.data,
        classes,
        ids,
        on_unreadable=on_unreadable,
        workers=config.train.workers,
        on_progress=on_progress,
    )
    check_alike(tiles)
    return tiles


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
