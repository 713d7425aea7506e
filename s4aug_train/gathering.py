"""Gathers what a report shows: evaluates runs, and predicts the tiles that are shown, one network at a time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from s4aug import __version__

from .api import _listed_tiles
from .assessment import Assessment
from .comparison import compare
from .config import Config
from .data.cache import Tile
from .data.dataset import Progress, list_tiles, load_unlabelled
from .data.palette import IGNORE
from .engine import Checkpoint, choose_device
from .errors import CheckpointError, ConfigError, DataError, UnreadableError
from .evaluation import assess
from .inference import TilePixels, predict_pieces
from .preparation import named
from .records import LeftOut
from .reporting import Gathered
from .reporting.choice import accuracies, chosen_tiles
from .reporting.folders import Place, counts_of, places_of, read_run
from .reporting.gathered import Group, Labelling, Row, Run, Scores, Unsure, Versus
from .reporting.pictures import Picture, heat_picture, image_picture, label_picture
from .rng import stream_rng
from .segmenter import Segmenter
from .windows import Windows

PICTURED = 6  # unlabelled tiles that are shown


@dataclass(frozen=True)
class Wanted:
    """What a report is to be made of.

    Args:
        settings: Settings (`group.field`) that differ from those of the runs.
        split: "val" for the runs' own validation tiles, or the path of a manifest whose `val` is meant.
        unlabelled: How many unlabelled tiles are looked at, to find those that are worth a label.
        on_progress: Called with what is being done, how much is done, and of how much.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    split: str = "val"
    unlabelled: int = 100
    on_progress: Progress | None = None


class Evaluated(NamedTuple):
    """A run whose tiles can be predicted: its network is read when it is needed."""

    file: Path
    config: Config  # with the data that is meant now
    classes: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    tiles: Mapping[str, Tile]  # held out
    unlabelled: tuple[str, ...]
    own: str | None  # name of the user's network

    def segmenter(self) -> Segmenter:
        """The network on its device."""
        return _segmenter(Checkpoint.read(self.file), self.config, self.own)

    @property
    def windows(self) -> Windows:
        """How tiles are covered, as in `evaluate`."""
        return Windows(self.config.train.window, self.config.train.stride)


def gather(paths: Sequence[Path], wanted: Wanted) -> Gathered:
    """All that a report shows of some runs.

    A run that cannot be evaluated is shown without scores, and a note says why.

    Args:
        paths: Run folders or checkpoint files; the first is what the others are compared with.
        wanted: What it is made of.

    Raises:
        CheckpointError: A path holds no run.
        DataError: The data or the split that were asked for do not go with a run.
    """
    places, notes = places_of(paths), list[str]()
    found = [_run(place, wanted, notes) for place in places]
    runs = [run for run, _ in found]
    evaluated = {number: each for number, (_, each) in enumerate(found) if each is not None}
    report = Gathered(tuple(runs), versus=tuple(_versus(runs)), version=__version__)
    if evaluated:
        subject = max(evaluated)
        last = evaluated[subject]
        report = replace(
            report,
            subject=subject,
            colors=dict(zip(last.classes, last.colors, strict=True)),
            groups=tuple(_groups(runs, evaluated, subject, wanted, notes)),
            labelling=_labelling(last, subject, wanted, notes),
        )
    return replace(report, notes=tuple(notes))


def _run(place: Place, wanted: Wanted, notes: list[str]) -> tuple[Run, Evaluated | None]:
    """What a run tells, and its scores where its tiles are there."""
    run, told = read_run(place)
    notes += told
    if place.checkpoint is None:
        return replace(run, missing="It has no checkpoint yet."), None
    try:
        checkpoint = Checkpoint.read(place.checkpoint)
        settings = run.settings or _flat(checkpoint.config)
        run = replace(run, step=checkpoint.step, settings=settings, counts=run.counts or counts_of(checkpoint.split))
        evaluated, scores = _evaluate(run.name, place.checkpoint, checkpoint, wanted, notes)
    except (DataError, CheckpointError) as error:
        # What was asked for by name is not passed over.
        if "data.path" in wanted.settings or wanted.split != "val":
            raise
        notes.append(f"{run.name} is shown without an evaluation: {error}")
        return replace(run, missing="Not evaluated; the reason is below."), None
    return replace(run, scores=scores), evaluated


def _evaluate(
    name: str, file: Path, checkpoint: Checkpoint, wanted: Wanted, notes: list[str]
) -> tuple[Evaluated, Scores]:
    config = checkpoint.config.updated({"data.classes": None, **wanted.settings})
    if not config.data.path:
        raise DataError("its tiles were given from Python; name a folder with --data")
    left_out = LeftOut({})
    on_unreadable = left_out.add if config.data.unreadable == "skip" else None
    own = wanted.settings.get("model.factory")
    tiles = _listed_tiles(checkpoint, config, wanted.split, on_unreadable, wanted.on_progress)
    found = assess(
        _segmenter(checkpoint, config, own),
        tiles,
        Windows(config.train.window, config.train.stride),
        step=checkpoint.step,
        on_unreadable=on_unreadable,
        on_progress=named(wanted.on_progress, f"evaluating {name}"),
    )
    assert found is not None
    notes += [f"{name}: {note.text}" for note in left_out.notes()]
    by_id, classes = {tile.id: tile for tile in tiles}, checkpoint.classes
    known = Evaluated(file, config, classes.names, classes.colors, by_id, checkpoint.split.unlabeled, own)
    return known, Scores(found, found.intervals())


def _segmenter(checkpoint: Checkpoint, config: Config, own: str | None) -> Segmenter:
    return checkpoint.segmenter(choose_device(config.train.device), config.train.precision, own)


def _flat(config: Config) -> dict[str, Any]:
    return {f"{group}.{name}": value for group, values in config.to_dict().items() for name, value in values.items()}


def _versus(runs: Sequence[Run]) -> Iterator[Versus]:
    """Each later run beside the first, on the tiles that both hold out."""
    if runs[0].scores is None:
        return
    first = runs[0].scores.assessment
    for number, run in enumerate(runs[1:], 1):
        if run.scores is None:
            continue
        other = run.scores.assessment
        both = {tile.id for tile in first.tiles} & {tile.id for tile in other.tiles}
        if first.classes != other.classes or not both:
            why = "no tile is held out in both" if first.classes == other.classes else "their classes differ"
            yield Versus(number, None, why)
            continue
        all_ = len(both) == len(first.tiles) == len(other.tiles)
        why = "" if all_ else f"of {len(first.tiles)} and {len(other.tiles)} that they hold out"
        try:
            yield Versus(number, compare(_restricted(other, both), _restricted(first, both)), why)
        except DataError as error:
            yield Versus(number, None, str(error))


def _restricted(assessment: Assessment, tiles: set[str]) -> Assessment:
    return replace(assessment, tiles=tuple(tile for tile in assessment.tiles if tile.id in tiles))


def _groups(
    runs: Sequence[Run], evaluated: Mapping[int, Evaluated], subject: int, wanted: Wanted, notes: list[str]
) -> Iterator[Group]:
    """Validation tiles with the predictions of all runs that have the classes of the last one."""
    last = evaluated[subject]
    alike = [number for number, each in evaluated.items() if each.classes == last.classes]
    if len(alike) < len(evaluated):
        others = ", ".join(runs[number].name for number in evaluated if number not in alike)
        notes.append(f"Tiles are shown in the classes of {runs[subject].name}, without {others}, whose classes differ.")
    right = {number: accuracies(scores.assessment) for number in alike if (scores := runs[number].scores)}
    chosen = chosen_tiles(right[subject], right[0] if 0 in right and subject > 0 else None)
    shown = list(dict.fromkeys(tile for tiles in chosen.values() for tile in tiles))
    predictions: dict[int, dict[str, Picture]] = {}
    for number in alike:
        predictions[number] = _predictions(runs[number].name, evaluated[number], shown, wanted)
    pictures = {tile: _given(last, last.tiles[tile]) for tile in shown}
    for kind, tiles in chosen.items():
        rows = (
            Row(
                tile,
                *pictures[tile],
                tuple(predictions.get(number, {}).get(tile) for number in range(len(runs))),
                tuple(right.get(number, {}).get(tile) for number in range(len(runs))),
            )
            for tile in tiles
        )
        yield Group(kind, tuple(rows))


def _given(run: Evaluated, tile: Tile) -> tuple[Picture, Picture]:
    """A tile and its truth."""
    assert tile.labels is not None
    truth = np.where(_valid(tile), np.asarray(tile.labels), np.uint8(IGNORE))
    return image_picture(tile), label_picture(truth, run.classes, run.colors, f"Truth of tile {tile.id}")


def _valid(tile: Tile) -> np.ndarray:  # [H, W] bool
    return np.ones(tile.size, bool) if tile.valid is None else np.asarray(tile.valid)


def _predictions(name: str, run: Evaluated, tiles: Sequence[str], wanted: Wanted) -> dict[str, Picture]:
    """What a run predicts for those of some tiles that it holds out."""
    told, segmenter = named(wanted.on_progress, f"predicting tiles with {name}"), run.segmenter()
    pictures = {}
    for done, tile in enumerate(tiles, 1):
        if tile in run.tiles:
            labels, _ = _predicted(segmenter, run.tiles[tile], run.windows)
            pictures[tile] = label_picture(labels, run.classes, run.colors, f"Prediction of {name} for tile {tile}")
        told(done, len(tiles))
    return pictures


def _predicted(segmenter: Segmenter, tile: Tile, windows: Windows) -> tuple[np.ndarray, np.ndarray]:
    """Classes [H, W] uint8 of a tile, 255 where not real, and the entropy [H, W] of each pixel, as a share of the most."""
    labels, entropy = np.full(tile.size, IGNORE, np.uint8), np.zeros(tile.size, np.float32)
    most = np.log(max(2, len(segmenter.classes.names)))
    for piece in predict_pieces(segmenter, TilePixels(tile), windows):
        height, width = piece.probabilities.shape[1:]
        rows, columns = slice(piece.top, piece.top + height), slice(piece.left, piece.left + width)
        labels[rows, columns] = piece.labels().numpy()
        entropy[rows, columns] = (-piece.probabilities.xlogy(piece.probabilities).sum(0) / most).cpu().numpy()
    return np.where(_valid(tile), labels, np.uint8(IGNORE)), entropy


def _labelling(run: Evaluated, number: int, wanted: Wanted, notes: list[str]) -> Labelling | None:
    """Some unlabelled tiles, those that a run is least sure of first."""
    if not (wanted.unlabelled and run.unlabelled):
        if not run.unlabelled:
            notes.append("There are no unlabelled tiles, of which some could be labelled next.")
        return None
    tiles = _drawn(run, wanted, notes)
    told, segmenter, means = (
        named(wanted.on_progress, "looking at unlabelled tiles"),
        run.segmenter(),
        dict[str, float](),
    )
    for done, tile in enumerate(tiles, 1):
        try:
            _, entropy = _predicted(segmenter, tile, run.windows)
            means[tile.id] = float(entropy[_valid(tile)].mean()) if _valid(tile).any() else 0.0
        except UnreadableError as error:
            notes.append(f"The unlabelled tile {tile.id} is left out: {error}")
        told(done, len(tiles))
    if not means:
        return None
    by_id = {tile.id: tile for tile in tiles}
    order = sorted(means, key=lambda tile: (-means[tile], tile))
    shown = [_unsure(segmenter, run, by_id[tile], means[tile]) for tile in order[:PICTURED]]
    rest = [Unsure(tile, means[tile]) for tile in order[PICTURED:]]
    return Labelling(number, (*shown, *rest), len(run.unlabelled))


def _drawn(run: Evaluated, wanted: Wanted, notes: list[str]) -> list[Tile]:
    """Some of the unlabelled tiles, all if there are few, the same each time."""
    order = stream_rng(0, 0, "report").permutation(len(run.unlabelled))[: wanted.unlabelled]
    ids = [run.unlabelled[int(index)] for index in sorted(order)]
    unread = LeftOut({})
    try:
        listing = list_tiles(run.config.data, wanted.on_progress)
        tiles = load_unlabelled(
            listing,
            run.config.data,
            ids,
            on_unreadable=unread.add,
            workers=run.config.train.workers,
            on_progress=wanted.on_progress,
        )
    except DataError as error:
        notes.append(f"Unlabelled tiles are not looked at: {error}")
        return []
    notes += [f"Of the unlabelled tiles, {note.text}" for note in unread.notes()]
    return tiles


def _unsure(segmenter: Segmenter, run: Evaluated, tile: Tile, mean: float) -> Unsure:
    """One with its pictures."""
    labels, entropy = _predicted(segmenter, tile, run.windows)
    return Unsure(
        tile.id,
        mean,
        image_picture(tile),
        label_picture(labels, run.classes, run.colors, f"Prediction for the unlabelled tile {tile.id}"),
        heat_picture(
            entropy, _valid(tile), f"Entropy of the prediction for tile {tile.id}, {100 * mean:.0f} % on average"
        ),
    )


def page_file(paths: Sequence[Path], out: Path | None) -> Path:
    """The file that a report is written to; a wrong one is told before the work.

    Raises:
        ConfigError: There is none for several runs, or it is a folder.
    """
    if not paths:
        raise ConfigError("a report needs one run or more; give their folders")
    if out is None:
        if len(paths) > 1 or not paths[0].is_dir():
            raise ConfigError("a report of several runs, or of a checkpoint file, needs --out FILE.html")
        out = paths[0] / "report.html"
    if out.is_dir():
        raise ConfigError(f"--out {out} is a folder; give a file, for example {out / 'report.html'}")
    return out
