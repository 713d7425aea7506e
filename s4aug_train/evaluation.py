"""Evaluation on whole tiles: one confusion matrix over the dataset."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch

from .data.cache import OnUnreadable, Tile
from .data.palette import IGNORE
from .data.readable import none_readable
from .errors import UnreadableError
from .inference import Piece, TilePixels, predict_pieces
from .metrics import Confusion
from .ranks import ALONE, Ranks
from .records import EvaluationRecord
from .segmenter import Segmenter
from .windows import Windows


def evaluate(
    segmenter: Segmenter,
    tiles: Sequence[Tile],
    windows: Windows,
    *,
    step: int = 0,
    ranks: Ranks = ALONE,
    on_unreadable: OnUnreadable | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[int, int], None] | None = None,
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
    was_training, classes = segmenter.network.training, segmenter.classes.names
    segmenter.network.eval()
    confusion, unread = Confusion.empty(len(classes)), dict[str, str]()
    # By number: an iterator would end at the first tile that cannot be read.
    own = range(ranks.rank, len(tiles), ranks.count)
    for done, number in enumerate(own, 1):
        try:
            tile = tiles[number]
            confusion = _counted(confusion, tile, predict_pieces(segmenter, TilePixels(tile), windows))
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
    confusion = Confusion(ranks.total(confusion.counts))
    if ranks.any(should_stop()):
        return None
    unread = {name: why for found in ranks.gathered(unread) for name, why in found.items()}
    for name, why in unread.items():
        assert on_unreadable is not None
        on_unreadable(name, why)
    if tiles and len(unread) == len(tiles):
        raise none_readable(next(iter(unread.values())))
    iou = dict(zip(classes, confusion.iou(), strict=True))
    read = len(tiles) - len(unread)
    return EvaluationRecord(step, confusion.miou(), iou, confusion.counts.tolist(), list(classes), read)


def _counted(confusion: Confusion, tile: Tile, pieces: Iterable[Piece]) -> Confusion:
    """The counts with those of one tile."""
    for piece in pieces:
        predicted = piece.labels()
        confusion = confusion.added(torch.from_numpy(truth_of(tile, piece)), predicted)
    return confusion


def truth_of(tile: Tile, piece: Piece) -> np.ndarray:  # [h, w] uint8
    """The labels where a piece lies, 255 where unknown or not real."""
    assert tile.labels is not None
    height, width = piece.probabilities.shape[1:]
    truth = np.array(tile.labels[piece.top : piece.top + height][:, piece.left : piece.left + width])
    if piece.valid is not None:
        truth[~piece.valid] = IGNORE
    return truth
