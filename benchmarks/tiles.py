"""Tiles to train on: in memory, in files that are mapped, and as a folder in DeepGlobe's layout."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

from s4aug_train.data.cache import ArrayFile, Tile
from s4aug_train.data.palette import DEEPGLOBE
from s4aug_train.data.raster import write_image
from s4aug_train.data.synthetic import mask_colours
from s4aug_train.data.terrain import render_tile

CLASSES = len(DEEPGLOBE.names)
COUNT = 20  # labelled, and as many without labels
IN_FOLDER = 8  # of each, as files


def tiles_in_memory(side: int) -> tuple[list[Tile], list[Tile]]:
    """Labelled and unlabelled tiles of noise."""
    rng = np.random.default_rng(8)

    def made(name: str, labelled: bool) -> Tile:
        image = rng.integers(0, 256, (3, side, side), dtype=np.uint8)
        labels = rng.integers(0, CLASSES, (side, side), dtype=np.uint8) if labelled else None
        return Tile(name, image, labels, None, (), np.zeros((3, 3)))

    return [made(f"labeled-{i}", True) for i in range(COUNT)], [made(f"unlabeled-{i}", False) for i in range(COUNT)]


@cache
def tiles_in_files(side: int) -> tuple[list[Tile], list[Tile]]:
    """The same, read by memory map."""
    folder = temporary_folder()

    def saved(path: Path, array: np.ndarray) -> ArrayFile:
        np.save(path, array)
        return ArrayFile(path, array.shape, array.dtype)

    def mapped(tile: Tile) -> Tile:
        image = saved(folder / f"{tile.id}.npy", np.asarray(tile.image))
        labels = None if tile.labels is None else saved(folder / f"{tile.id}-labels.npy", np.asarray(tile.labels))
        return Tile(tile.id, image, labels, None, tile.class_pixels, tile.band_sums)

    labeled, unlabeled = tiles_in_memory(side)
    return [mapped(tile) for tile in labeled], [mapped(tile) for tile in unlabeled]


@cache
def deepglobe_folder(side: int) -> Path:
    """A folder `train/` of JPEG images and PNG masks: one landscape, turned and mirrored."""
    folder = temporary_folder()
    image, labels = render_tile(np.random.default_rng(9), side)
    for i in range(2 * IN_FOLDER):
        shown, truth = (np.rot90(plane, i % 4, (-2, -1)) for plane in (image, labels))
        if i // 4 % 2:
            shown, truth = shown[..., ::-1], truth[..., ::-1]
        name = f"train/{100_000 + i}"
        write_image(folder / f"{name}_sat.jpg", np.ascontiguousarray(shown), quality=92)
        write_image(folder / f"{name}_mask.png", np.ascontiguousarray(mask_colours(truth)))
    return folder


@contextmanager
def cache_in(folder: Path) -> Iterator[None]:
    """Decoded tiles are kept there."""
    before = os.environ.get("S4AUG_CACHE")
    os.environ["S4AUG_CACHE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["S4AUG_CACHE"]
        else:
            os.environ["S4AUG_CACHE"] = before


def temporary_folder() -> Path:
    """Deleted when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="s4aug-benchmark-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
