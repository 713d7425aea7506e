"""A made-up land-cover set in DeepGlobe's layout, for trying everything without a download."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..files import parse_json, write_json
from ..rng import stream_rng, stream_seed
from .demo import DEFAULT_DEMO, ID_COUNT, Demo
from .palette import DEEPGLOBE, ClassTable
from .raster import write_image
from .terrain import render_tile

# Part of the marker: a demo drawn by other code is another demo. Raise it when a tile changes by one bit.
VERSION = 1
MARKER = "demo.json"
_TABLE_FILE = "class_dict.csv"
_QUALITY = 92  # of JPEG

_ID_STEP = 611_953  # a prime that does not divide the count, so that the ids are a permutation


def write_demo(folder: Path, demo: Demo = DEFAULT_DEMO, on_progress: Callable[[int, int], None] | None = None) -> Path:
    """Write a demo as `train/ID_sat.jpg`, `train/ID_mask.png`, `valid/ID_sat.jpg` and `class_dict.csv`.

    A whole demo of the same parameters is left as it is; one that was interrupted is written again. Several
    processes may write the same demo at once: each file is whole or absent, and all write the same bytes.

    Args:
        folder: Where to; made where missing.
        demo: What to write.
        on_progress: Called after each tile with the number done and the number of all.

    Returns:
        The folder.

    Raises:
        DataError: The folder holds another demo or anything else.
    """
    planned = _planned(demo)
    wanted = {"version": VERSION, **asdict(demo)}
    if _holds(folder, wanted, {name for tile in planned for name in tile.files}):
        return folder
    DEEPGLOBE.write(folder / _TABLE_FILE)
    for done, tile in enumerate(planned, start=1):
        planes = render_tile(stream_rng(demo.seed, tile.index, f"demo {tile.stream}"), demo.size)
        for name, plane in zip(tile.files, planes, strict=False):
            write_image(folder / name, plane if plane.ndim == 3 else mask_colours(plane), quality=_QUALITY)
        if on_progress is not None:
            on_progress(done, len(planned))
    write_json(folder / MARKER, wanted)
    return folder


def mask_colours(label: NDArray[np.uint8]) -> NDArray[np.uint8]:  # [H, W] -> [3, H, W]
    """The colours of DeepGlobe's masks; every value from 6 on is unknown."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(DEEPGLOBE.colors)] = DEEPGLOBE.colors
    return table[label].transpose(2, 0, 1)


@dataclass(frozen=True)
class _Planned:
    stream: str
    index: int
    files: tuple[str, ...]  # the image and, where it has one, the mask


def _planned(demo: Demo) -> list[_Planned]:
    """All tiles in the order in which they are written."""
    train = [_Planned("train", i, _names(demo.seed, i, "train")) for i in range(demo.tiles)]
    valid = [_Planned("valid", i, _names(demo.seed, i, "valid")[:1]) for i in range(demo.unlabeled)]
    return train + valid


def _names(seed: int, index: int, stream: str) -> tuple[str, str]:
    """Names of image and mask under an id of six digits, unique in a demo."""
    place = 2 * index + (stream == "valid")
    number = 100_000 + (stream_seed(seed, 0, "demo ids") + place * _ID_STEP) % ID_COUNT
    return f"{stream}/{number}_sat.jpg", f"{stream}/{number}_mask.png"


def _holds(folder: Path, wanted: dict[str, int], files: set[str]) -> bool:
    """Whether the wanted demo lies in the folder whole; what belongs to anything else is an error."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file, not a folder; choose another place for the demo")
    marker, table = folder / MARKER, folder / _TABLE_FILE
    if marker.exists():
        if (found := _read_marker(marker)) != wanted:
            raise DataError(f"{folder} holds another demo, {found}, not {wanted}; delete it or choose another folder")
        return table.exists() and all((folder / name).exists() for name in files)
    # Hidden files are our own unfinished ones, perhaps of another process, or a file manager's.
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("[!.]*") if not path.is_dir()}
    foreign = sorted(present - files - {_TABLE_FILE})
    if not foreign and table.exists() and not _is_deepglobes(table):
        foreign = [_TABLE_FILE]
    if foreign:
        raise DataError(f"{folder} holds files that are not of this demo, such as {foreign[0]}; choose an empty folder")
    return False


def _is_deepglobes(table: Path) -> bool:
    try:
        return ClassTable.read(table) == DEEPGLOBE
    except DataError:
        return False


def _read_marker(marker: Path) -> Any:
    try:
        return parse_json(marker.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {marker}: {error}; delete it to have the demo written again") from error
