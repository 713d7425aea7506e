"""Image files: the one place that opens JPEG, PNG, GeoTIFF and VRT."""

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import CRSError, NodataShadowWarning, NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from ..errors import DataError, UnreadableError
from ..files import atomic_path
from .grid import Grid

Window = tuple[int, int, int, int]  # top, left, height, width (px)
Palette = tuple[tuple[int, int, int], ...]  # 256 colours (r, g, b)

DRIVERS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".tif": "GTiff", ".tiff": "GTiff", ".vrt": "VRT"}

# libjpeg only warns of a truncated file, and the fast path of PNG reads one without a word.
# Listing a folder of thousands for every file in it would take longer than opening the file.
# The limit of decoded blocks that are kept (MiB) would grow with the machine's memory.
_READING = {
    "GDAL_CACHEMAX": 64,
    "GDAL_ERROR_ON_LIBJPEG_WARNING": True,
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO",
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",
}
LARGEST_PX = 1 << 24  # of a side: a whole row is held, and some bytes can claim 2^31 px
_warnings_lock = threading.Lock()


@dataclass(frozen=True)
class RasterInfo:
    """The header of an image file.

    Args:
        path: The file.
        size: (H, W) in pixels.
        bands: Data bands; an alpha band is not counted.
        dtype: Of the decoded array: "uint8", "uint16" or "float32". Sources of any other
            type (int8, int16, int32, uint32, float64, ...) decode to float32.
        palette: The colour map of a palette PNG or TIFF, 256 colours (r, g, b); else None.
        masked: There is a nodata value, an alpha or a mask band, or the pixels are floats
            that may be NaN: `read_valid` may return an array.
        block_rows: Rows that the file stores together; reading in multiples of it is fast.
    """

    path: Path
    size: tuple[int, int]
    bands: int
    dtype: str
    palette: Palette | None
    masked: bool
    block_rows: int = 1


def read_info(path: Path) -> RasterInfo:
    """Read the header of an image file.

    Raises:
        DataError: The file is missing, empty, a folder, not an image, or of complex numbers.
    """
    # GDAL reads on while it is asked, and tells the terminal where nobody else listens.
    with closing(open_raster(path)) as dataset, explained(path):
        alpha = _alpha_band(dataset)
        dtype = decoded_dtype(dataset)
        return RasterInfo(
            path=path,
            size=(dataset.height, dataset.width),
            bands=len(data_bands(dataset)),
            dtype=dtype,
            palette=_palette(dataset),
            masked=alpha is not None or dtype == "float32" or _has_mask(dataset) or _has_nodata(dataset),
            block_rows=dataset.block_shapes[0][0],
        )


def read_image(path: Path, window: Window | None = None) -> np.ndarray:  # [C, H, W]
    """Decode the data bands of an image file, or a window of them.

    Args:
        path: The file.
        window: (top, left, height, width) in px, inside the image; None is all of it.

    Returns:
        [C, H, W] of `RasterInfo.dtype`. Palette images give their indices.

    Raises:
        DataError: As `read_info`, or the pixels are truncated or damaged, or the window
            leaves the image.
    """
    with closing(open_raster(path)) as dataset:
        return read_pixels(dataset, _checked(dataset, window))


def read_valid(path: Path, window: Window | None = None) -> np.ndarray | None:  # [H, W] bool
    """Which pixels are real, from the alpha band, mask band, nodata value and NaN of a file.

    A pixel is not real where alpha or the mask band is 0. With a nodata value, float32 pixels
    (see `RasterInfo.dtype`) are real only if every band is; uint8 and uint16 pixels unless
    every band is nodata, because there 0 or 255 in one band is a colour like any other. Pixels
    with a NaN or an infinity are never real.

    Returns:
        [H, W] bool, or None when every pixel is real.

    Raises:
        DataError: As `read_image`.
    """
    with closing(open_raster(path)) as dataset:
        window = _checked(dataset, window)
        floats = read_pixels(dataset, window) if decoded_dtype(dataset) == "float32" else None
        return valid_pixels(dataset, window, floats)


def read_grid(path: Path) -> Grid | None:
    """Where the pixels of an image file lie, from its header; None if it does not say, or nonsense.

    Raises:
        DataError: As `read_info`.
    """
    with closing(open_raster(path)) as dataset, explained(path):
        matrix = np.array(dataset.transform[:9]).reshape(3, 3)
        if not dataset.crs or np.array_equal(matrix, np.eye(3)) or not abs(np.linalg.det(matrix)) > 0:
            return None
        return Grid((dataset.height, dataset.width), dataset.crs, matrix)


def read_displacement(image: Path, mask: Path) -> str | None:
    """As `Grid.displacement`; None as well where one of the files does not say where its pixels lie.

    Raises:
        DataError: As `read_info`.
    """
    truth = read_grid(mask)
    grid = None if truth is None else read_grid(image)
    return None if grid is None or truth is None else grid.displacement(truth)


def strips(info: RasterInfo, limit_bytes: int = 64 << 20) -> Iterator[Window]:
    """Full-width windows from top to bottom, each at most `limit_bytes` when decoded.

    Args:
        info: The image.
        limit_bytes: At least one row is in a strip, however small the limit. Where the limit
            allows, strips end at the file's block edges, so that no block is decoded twice.
    """
    height, width = info.size
    rows = max(1, limit_bytes // (width * info.bands * np.dtype(info.dtype).itemsize))
    if rows >= info.block_rows:
        rows -= rows % info.block_rows
    for top in range(0, height, rows):
        yield top, 0, min(rows, height - top), width


def read_strips(
    info: RasterInfo, limit_bytes: int = 64 << 20
) -> Iterator[tuple[Window, np.ndarray, np.ndarray | None]]:
    """Decode an image of any size in bounded memory, opening the file once.

    Yields:
        (window, image [C, h, W] of `info.dtype`, valid [h, W] bool or None), as `strips`,
        `read_image` and `read_valid` give them.

    Raises:
        DataError: As `read_image`.
    """
    with closing(open_raster(info.path)) as dataset:
        for window in strips(info, limit_bytes):
            image = read_pixels(dataset, window)
            yield window, image, valid_pixels(dataset, window, image) if info.masked else None


def picture_format(path: Path) -> tuple[str, tuple[int, ...]]:
    """The driver of GDAL that writes a picture of this name, and the counts of channels that it takes.

    Raises:
        DataError: No picture can have the name.
    """
    driver = DRIVERS.get(path.suffix.lower(), "")
    channels = {"JPEG": (1, 3), "PNG": (1, 3, 4)}.get(driver)
    if channels is None:
        raise DataError(f"cannot write {path}: pictures are .jpg, .jpeg or .png, not {path.suffix!r}")
    if path.is_dir():
        raise DataError(f"cannot write {path}: it is a folder; give a file")
    return driver, channels


def write_image(path: Path, array: np.ndarray, *, quality: int = 95) -> None:
    """Write a picture, whole or not at all.

    Args:
        path: Ends in .jpg, .jpeg or .png. Missing parent folders are made.
        array: [C, H, W] uint8; C is 1 or 3, or 4 (with alpha) for PNG.
        quality: Of JPEG, 1 to 100.

    Raises:
        DataError: The suffix or the array does not fit.
        S4AugTrainError: The file cannot be written.
    """
    driver, channels = picture_format(path)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[0] not in channels:
        raise DataError(
            f"cannot write {path}: a {driver} takes uint8 [C, H, W] with C in {channels}, "
            f"not {array.dtype} {list(array.shape)}"
        )
    profile: dict[str, Any] = {"driver": driver, "count": array.shape[0], "dtype": "uint8"}
    profile |= {"height": array.shape[1], "width": array.shape[2]}
    if driver == "JPEG":
        profile["QUALITY"] = quality
    ignore_warnings()
    with atomic_path(path) as temporary, rasterio.Env(GDAL_PAM_ENABLED="NO"):
        try:
            with rasterio.open(temporary, "w", **profile) as dataset:
                dataset.write(array)
        except UnicodeEncodeError as error:
            raise OSError("a name in it is not UTF-8") from error
        except (RasterioError, CPLE_BaseError) as error:
            raise OSError(" ".join(str(error.__cause__ or error).split())) from error


def open_raster(path: Path) -> DatasetReader:
    """Open an image file.

    Raises:
        DataError: As `read_info`.
    """
    _check_file(path)
    ignore_warnings()
    with explained(path):
        # Absolute: GDAL takes a name such as "GTIFF_DIR:1:x.tif" for something else than a file.
        dataset: DatasetReader = rasterio.open(path.absolute())
    known = dataset.driver in DRIVERS.values()
    if not known or dataset.count == 0 or "complex" in dataset.dtypes[0]:
        dataset.close()
        what = "holds no bands of real numbers" if known else f"is a {dataset.driver} file"
        raise UnreadableError(f"{path} {what}; convert it to JPEG, PNG or GeoTIFF, or remove it", str(path))
    if max(dataset.shape) > LARGEST_PX:
        dataset.close()
        what = f"is {dataset.height} x {dataset.width} px, and {LARGEST_PX:,} px a side are the most that is read"
        raise UnreadableError(f"{path} {what}; cut it into parts, or remove it", str(path))
    return dataset


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise UnreadableError(f"{path} is a folder where an image file was expected; check the path", str(path))
    if not path.exists():
        raise UnreadableError(f"{path} does not exist; check the path, or restore the file", str(path))
    if path.stat().st_size == 0:
        raise UnreadableError(f"{path} is empty (0 bytes); restore the file, or remove it", str(path))


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Run GDAL with our options (they are per thread) and turn its errors into ours."""
    try:
        with rasterio.Env(**_READING):
            yield
    except UnicodeEncodeError as error:
        raise UnreadableError(f"{str(path)!a} has a name that is not UTF-8; rename it", f"{str(path)!a}") from error
    except (RasterioError, CRSError, CPLE_BaseError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise UnreadableError(
            f"{path} cannot be read: it is damaged, or no JPEG, PNG, GeoTIFF or VRT ({reason}); "
            "restore the file, convert it, or remove it",
            str(path),
        ) from error


def ignore_warnings() -> None:
    """Silence rasterio's warnings of plain pictures, and of nodata beside alpha (`valid_pixels` reads both), for good.

    `warnings.catch_warnings` is not safe in threads: two that overlap restore each other's
    filters. A filter of our own is; it is put back where others (pytest) have covered it.
    """
    with _warnings_lock:
        general = [f for f in warnings.filters if f[1] is None and f[3] is None]  # of any text and module
        for category in (NotGeoreferencedWarning, NodataShadowWarning):
            if next((f[0] for f in general if issubclass(category, f[2])), None) != "ignore":
                warnings.filterwarnings("ignore", category=category)


def decoded_dtype(dataset: DatasetReader) -> str:
    """See `RasterInfo.dtype`."""
    kinds = set(dataset.dtypes)
    return kinds.pop() if len(kinds) == 1 and kinds <= {"uint8", "uint16"} else "float32"


def _alpha_band(dataset: DatasetReader) -> int | None:
    """The number of the band that is transparency (from 1), or None."""
    if ColorInterp.alpha not in dataset.colorinterp:
        return None
    band: int = dataset.colorinterp.index(ColorInterp.alpha) + 1
    if dataset.driver == "PNG":
        return band
    path = Path(dataset.name)
    stat = path.stat()
    return band if _is_transparency(path, band, stat.st_mtime_ns, stat.st_size) else None


@lru_cache(maxsize=65536)
def _is_transparency(path: Path, band: int, mtime_ns: int, file_size: int) -> bool:
    """Whether a TIFF's alpha band is one, judged by 256 x 256 px at the centre.

    GDAL marks the fourth band of every 8-bit TIFF as alpha unless told otherwise, so red, green,
    blue and near infrared look like RGBA in the header. Transparency is 0 or full nearly
    everywhere; a measured band is not.
    """
    with closing(open_raster(path)) as dataset:
        height, width = min(256, dataset.height), min(256, dataset.width)
        top, left = (dataset.height - height) // 2, (dataset.width - width) // 2
        with explained(path):
            sample = dataset.read(band, window=((top, top + height), (left, left + width)))
    # Of wider pixels, what made the file may have left the alpha at 8 bits.
    full = np.iinfo(sample.dtype).max if sample.dtype.kind in "iu" else 1
    return bool(np.isin(sample, (0, 255, full)).mean() >= 0.95)


def data_bands(dataset: DatasetReader) -> list[int]:
    """The numbers of the bands, from 1, that hold pixels and no transparency."""
    alpha = _alpha_band(dataset)
    return [band for band in dataset.indexes if band != alpha] or [1]


def _palette(dataset: DatasetReader) -> Palette | None:
    if dataset.colorinterp[0] != ColorInterp.palette or dataset.dtypes[0] != "uint8":
        return None
    colors = dataset.colormap(1)
    return tuple(tuple(colors.get(index, (0, 0, 0, 0))[:3]) for index in range(256))


def _has_mask(dataset: DatasetReader) -> bool:
    flags = dataset.mask_flag_enums[0]
    return MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags


def _has_nodata(dataset: DatasetReader) -> bool:
    return any(MaskFlags.nodata in flags for flags in dataset.mask_flag_enums)


def _checked(dataset: DatasetReader, window: Window | None) -> Window:
    if window is None:
        return 0, 0, dataset.height, dataset.width
    top, left, height, width = window
    inside = 0 <= top < top + height <= dataset.height and 0 <= left < left + width <= dataset.width
    if not inside:
        raise DataError(
            f"the window (top {top}, left {left}, height {height}, width {width}) leaves {dataset.name}, "
            f"which is {dataset.height} x {dataset.width} px; choose one inside"
        )
    return window


def _slices(window: Window) -> tuple[tuple[int, int], tuple[int, int]]:
    top, left, height, width = window
    return (top, top + height), (left, left + width)


def read_pixels(dataset: DatasetReader, window: Window, bands: Sequence[int] | None = None) -> np.ndarray:
    """A window [C, H, W] of an open file, as `read_image` gives it; of some bands, numbered from 1, or of all."""
    bands = bands or data_bands(dataset)
    with explained(Path(dataset.name)):
        image: np.ndarray = dataset.read(list(bands), window=_slices(window), out_dtype=decoded_dtype(dataset))
    return image


def valid_pixels(
    dataset: DatasetReader,
    window: Window,
    image: np.ndarray | None,  # [C, H, W], needed if float32
    bands: Sequence[int] | None = None,
) -> np.ndarray | None:  # [H, W] bool
    """Which pixels of a window of an open file are real, as `read_valid` says; by some bands or by all."""
    alpha, dtype, where = _alpha_band(dataset), decoded_dtype(dataset), _slices(window)
    # A band that is read as pixels is no transparency, whatever the file calls it.
    alpha = None if alpha in (bands or ()) else alpha
    valid = np.ones(window[2:], dtype=bool)
    with explained(Path(dataset.name)):
        if alpha is not None:
            valid &= dataset.read(alpha, window=where) > 0
        if _has_mask(dataset):
            valid &= dataset.read_masks(1, window=where) > 0
        if _has_nodata(dataset):
            real = dataset.read_masks(list(bands or data_bands(dataset)), window=where) > 0  # [C, H, W]
            valid &= real.all(axis=0) if dtype == "float32" else real.any(axis=0)
    if dtype == "float32" and image is not None:
        valid &= np.isfinite(image).all(axis=0)
    return None if valid.all() else valid
