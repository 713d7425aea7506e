"""Evaluation on whole tiles: one confusion matrix over the dataset."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import nn

from .config import TrainConfig
from .data.cache import OnUnreadable, Tile
from .data.normalization import Normalization
from .data.palette import IGNORE, ClassTable
from .data.readable import none_readable
from .engine import chosen_precision
from .errors import UnreadableError
from .inference import Windows, predict_rows
from .metrics import Confusion
from .ranks import ALONE, Ranks
from .records import EvaluationRecord


def evaluate(
    network: nn.Module,
    tiles: Sequence[Tile],
    classes: Sequence[str],
    normalization: Normalization,
    windows: Windows,
    *,
    step: int = 0,
    device: torch.device,
    autocast: torch.dtype | None = None,
    ranks: Ranks = ALONE,
    on_unreadable: OnUnreadable | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[int, int], None] | None = None,
) -> EvaluationRecord | None:
    """Predict every tile and count pixels by true and predicted class; unknown (255) and nodata are ignored.

    Args:
        network: As in `predict_rows`; its mode is put back afterwards.
        tiles: With labels.
        classes: Names.
        normalization: As in training.
        windows: How tiles are covered.
        step: Steps the network was trained for.
        device: Where the network is.
        autocast: Lower precision of the forward.
        on_unreadable: Told of each tile that cannot be read, which is left out; None: it is an error.
        ranks: The processes; each predicts its share of the tiles, and all have the record.
        should_stop: Asked after each tile; when true in any process the evaluation is given up.
        on_progress: Called with (done, all).

    Returns:
        IoU by class and their mean, over the classes that the truth holds; None if it was given up.

    Raises:
        UnreadableError: A tile cannot be read.
        DataError: No tile can be read, and `on_unreadable` was told.
    """
    was_training = network.training
    network.eval()
    confusion, unread = Confusion.empty(len(classes)), dict[str, str]()
    # By number: an iterator would end at the first tile that cannot be read.
    own = range(ranks.rank, len(tiles), ranks.count)
    for done, number in enumerate(own, 1):
        try:
            tile = tiles[number]
            rows = predict_rows(network, tile, normalization, windows, device=device, autocast=autocast)
            confusion = _counted(confusion, tile, rows)
        except UnreadableError as error:
            if on_unreadable is None:
                raise
            unread[error.name] = error.why
        if on_progress:
            on_progress(done, len(own))
        if should_stop():
            break
    network.train(was_training)
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


def _counted(confusion: Confusion, tile: Tile, predictions: Iterable[tuple[int, np.ndarray]]) -> Confusion:
    """The counts with those of one tile."""
    assert tile.labels is not None
    for top, predicted in predictions:
        rows = slice(top, top + len(predicted))
        truth = torch.tensor(tile.labels[rows])
        if tile.valid is not None:
            truth[~torch.tensor(tile.valid[rows])] = IGNORE
        confusion = confusion.added(truth, torch.from_numpy(predicted))
    return confusion


class Source(Protocol):
    """What knows classes and normalisation: a data set, or a checkpoint."""

    @property
    def classes(self) -> ClassTable:
        """Names and colours."""

    @property
    def normalization(self) -> Normalization:
        """Of the images."""


def evaluate_tiles(
    network: nn.Module,
    tiles: Sequence[Tile],
    source: Source,
    config: TrainConfig,
    *,
    step: int,
    device: torch.device,
    ranks: Ranks = ALONE,
    on_unreadable: OnUnreadable | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[int, int], None] | None = None,
) -> EvaluationRecord | None:
    """`evaluate` as the settings of a run say."""
    return evaluate(
        network,
        tiles,
        source.classes.names,
        source.normalization,
        Windows(config.window, config.stride),
        step=step,
        device=device,
        autocast=chosen_precision(config.precision, device),
        ranks=ranks,
        on_unreadable=on_unreadable,
        should_stop=should_stop,
        on_progress=on_progress,
    )
