"""What the perturbation of a run would do to a data set: a picture, before anything is trained."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from .config import Config
from .data.cache import Tile, load_tiles
from .data.dataset import NO_CLASSES, Progress, list_tiles
from .data.layouts import TileFile
from .data.normalization import choose_normalization
from .data.pool import Crops, Pool, check_alike
from .errors import ConfigError, DataError
from .methods import Batch, Setup, make_method
from .panels import ROWS, draw_panel
from .rng import stream_rng, stream_seed


def preview(config: Config, on_progress: Progress | None = None) -> np.ndarray:  # [H, W, 3] uint8
    """The views of a few tiles, chosen by the seed, as `draw_panel` shows them.

    Args:
        config: Of the run that is thought of; whatever it says of labels and training plays no part.
        on_progress: Called with what is being done, how much is done, and of how much.

    Raises:
        ConfigError: The method compares no two views.
        DataError: The tiles cannot be read.
    """
    files = list_tiles(config.data, on_progress).tiles
    order = stream_rng(config.train.seed, 0, "preview").permutation(len(files)).tolist()
    tiles = _readable(files, order, skip=config.data.unreadable == "skip")
    check_alike(tiles)
    normalization = choose_normalization(tiles)
    method = make_method(Setup(config, normalization, 1))
    pool = Pool(tiles, config.train.crop, labelled=False, margin=method.margins()[1], alike=True)
    crops = pool.crops(config.train.seed, 0, "unlabeled", len(tiles))
    views = method.views(_batch(config, crops))
    if views is None:
        raise ConfigError(
            f"the method {config.method.name} compares no two views; use --method s4net, or another that does"
        )
    return draw_panel(crops, views, normalization)


def _readable(files: Sequence[TileFile], order: Sequence[int], *, skip: bool) -> list[Tile]:
    """The first few tiles of an order, without masks; with `skip` of those that can be read."""
    found, why = dict[int, Tile](), dict[str, str]()
    for i in order:
        tiles = load_tiles([replace(files[i], mask=None)], NO_CLASSES, on_unreadable=why.__setitem__ if skip else None)
        if tiles:
            found[i] = tiles[0]
        if len(found) == ROWS:
            break
    if not found:
        raise DataError(f"none of {len(order)} tiles can be read, the first: {next(iter(why.values()))}")
    return [found[i] for i in sorted(found)]


def _batch(config: Config, crops: Crops) -> Batch:
    """Those of a first step, as far as views are made of it."""
    seed = config.train.seed
    return Batch(0, seed, torch.tensor([stream_seed(seed, 0, "batch")]), torch.tensor(0.0), crops, crops)
