"""The trainer for Python: `fit`, `evaluate` and `predict`; the command line calls the same."""

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
from .data.scene import Reading
from .data.split import Split
from .engine import Checkpoint, RunFolder, begun_by, choose_device, claim, find_checkpoint, fresh_run, held, newest
from .errors import CheckpointError, ConfigError, DataError
from .evaluation import evaluate as evaluate_on
from .jobs import jobs_of
from .prediction import Made, MapRequest, predict_maps
from .preparation import named
from .ranks import here
from .records import EvaluationRecord, LeftOut, Note, Record
from .training import training
from .tta import Averaging
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


def predict(
    inputs: str | Path | Sequence[str | Path],
    checkpoint: str | Path,
    settings: Mapping[str, Any] | None = None,
    *,
    out: str | Path = "maps",
    bands: Sequence[int] | None = None,
    scale: float | tuple[float, float] | None = None,
    nodata: float | None = None,
    tta: str | None = None,
    window: int | None = None,
    overlap: int | None = None,
    batch: int = 4,
    confidence: bool = False,
    probabilities: bool = False,
    overwrite: bool = False,
    model: nn.Module | None = None,
    on_progress: Progress | None = None,
) -> list[Made]:
    """Predict whole rasters: for each a map of labels, a Cloud Optimized GeoTIFF on the grid of the raster.

    Under torchrun each process predicts its share of the rasters.

    Args:
        inputs: GeoTIFF, VRT, JPEG or PNG files, folders of them, or globs.
        checkpoint: Run folder or checkpoint.
        settings: `train.device`, `train.precision` or `model.factory`, where they differ from the run's.
        out: Folder of the maps; that of `scene.tif` is `scene.tif` in it.
        bands: Numbers of the bands to use, from 1, in the order in which the network was trained on them.
        scale: Factor, or (factor, offset), by which pixels become what the network was trained on.
        nodata: A value that means "not real" where all bands have it, besides what the file says.
        tta: `flips` or `affine:K`: views of each window that are predicted besides.
        window: Side of a window, px; by default that of the run's evaluation.
        overlap: Of windows, px, over which they fade into each other; by default a quarter of the window.
        batch: Windows per forward.
        confidence: Also write `*_confidence.tif`: the largest probability, and the entropy divided by log K.
        probabilities: Also write `*_probabilities.tif`, a band for each class.
        overwrite: Make maps again that are there.
        model: The network that the run trained, where it was one of the user's.
        on_progress: As in `fit`.

    Returns:
        What became of each raster, this process's share of them: made, skipped because it was there, or failed.

    Raises:
        CheckpointError: There is no such checkpoint.
        DataError: There is no raster, or two rasters would have one map.
        ConfigError: An option cannot be.
    """
    given = dict(settings or {})
    listed = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    jobs = jobs_of(listed, Path(out))
    found = Checkpoint.read(find_checkpoint(Path(checkpoint)))
    config = found.config.updated(given)
    ranks = here()
    device = choose_device(config.train.device, ranks)
    request = MapRequest(
        windows=_smooth_windows(window or config.train.window, overlap, batch),
        tta=Averaging.named(tta, config.method) if tta else None,
        reading=Reading(tuple(bands) if bands else None, _pair(scale), nodata),
        confidence=confidence,
        probabilities=probabilities,
    )
    segmenter = found.segmenter(device, config.train.precision, model or given.get("model.factory"))
    own = jobs[ranks.rank :: ranks.count]
    told = named(on_progress, "predicting windows")
    return list(predict_maps(segmenter, own, request, overwrite=overwrite, on_progress=told))


def _smooth_windows(side: int, overlap: int | None, batch: int) -> Windows:
    """Windows that fade into each other.

    Raises:
        ConfigError: The overlap is no part of the window.
    """
    overlap = side // 4 if overlap is None else overlap
    if not 0 <= overlap < side:
        raise ConfigError(f"windows of {side} px cannot overlap by {overlap} px; use 0 to {side - 1}")
    return Windows(side, side - overlap, batch, smooth=True)


def _pair(scale: float | tuple[float, float] | None) -> tuple[float, float] | None:
    return scale if scale is None or isinstance(scale, tuple) else (float(scale), 0.0)


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
