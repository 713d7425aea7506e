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
        should_stop: Asked after each tile; when true the evaluation is given up.
        on_progress: Called with (done, all).

    Returns:
        IoU by class and their mean, over the classes that the truth holds; None if it was given up.

    Raises:
        UnreadableError: A tile cannot be read.
        DataError: No tile can be read, and `on_unreadable` was told.
    """
    was_training = network.training
    network.eval()
    confusion, whys = Confusion.empty(len(classes)), []
    # By number: an iterator would end at the first tile that cannot be read.
    for number in range(len(tiles)):
        try:
            tile = tiles[number]
            rows = predict_rows(network, tile, normalization, windows, device=device, autocast=autocast)
            confusion = _counted(confusion, tile, rows)
        except UnreadableError as error:
            if on_unreadable is None:
                raise
            on_unreadable(error.name, error.why)
            whys.append(error.why)
        if on_progress:
            on_progress(number + 1, len(tiles))
        if should_stop():
            break
    network.train(was_training)
    if should_stop():
        return None
    if tiles and len(whys) == len(tiles):
        raise none_readable(whys[0])
    iou = dict(zip(classes, confusion.iou(), strict=True))
    read = len(tiles) - len(whys)
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
        on_unreadable=on_unreadable,
        should_stop=should_stop,
        on_progress=on_progress,
    )
