"""Tiles held in the memory of the training device, where they fit there."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import ConfigError
from .cache import Tile

# Shares of the free memory that tiles may take; on a GPU the network needs the rest.
SHARE = {"cuda": 0.4, "cpu": 0.5}
GIB = 1024**3
CONTROL_GROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Placement:
    """Where the tiles of a run are.

    Args:
        resident: In the memory of the device, else in the map of the cache.
        needed: Bytes of pixels, labels and masks.
        free: Bytes of memory that were free on the device.
        device: Its name.
    """

    resident: bool
    needed: int
    free: int
    device: str

    def __str__(self) -> str:
        where = f"in the memory of {self.device}" if self.resident else "read from the cache's memory map"
        return f"tiles ({self.needed / GIB:.2f} GiB) {where}; {self.free / GIB:.1f} GiB were free"


def place(tiles: Sequence[Tile], device: torch.device, choice: str, *, sharing: int = 1) -> Placement:
    """Decide where tiles are held, by the memory there is.

    Args:
        tiles: All that are trained on, each once.
        device: Where the network is.
        choice: "auto", "device" or "map".
        sharing: Processes that hold tiles in the same memory.

    Raises:
        ConfigError: "device", and there is not enough memory.
    """
    needed, free = sum(tile_bytes(tile) for tile in tiles), free_bytes(device) // sharing
    fits = needed <= SHARE[device.type] * free
    if choice == "device" and not needed < free:
        raise ConfigError(
            f"train.pool=device: the tiles take {needed / GIB:.2f} GiB, {device} has {free / GIB:.2f} GiB free; use "
            f"train.pool=auto"
        )
    return Placement(choice == "device" or (choice == "auto" and fits), needed, free, str(device))


def tile_bytes(tile: Tile) -> int:
    """Bytes of a tile's arrays."""
    arrays = [array for array in (tile.image, tile.labels, tile.valid) if array is not None]
    return sum(int(np.prod(array.shape)) * array.dtype.itemsize for array in arrays)


def free_bytes(device: torch.device) -> int:
    """Bytes of memory that a device has free; of the CPU, what programs can have without swapping."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo") as lines:
            known = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        return int(min(known["MemAvailable"], _container_bytes()))
    except (OSError, KeyError, ValueError, IndexError):
        # Where the system does not tell: half of what there is.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2 if hasattr(os, "sysconf") else 0


def _container_bytes() -> float:
    """What a container's limit leaves, by the kernel's control groups; infinite without one."""
    try:
        limit, used = (int((CONTROL_GROUP / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # "max" is no number
        return math.inf
    return max(limit - used, 0)


def held_on(
    tiles: Sequence[Tile], device: torch.device, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> list[Tile]:
    """The same tiles with tensors on a device in place of arrays."""
    held = []
    for done, tile in enumerate(tiles, 1):
        image, labels, valid = (_moved(array, device) for array in (tile.image, tile.labels, tile.valid))
        held.append(replace(tile, image=image, labels=labels, valid=valid))
        on_progress(done, len(tiles))
    return held


def _moved(array: Any, device: torch.device) -> Any:
    # A copy: arrays of the cache are read-only.
    return None if array is None else torch.from_numpy(np.array(array[...])).to(device)
