"""Evaluation on whole tiles: one confusion matrix over the dataset."""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import nn

from .config import TrainConfig
from .data.cache import Tile
from .data.normalization import Normalization
from .data.palette import IGNORE, ClassTable
from .engine import chosen_precision
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
        ranks: The processes; each predicts its share of the tiles, and all have the record.
        should_stop: Asked after each tile; when true in any process the evaluation is given up.
        on_progress: Called with (done, all).

    Returns:
        IoU by class and their mean, over the classes that the truth holds; None if it was given up.
    """
    was_training = network.training
    network.eval()
    confusion, own = Confusion.empty(len(classes)), tiles[ranks.rank :: ranks.count]
    for done, tile in enumerate(own, 1):
        assert tile.labels is not None
        for top, predicted in predict_rows(network, tile, normalization, windows, device=device, autocast=autocast):
            rows = slice(top, top + len(predicted))
            truth = torch.tensor(tile.labels[rows])
            if tile.valid is not None:
                truth[~torch.tensor(tile.valid[rows])] = IGNORE
            confusion = confusion.added(truth, torch.from_numpy(predicted))
        if on_progress:
            on_progress(done, len(own))
        if should_stop():
            break
    network.train(was_training)
    # In this order: each process asks the others.
    confusion = Confusion(ranks.total(confusion.counts))
    if ranks.any(should_stop()):
        return None
    iou = dict(zip(classes, confusion.iou(), strict=True))
    return EvaluationRecord(step, confusion.miou(), iou, confusion.counts.tolist(), list(classes), len(tiles))


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
        should_stop=should_stop,
        on_progress=on_progress,
    )
