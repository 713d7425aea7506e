"""A raster that is predicted: its pixels as a network was trained on them, and where they lie on earth."""

import math
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader

from ..errors import ConfigError, DataError
from ..files import content_hash, sampled_hash
from .origins import MASK, beside_of, parts_of
from .raster import Window, data_bands, decoded_dtype, explained, open_raster, read_pixels, valid_pixels

SAMPLES = 64  # of the bytes of a raster, by which it is known


@dataclass(frozen=True)
class Reading:
    """How pixels are taken from a raster.

    Args:
        bands: Their numbers, from 1, in the order of the network's; None for all that the raster has.
        scale: (factor, offset) by which pixels become what the network was trained on, `pixel * factor + offset`,
            rounded and cut off at the ends of an integer type; None if they are it already.
        nodata: A value that means "not real" where all bands have it, besides what the file says.

    Raises:
        ConfigError: The scale is no number, or 0.
    """

    bands: tuple[int, ...] | None = None
    scale: tuple[float, float] | None = None
    nodata: float | None = None

    def __post_init__(self) -> None:
        factor, offset = self.scale or (1.0, 0.0)
        if not (math.isfinite(factor) and math.isfinite(offset)) or factor == 0:
            raise ConfigError(f"--scale {factor:g},{offset:g} makes no pixels; use a finite factor other than 0")


@dataclass(frozen=True, eq=False)
class Scene:
    """An open raster; read by one thread at a time.

    Args:
        dataset: The open file.
        bands: Numbers of the bands that are read.
        dtype: What pixels are given as.
        reading: As above.
    """

    dataset: DatasetReader
    bands: tuple[int, ...]
    dtype: str
    reading: Reading

    @property
    def every(self) -> tuple[int, ...]:
        """Numbers of all bands that hold data."""
        return tuple(data_bands(self.dataset))

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in px."""
        return self.dataset.height, self.dataset.width

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray | None]:
        """Pixels [C, h, w] of a window, and which of them are real, [h, w] bool, or None where all are.

        Raises:
            UnreadableError: The file is damaged there.
        """
        image = read_pixels(self.dataset, window, self.bands)
        valid = valid_pixels(self.dataset, window, image, self.bands)
        if self.reading.nodata is not None:
            real = (image != self.reading.nodata).any(0)
            valid = real if valid is None else valid & real
        scaled = self._scaled(image)
        if scaled.dtype == np.float32 and self.reading.scale is not None:
            finite = np.isfinite(scaled).all(0)
            valid = finite if valid is None else valid & finite
        return scaled, valid

    def place(self) -> dict[str, Any]:
        """Where the raster lies; see `place_of`."""
        return place_of(self.dataset)

    def _scaled(self, image: np.ndarray) -> np.ndarray:
        if self.reading.scale is None:
            return image
        factor, offset = self.reading.scale
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = image.astype(np.float32) * np.float32(factor) + np.float32(offset)
        if self.dtype == "float32":
            return scaled
        # NaN is not real, and no integer.
        whole = np.nan_to_num(scaled, nan=0.0).round().clip(0, np.iinfo(self.dtype).max)
        return whole.astype(self.dtype)


def place_of(dataset: DatasetReader) -> dict[str, Any]:
    """Where a raster lies, as rasterio takes it for a new one of the same grid."""
    with explained(Path(dataset.name)):
        points, system = dataset.gcps
        if points and system:
            return {"gcps": points, "crs": system}
        where: dict[str, Any] = {"crs": dataset.crs} if dataset.crs else {}
        # A picture has none, for which rasterio gives the identity.
        return where if dataset.transform.is_identity else {**where, "transform": dataset.transform}


def identity(path: Path) -> str:
    """Another one for another raster: by size and some bytes of its files, where it lies, and what is nodata in it.

    The same for a copy. It takes no decoding, and a change of few pixels between files of one size goes unseen.

    Raises:
        OSError: It is not there.
        UnreadableError: It is no raster.
    """
    files = [path, *parts_of(path)]
    masks = [mask for file in files for mask in beside_of(file, [MASK])]
    with closing(open_raster(path)) as dataset, explained(path):
        place = place_of(dataset)
        points = [[point.row, point.col, point.x, point.y, point.z] for point in place.get("gcps", ())]
        told = {
            "system": place["crs"].to_wkt() if "crs" in place else None,
            "transform": list(place.get("transform", ())),
            "points": points,
            "nodata": [str(value) for value in dataset.nodatavals],
        }
    samples = max(4, SAMPLES // len(files))  # a virtual raster may have thousands of parts
    return content_hash({**told, "files": [sampled_hash(file, samples) for file in (*files, *masks)]})


@contextmanager
def opened_scene(path: Path, bands: int, dtype: str, reading: Reading) -> Iterator[Scene]:
    """Open a raster for a network.

    Args:
        path: GeoTIFF, VRT, JPEG or PNG.
        bands: How many the network takes.
        dtype: What it was trained on: "uint8", "uint16" or "float32".
        reading: How pixels are taken.

    Raises:
        DataError: The file cannot be read, or does not hold what the network takes.
    """
    with closing(open_raster(path)) as dataset:
        chosen = reading.bands or tuple(data_bands(dataset))
        _check_bands(path, dataset, chosen, bands, reading)
        if decoded_dtype(dataset) != dtype and reading.scale is None:
            raise DataError(_other_type(path, dataset.dtypes[chosen[0] - 1], dtype))
        yield Scene(dataset, chosen, dtype, reading)


def _check_bands(path: Path, dataset: DatasetReader, chosen: Sequence[int], bands: int, reading: Reading) -> None:
    if outside := [band for band in chosen if not 1 <= band <= dataset.count]:
        raise DataError(f"{path} has no band {outside[0]}: it has {dataset.count}; choose others with --bands")
    if len(chosen) == bands:
        return
    if reading.bands:
        raise DataError(f"--bands names {len(chosen)} bands, the network takes {bands}; name as many, in its order")
    if len(chosen) < bands:
        raise DataError(
            f"{path} has {len(chosen)} bands{_besides(dataset, chosen)}, the network takes {bands}; use a raster of "
            f"the same bands"
        )
    example = ",".join(str(band) for band in chosen[:bands])
    raise DataError(
        f"{path} has {len(chosen)} bands, the network takes {bands}; choose them with --bands, as in --bands {example}"
    )


def _besides(dataset: DatasetReader, chosen: Sequence[int]) -> str:
    """What else there is that could be meant."""
    if dataset.colorinterp[0] == ColorInterp.palette:
        return " (indices into a palette: convert it to RGB)"
    others = [band for band in dataset.indexes if band not in chosen]
    return f" (band {others[0]} was taken for transparency: name it with --bands if it is none)" if others else ""


def _other_type(path: Path, found: str, dtype: str) -> str:
    if dtype == "float32":
        example = "1 takes them as is, 0.0001 makes 0 to 1 of 0 to 10000"
    elif found.startswith("float"):
        example = f"{np.iinfo(dtype).max} makes 0 to {np.iinfo(dtype).max} of 0 to 1"
    elif dtype == "uint8":
        example = "0.0255 makes 0 to 255 of 0 to 10000"
    else:
        example = "257 makes 0 to 65535 of 0 to 255"
    return (
        f"{path} holds pixels of {found}, the network was trained on {dtype}; say how they become the same with "
        f"--scale FACTOR or FACTOR,OFFSET (for example, {example})"
    )
