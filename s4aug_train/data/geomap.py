"""Rasters that are written: Cloud Optimized GeoTIFFs of 8-bit bands, whole or absent."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp
from rasterio.errors import CRSError, RasterioError
from rasterio.io import DatasetReader, DatasetWriter

from ..errors import DataError
from ..files import atomic_path, parse_json
from .decoding import Color
from .raster import ignore_warnings, open_raster

NODATA = 255  # in every band
MADE_BY = "S4AUG_MADE_BY"  # the tag that says which network made a map, and how
RASTER = "S4AUG_RASTER"  # the tag that says of which raster
PIXELS = "PIXELS"  # the tag of a map of labels that says how many pixels each class has
BLOCK_PX = 512
READ_PX = 8 * BLOCK_PX  # columns that are read back together
# Nothing in a file depends on time, machine or threads: the same map is the same bytes.
LAYOUT = {"tiled": True, "blockxsize": BLOCK_PX, "blockysize": BLOCK_PX, "compress": "deflate", "zlevel": 1}
LAYOUT |= {"interleave": "band", "bigtiff": "if_safer"}
COG = {"compress": "deflate", "level": 6, "blocksize": BLOCK_PX, "bigtiff": "if_safer", "statistics": "no"}
QUIET = {"GDAL_PAM_ENABLED": "NO"}  # no .aux.xml beside it


@dataclass(frozen=True)
class MapKind:
    """What a raster of predictions is.

    Args:
        bands: A description of each band.
        colors: Colour of each label, for a map of labels.
        unit: What one step of a pixel's value stands for; 1 for labels.
        tags: Of the file.
    """

    bands: Sequence[str]
    colors: Sequence[Color] = ()
    unit: float = 1.0
    tags: Mapping[str, str] = field(default_factory=dict)


class MapWriter:
    """A raster that is being written, in any order of its windows.

    Args:
        dataset: The open file.
        kind: What it is.
    """

    def __init__(self, dataset: DatasetWriter, kind: MapKind) -> None:
        self.dataset, self.kind = dataset, kind
        self.counts = np.zeros((len(kind.bands), 256), np.int64)  # pixels of each value, by band
        self.system_lost = False  # known once the file is whole: a GeoTIFF cannot tell each CRS

    def write(self, pixels: np.ndarray, top: int, left: int) -> None:
        """Write a window [bands, h, w] of uint8."""
        height, width = pixels.shape[1:]
        # GDAL's options are each thread's own.
        with rasterio.Env(**QUIET):
            self.dataset.write(pixels, window=((top, top + height), (left, left + width)))
        self.counts += _counts(pixels)


@contextmanager
def written_map(path: Path, size: tuple[int, int], place: Mapping[str, Any], kind: MapKind) -> Iterator[MapWriter]:
    """Write a raster, all of whose pixels must be written, as a Cloud Optimized GeoTIFF with overviews.

    Args:
        path: The file; it is there once all has been written and read back, or not at all.
        size: (H, W) in px.
        place: Where it lies, from `Scene.place`.
        kind: What it is.

    Raises:
        S4AugTrainError: It cannot be written, for example on a full disk.
    """
    shape = {"driver": "GTiff", "height": size[0], "width": size[1], "count": len(kind.bands), "dtype": "uint8"}
    ignore_warnings()
    with atomic_path(path) as final, _draft(final) as draft, _raising_os_errors(), rasterio.Env(**QUIET):
        with rasterio.open(draft, "w", **shape, **LAYOUT, **place, nodata=NODATA) as dataset:
            _describe(dataset, kind)
            writer = MapWriter(dataset, kind)
            yield writer
            if kind.colors:
                dataset.update_tags(**{PIXELS: json.dumps(writer.counts[0, : len(kind.colors)].tolist())})
        how = "mode" if kind.colors else "average"
        rasterio.shutil.copy(draft, final, driver="COG", overview_resampling=how, **COG)
        # GDAL does not always tell that a block could not be written.
        with rasterio.open(final) as dataset:
            if not np.array_equal(_read_back(dataset), writer.counts):
                raise OSError("what was written is not what can be read back (a full or failing disk?)")
            writer.system_lost = "crs" in place and not (dataset.crs or dataset.gcps[1])


@contextmanager
def _draft(final: Path) -> Iterator[Path]:
    """A name beside a file for what it is made of."""
    draft = final.with_suffix(".draft.tmp")
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _raising_os_errors() -> Iterator[None]:
    """GDAL's errors of writing, as the system's. Those of reading the source are ours already."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise OSError("a name in it is not UTF-8") from error
    except (RasterioError, CRSError, CPLE_BaseError) as error:
        raise OSError(" ".join(str(error.__cause__ or error).split())) from error


def _describe(dataset: DatasetWriter, kind: MapKind) -> None:
    dataset.update_tags(**kind.tags)
    for band, text in enumerate(kind.bands, 1):
        dataset.set_band_description(band, text)
    if kind.colors:
        opaque = {label: (*color, 255) for label, color in enumerate(kind.colors)}
        dataset.write_colormap(1, {**opaque, NODATA: (0, 0, 0, 0)})
    else:
        dataset.colorinterp = [ColorInterp.gray, *[ColorInterp.undefined] * (len(kind.bands) - 1)]
    if kind.unit != 1:
        dataset.scales = [kind.unit] * len(kind.bands)


def _counts(pixels: np.ndarray) -> np.ndarray:  # [bands, h, w] uint8 -> [bands, 256]
    return np.stack([np.bincount(band.ravel(), minlength=256) for band in pixels])


def _read_back(dataset: DatasetReader) -> np.ndarray:  # [bands, 256]
    """How often each value is in a file."""
    counts = np.zeros((dataset.count, 256), np.int64)
    for top in range(0, dataset.height, BLOCK_PX):
        for left in range(0, dataset.width, READ_PX):
            rows, columns = (top, min(top + BLOCK_PX, dataset.height)), (left, min(left + READ_PX, dataset.width))
            counts += _counts(dataset.read(window=(rows, columns)))
    return counts


def read_tags(path: Path) -> dict[str, str]:
    """The tags of a raster.

    Raises:
        UnreadableError: It is none, or damaged.
    """
    with closing(open_raster(path)) as dataset:
        return dict(dataset.tags())


def read_pixel_counts(path: Path, classes: int) -> list[int]:
    """How many pixels of a map of labels have each class, as its tag says; none where it does not say.

    Raises:
        UnreadableError: As in `read_tags`.
    """
    try:
        counts = parse_json(read_tags(path).get(PIXELS, ""))
    except ValueError:
        return []
    whole = isinstance(counts, list) and all(type(count) is int and count >= 0 for count in counts)
    return counts if whole and len(counts) == classes else []


def is_map(path: Path) -> bool:
    """Whether a file is a map that was made here; False for one that cannot be read."""
    try:
        return MADE_BY in read_tags(path)
    except DataError:
        return False
