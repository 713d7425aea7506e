"""The tiles that a report shows, predicted by its runs, one network at a time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .config import Config
from .data.cache import Tile
from .data.dataset import Progress, list_tiles, load_unlabelled
from .data.palette import IGNORE
from .engine import Checkpoint, choose_device
from .errors import DataError, UnreadableError
from .inference import TilePixels, predict_pieces
from .preparation import named
from .records import LeftOut
from .reporting.choice import accuracies, chosen_tiles
from .reporting.gathered import Group, Labelling, Row, Run, Unsure
from .reporting.pictures import Picture, heat_picture, image_picture, label_picture
from .reporting.words import tile_name
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
    """A run whose tiles can be predicted: its network is read when it is needed, but where the file may yet change."""

    file: Path
    config: Config  # with the data that is meant now
    classes: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    tiles: Mapping[str, Tile]  # held out
    unlabelled: tuple[str, ...]
    own: str | None  # name of the user's network
    held: Checkpoint | None  # of a run that goes on

    def segmenter(self, checkpoint: Checkpoint | None = None) -> Segmenter:
        """The network on its device.

        Args:
            checkpoint: What the file holds, where it has been read.
        """
        train = self.config.train
        known = checkpoint or self.held or Checkpoint.read(self.file)
        return known.segmenter(choose_device(train.device), train.precision, self.own)

    @property
    def windows(self) -> Windows:
        """How tiles are covered, as in `evaluate`."""
        return Windows(self.config.train.window, self.config.train.stride)


def shown_groups(
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
    shown = [tile for tiles in chosen.values() for tile in tiles]
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
    return image_picture(tile), label_picture(truth, run.classes, run.colors, f"Truth of {tile_name(tile.id)}")


def _valid(tile: Tile) -> np.ndarray:  # [H, W] bool
    return np.ones(tile.size, bool) if tile.valid is None else np.asarray(tile.valid)


def _predictions(name: str, run: Evaluated, tiles: Sequence[str], wanted: Wanted) -> dict[str, Picture]:
    """What a run predicts for those of some tiles that it holds out."""
    told, segmenter = named(wanted.on_progress, f"predicting tiles with {name}"), run.segmenter()
    pictures = {}
    for done, tile in enumerate(tiles, 1):
        if tile in run.tiles:
            labels, _ = _predicted(segmenter, run.tiles[tile], run.windows)
            what = f"Prediction of {name} for {tile_name(tile)}"
            pictures[tile] = label_picture(labels, run.classes, run.colors, what)
        told(done, len(tiles))
    return pictures


def _predicted(segmenter: Segmenter, tile: Tile, windows: Windows) -> tuple[np.ndarray, np.ndarray]:
    """Classes [H, W] uint8 of a tile, 255 where not real, and entropies [H, W], as shares of the largest."""
    labels, entropy = np.full(tile.size, IGNORE, np.uint8), np.zeros(tile.size, np.float32)
    for piece in predict_pieces(segmenter, TilePixels(tile), windows):
        height, width = piece.probabilities.shape[1:]
        rows, columns = slice(piece.top, piece.top + height), slice(piece.left, piece.left + width)
        labels[rows, columns] = piece.labels().numpy()
        entropy[rows, columns] = piece.entropy().cpu().numpy()
    return np.where(_valid(tile), labels, np.uint8(IGNORE)), entropy


def shown_unlabelled(run: Evaluated, number: int, wanted: Wanted, notes: list[str]) -> Labelling | None:
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
        label_picture(labels, run.classes, run.colors, f"Prediction for the unlabelled {tile_name(tile.id)}"),
        heat_picture(
            entropy, _valid(tile), f"Entropy of the prediction for {tile_name(tile.id)}, {100 * mean:.0f} % on average"
        ),
    )
