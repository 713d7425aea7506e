"""Files to decode, and what the cache holds of them."""

from pathlib import Path

import numpy as np
import rasterio
from PIL import Image

from s4aug_train.data.layouts import TileFile
from s4aug_train.data.palette import ClassEntry, ClassTable

TABLE = ClassTable((ClassEntry("a", value=1), ClassEntry("b", value=2), ClassEntry("unknown", value=0, ignored=True)))


def pair(root: Path, name: str = "x", size=(20, 30), mask_size=None, seed=0) -> TileFile:
    """An RGB image and a mask of values 0 to 2, written by Pillow."""
    rng = np.random.default_rng(seed)
    root.mkdir(exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (*size, 3)).astype(np.uint8)).save(root / f"{name}.png")
    Image.fromarray(rng.integers(0, 3, mask_size or size).astype(np.uint8)).save(root / f"{name}_mask.png")
    return TileFile(name, root / f"{name}.png", root / f"{name}_mask.png")


def tiff(path: Path, array: np.ndarray, **profile) -> Path:  # [C, H, W]
    count, height, width = array.shape
    shape = {"count": count, "height": height, "width": width, "dtype": array.dtype}
    with rasterio.open(
        path, "w", driver="GTiff", transform=rasterio.Affine(2, 0, 9, 0, -2, 9), **shape, **profile
    ) as f:
        f.write(array)
    return path


def pixels(path: Path) -> np.ndarray:  # [C, H, W]
    return np.atleast_3d(np.asarray(Image.open(path))).transpose(2, 0, 1)


def labels_of(path: Path) -> np.ndarray:  # [H, W] under TABLE
    return np.array([255, 0, 1], np.uint8)[np.asarray(Image.open(path))]


def entries(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.rglob("entry.json"))


def drafts(folder: Path) -> list[Path]:
    return list(folder.rglob(".draft-*"))
