"""Evaluation on whole tiles: one confusion matrix over the dataset, or counts of each tile."""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from .assessment import CONFIDENCE_BINS, Assessment, TileScore
from .boundary import LABELS, distance_bins
from .data.cache import OnUnreadable, Tile
from .data.palette import IGNORE
from .data.readable import none_readable
from .errors import UnreadableError
from .inference import Piece, TilePixels, predict_pieces
from .metrics import Confusion
from .ranks import ALONE, Ranks
from .records import EvaluationRecord
from .segmenter import Segmenter
from .tta import Averaging
from .windows import Windows

Value = TypeVar("Value")
OnProgress = Callable[[int, int], None]


def evaluate(
    segmenter: Segmenter,
    tiles: Sequence[Tile],
    windows: Windows,
    *,
    step: int = 0,
    ranks: Ranks = ALONE,
    on_unreadable: OnUnreadable | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: OnProgress | None = None,
) -> EvaluationRecord | None:
    """Predict every tile and count pixels by true and predicted class; unknown (255) and nodata are ignored.

    Args:
        segmenter: The network, and what it takes; the network's mode is put back afterwards.
        tiles: With labels.
        windows: How tiles are covered.
        step: Steps the network was trained for.
        ranks: The processes; each predicts its share of the tiles, and all have the record.
        on_unreadable: Told of each tile that cannot be read, which is left out; None: it is an error.
        should_stop: Asked after each tile; when true in any process the evaluation is given up.
        on_progress: Called with (done, all).

    Returns:
        IoU by class and their mean, over the classes that the truth holds; None if it was given up.

    Raises:
        UnreadableError: A tile cannot be read.
        DataError: No tile can be read, and `on_unreadable` was told.
    """
    classes = segmenter.classes.names

    def counted(confusion: Confusion, tile: Tile) -> Confusion:
        for piece in predict_pieces(segmenter, TilePixels(tile), windows):
            confusion = confusion.added(torch.from_numpy(truth_of(tile, piece)), piece.labels())
        return confusion

    empty = Confusion.empty(len(classes))
    found = _over_tiles(segmenter, tiles, empty, counted, ranks, on_unreadable, should_stop, on_progress)
    if found is None:
        return None
    confusion = Confusion(ranks.total(found[0].counts))
    iou = dict(zip(classes, confusion.iou(), strict=True))
    return EvaluationRecord(step, confusion.miou(), iou, confusion.counts.tolist(), list(classes), found[1])


def assess(
    segmenter: Segmenter,
    tiles: Sequence[Tile],
    windows: Windows,
    *,
    step: int = 0,
    tta: Averaging | None = None,
    ranks: Ranks = ALONE,
    on_unreadable: OnUnreadable | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: OnProgress | None = None,
) -> Assessment | None:
    """Predict every tile and keep what intervals, tests and diagrams are made of; else as `evaluate`.

    Args:
        segmenter: As in `evaluate`.
        tiles: As in `evaluate`; their ids differ.
        windows: As in `evaluate`.
        step: As in `evaluate`.
        tta: Views that each window is predicted in besides.
        ranks: As in `evaluate`; all have the whole assessment.
        on_unreadable: As in `evaluate`.
        should_stop: As in `evaluate`.
        on_progress: As in `evaluate`.

    Returns:
        A score for each tile that was read, in the order of their ids; None if it was given up.

    Raises:
        UnreadableError: As in `evaluate`.
        DataError: As in `evaluate`.
    """

    def scored(scores: tuple[TileScore, ...], tile: Tile) -> tuple[TileScore, ...]:
        return (*scores, _score(segmenter, tile, predict_pieces(segmenter, TilePixels(tile), windows, tta=tta)))

    nothing: tuple[TileScore, ...] = ()
    found = _over_tiles(segmenter, tiles, nothing, scored, ranks, on_unreadable, should_stop, on_progress)
    if found is None:
        return None
    scores = chain.from_iterable(ranks.gathered(found[0]))
    # By id, so that it does not matter how tiles were shared out.
    return Assessment(step, segmenter.classes.names, tuple(sorted(scores, key=lambda score: score.id)))


def _over_tiles(
    segmenter: Segmenter,
    tiles: Sequence[Tile],
    value: Value,
    add: Callable[[Value, Tile], Value],
    ranks: Ranks,
    on_unreadable: OnUnreadable | None,
    should_stop: Callable[[], bool],
    on_progress: OnProgress | None,
) -> tuple[Value, int] | None:
    """What this process's share of the tiles adds up to, and how many tiles all could read; None if given up."""
    was_training, unread = segmenter.network.training, dict[str, str]()
    segmenter.network.eval()
    # By number: an iterator would end at the first tile that cannot be read.
    own = range(ranks.rank, len(tiles), ranks.count)
    for done, number in enumerate(own, 1):
        try:
            value = add(value, tiles[number])
        except UnreadableError as error:
            if on_unreadable is None:
                raise
            unread[error.name] = error.why
        if on_progress:
            on_progress(done, len(own))
        if should_stop():
            break
    segmenter.network.train(was_training)
    # One may have a larger share. Then in this order: each process asks the others.
    ranks.wait()
    if ranks.any(should_stop()):
        return None
    unread = {name: why for found in ranks.gathered(unread) for name, why in found.items()}
    for name, why in unread.items():
        assert on_unreadable is not None
        on_unreadable(name, why)
    if tiles and len(unread) == len(tiles):
        raise none_readable(next(iter(unread.values())))
    return value, len(tiles) - len(unread)


def _score(segmenter: Segmenter, tile: Tile, pieces: Iterable[Piece]) -> TileScore:
    """The counts of one tile."""
    classes = len(segmenter.classes.names)
    confusion = Confusion.empty(classes)
    near = torch.zeros(len(LABELS), 2, dtype=torch.float64)
    calibration = torch.zeros(CONFIDENCE_BINS, 3, dtype=torch.float64)
    for piece in pieces:
        truth, predicted = torch.from_numpy(truth_of(tile, piece)), piece.labels()
        confusion = confusion.added(truth, predicted)
        known = truth < classes
        right = (truth == predicted)[known]
        each = torch.ones_like(right)
        distance = distance_bins(tile.labels, piece.top, piece.left, *truth.shape)[known]
        near = near + _summed(distance, len(LABELS), right, each)
        confidence = piece.probabilities.amax(0).cpu().double()[known]
        bins = (confidence * CONFIDENCE_BINS).ceil().long().sub(1).clamp(0, CONFIDENCE_BINS - 1)
        calibration = calibration + _summed(bins, CONFIDENCE_BINS, each, confidence, right)
    return TileScore(tile.id, confusion.counts.numpy(), near.long().numpy(), calibration.numpy())


def _summed(bins: Tensor, count: int, *values: Tensor) -> Tensor:  # [P], [P] each -> [count, len(values)] float64
    """The sums of some values in each bin."""
    return torch.stack([torch.bincount(bins, value.double(), minlength=count) for value in values], 1)


def truth_of(tile: Tile, piece: Piece) -> np.ndarray:  # [h, w] uint8
    """The labels where a piece lies, 255 where unknown or not real."""
    assert tile.labels is not None
    height, width = piece.probabilities.shape[1:]
    truth = np.array(tile.labels[piece.top : piece.top + height][:, piece.left : piece.left + width])
    if piece.valid is not None:
        truth[~piece.valid] = IGNORE
    return truth
