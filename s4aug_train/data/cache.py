"""Decoded tiles on disk: each file is decoded once, then read by memory map, by several runs at once."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import DataError, S4AugTrainError, UnreadableError
from ..files import parse_json, write_json
from .layouts import TileFile
from .origins import fingerprint
from .palette import IGNORE, ClassTable
from .raster import RasterInfo, read_info, read_strips

# Part of every key: a change of what an entry holds makes new entries.
VERSION = 2
DRAFT_LIFE_S = 24 * 3600
ROWS = 1024  # that are counted at a time
SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # the machine's lack, not the file's

OnUnreadable = Callable[[str, str], None]  # name, why


@dataclass(frozen=True)
class ArrayFile:
    """A part of a .npy file, from the top left; what is indexed is read through a memory map.

    Tiles hold these instead of maps: every map keeps a file open, of which a process may have 1024 or fewer, and a
    data set has thousands.

    Args:
        path: The file.
        shape: [..., H, W] of the part.
        dtype: Of the file.
        tile: Id of its tile, for errors.
        source: The file that it was decoded from, for errors.

    Raises:
        UnreadableError: When it is indexed: the file is gone, damaged or cut short.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    tile: str = ""
    source: Path | None = None

    def __getitem__(self, index: Any) -> np.ndarray:
        height, width = self.shape[-2:]
        part: np.ndarray = _whole(self.path, self.tile, self.source)[..., :height, :width][index]
        return part

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self[...], dtype=dtype)


@dataclass(frozen=True, eq=False)
class Tile:
    """A decoded tile; its arrays are read-only. Tiles held on a device have tensors instead.

    Args:
        id: As in `TileFile`.
        image: [C, H, W] of uint8, uint16 or float32.
        labels: [H, W] uint8, class index or 255; None without a mask.
        valid: [H, W] bool; None when every pixel is real.
        class_pixels: Pixels of each class, where the image has a real one.
        band_sums: [3, C] float64: real pixels, their sum, the sum of their squares.
    """

    id: str
    image: np.ndarray | ArrayFile | Tensor
    labels: np.ndarray | ArrayFile | Tensor | None
    valid: np.ndarray | ArrayFile | Tensor | None
    class_pixels: tuple[int, ...]
    band_sums: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in px."""
        return self.image.shape[1], self.image.shape[2]


def cache_folder() -> Path:
    """Where decoded tiles and the demo are kept: `S4AUG_CACHE`, else `~/.cache/s4aug`.

    Raises:
        S4AugTrainError: Neither is there.
    """
    chosen = os.environ.get("S4AUG_CACHE")
    try:
        return Path(chosen) if chosen else Path.home() / ".cache" / "s4aug"
    except RuntimeError as error:
        raise S4AugTrainError("you have no home folder for the cache; set S4AUG_CACHE to a folder for it") from error


def load_tiles(
    files: list[TileFile],
    classes: ClassTable,
    *,
    mismatch: str = "error",
    on_unreadable: OnUnreadable | None = None,
    workers: int = 2,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Tile]:
    """Tiles of image files, decoded where the cache does not hold them yet.

    Args:
        files: Images and masks.
        classes: How masks are read.
        mismatch: What to do where image and mask differ in size: "error", "crop" (to the rows and columns that
            both have, from the top left) or "skip" (left out).
        on_unreadable: Told of each file that cannot be decoded, whose tile is left out; None: it is an error.
        workers: Threads that decode.
        on_progress: Called with (done, all).

    Raises:
        DataError: A file cannot be decoded, or sizes differ under "error".
        S4AugTrainError: The cache folder cannot be written.
    """
    folder = cache_folder() / f"tiles-v{VERSION}"
    _sweep(folder)
    tiles = []
    with ThreadPoolExecutor(max(1, workers)) as pool:
        pending = [pool.submit(_load_tile, folder, file, classes, mismatch) for file in files]
        try:
            for done, future in enumerate(pending, 1):
                tile = _tile_of(future, on_unreadable)
                if tile is not None:
                    tiles.append(tile)
                if on_progress:
                    on_progress(done, len(files))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return tiles


def _tile_of(future: "Future[Tile | None]", on_unreadable: OnUnreadable | None) -> Tile | None:
    try:
        return future.result()
    except UnreadableError as error:
        if on_unreadable is None:
            raise
        on_unreadable(error.name, error.why)
        return None


def _sweep(folder: Path) -> None:
    """Remove what killed decodings left; only drafts of yesterday, for another run may be at work."""
    for draft in folder.glob("*/.draft-*"):
        with contextlib.suppress(OSError):
            if time.time() - draft.stat().st_mtime > DRAFT_LIFE_S:
                shutil.rmtree(draft, ignore_errors=True)


def _load_tile(folder: Path, file: TileFile, classes: ClassTable, mismatch: str) -> Tile | None:
    image = _entry(folder, file.id, file.image, "image", _decode_image)
    if file.mask is None:
        return _tile(file, image, None)
    kind = f"labels:{classes.key}"
    mask = _entry(folder, file.id, file.mask, kind, lambda info, to: _decode_labels(info, to, classes))
    sizes = image["size"], mask["size"]
    if sizes[0] != sizes[1]:
        if mismatch == "skip":
            return None
        if mismatch == "error":
            raise DataError(
                f"{file.mask} is {sizes[1][0]} x {sizes[1][1]} px, its image {file.image} is {sizes[0][0]} x "
                f"{sizes[0][1]} px; repair them, or use --mismatch crop or --mismatch skip"
            )
    return _tile(file, image, mask)


def _tile(file: TileFile, image: Mapping[str, Any], mask: Mapping[str, Any] | None) -> Tile:
    size = np.min([image["size"], mask["size"]], axis=0).tolist() if mask else image["size"]
    labels = _array_file(mask["folder"] / "pixels.npy", size, file.id, file.mask) if mask else None
    valid = _array_file(image["folder"] / "valid.npy", size, file.id, file.image) if image["masked"] else None
    pixels = tuple(mask["class_pixels"]) if mask else ()
    if labels is not None and mask and (valid is not None or size != list(mask["size"])):
        # Beside the labels, for the image that they are held against here.
        counts = mask["folder"] / f"pixels-{image['folder'].name}.json"
        pixels = _known(counts, len(pixels)) or _counted(labels, valid, len(pixels))
        with contextlib.suppress(S4AugTrainError):  # a cache that cannot be written to
            if not counts.exists():
                write_json(counts, pixels)
    return Tile(
        file.id,
        _array_file(image["folder"] / "pixels.npy", size, file.id, file.image),
        labels,
        valid,
        pixels,
        np.array(image["band_sums"]),
    )


def _known(path: Path, classes: int) -> tuple[int, ...]:
    """Counts that were written down; none if there are none."""
    try:
        counts = parse_json(path.read_text())
    except (OSError, ValueError):
        return ()
    whole = isinstance(counts, list) and len(counts) == classes and all(type(count) is int for count in counts)
    return tuple(counts) if whole else ()


def _counted(labels: ArrayFile, valid: ArrayFile | None, classes: int) -> tuple[int, ...]:
    """Pixels of each class where the image has a real one."""
    counts = np.zeros(256, np.int64)
    for top in range(0, labels.shape[0], ROWS):
        rows = slice(top, top + ROWS)
        part = labels[rows] if valid is None else labels[rows][valid[rows]]
        counts += np.bincount(part.ravel(), minlength=256)
    return tuple(counts[:classes].tolist())


def _array_file(path: Path, size: Sequence[int], tile: str, source: Path | None) -> ArrayFile:
    whole = _whole(path, tile, source)
    return ArrayFile(path, (*whole.shape[:-2], *size), whole.dtype, tile, source)


def _whole(path: Path, tile: str, source: Path | None) -> np.ndarray:
    try:
        stat = os.stat(path)
        whole = _mapped(path, stat.st_ino)
        needed = whole.offset + whole.nbytes
        # To read a map beyond the end of its file would end the process, with no error to handle.
        if stat.st_size < needed:
            raise ValueError(f"{stat.st_size} of {needed} bytes are left")
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path.parent, error, tile, source) from error
    return whole


@lru_cache(maxsize=64)
def _mapped(path: Path, inode: int) -> np.memmap[Any, Any]:
    """A map of a file; another file that took its place is another one, by its inode."""
    whole: np.memmap[Any, Any] = np.load(path, mmap_mode="r")
    return whole


def _damaged(home: Path, error: Exception, tile: str, source: Path | None) -> S4AugTrainError:
    """What to tell of an entry that cannot be read."""
    if isinstance(error, OSError) and error.errno in SCARCE:
        return S4AugTrainError(f"cannot map {home}: {error.strerror}; raise the limit, or end other programs")
    if not home.exists():
        why = f"the cache entry {home} of {source} is gone; start again to have the file decoded again"
        return UnreadableError(f"tile {tile}: {why}", tile)
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    why = f"the cache entry {home} of {source} is damaged ({reason}); delete it to have the file decoded again"
    return UnreadableError(f"tile {tile}: {why}", tile)


def _entry(
    folder: Path, tile: str, path: Path, kind: str, decode: Callable[[RasterInfo, Path], dict[str, Any]]
) -> dict[str, Any]:
    """The cache entry of a file, made if it is not there: a folder that appears whole, by a rename."""
    try:
        identity = f"{kind}:{fingerprint(path)}"
    except OSError as error:
        why = f"{path} cannot be read: {error.strerror}; restore the file, or remove its pair"
        raise UnreadableError(why, str(path)) from error
    key = hashlib.sha256(identity.encode(errors="surrogateescape")).hexdigest()[:32]
    home = folder / key[:2] / key
    if not (home / "entry.json").exists():
        with _appearing(home) as draft:
            content = decode(read_info(path), draft)
            (draft / "entry.json").write_text(json.dumps({"source": str(path), **content}))
    try:
        entry = parse_json((home / "entry.json").read_text())
        return {"size": entry["size"], **entry, "folder": home}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(home, error, tile, path) from error


@contextmanager
def _appearing(home: Path) -> Iterator[Path]:
    """A draft folder that becomes `home`; if another run was first, its entry stays."""
    draft = None
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        draft = home.parent / f".draft-{os.getpid()}-{os.urandom(4).hex()}"
        draft.mkdir()
        yield draft
        for file in draft.iterdir():
            with file.open("rb") as content:
                os.fsync(content.fileno())
        if not (home / "entry.json").exists():
            _put(draft, home)
    except OSError as error:
        if (home / "entry.json").exists():
            return
        raise S4AugTrainError(
            f"cannot write the cache in {home.parent.parent}: {error.strerror or error}; free some space, or "
            f"point S4AUG_CACHE to another folder"
        ) from error
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)


def _put(draft: Path, home: Path) -> None:
    """Give a whole draft its name, which a folder may have that somebody removed a part of."""
    try:
        draft.rename(home)
    except OSError:
        if (home / "entry.json").exists() or not home.exists():
            raise
        aside = home.rename(home.parent / f".draft-{os.getpid()}-{os.urandom(4).hex()}")
        draft.rename(home)
        shutil.rmtree(aside, ignore_errors=True)


def check_pixels(info: RasterInfo) -> None:
    """Hold an image to having pixels that can be learned from.

    Raises:
        UnreadableError: It has numbers of colours, which each file gives as it likes.
    """
    if info.palette is not None:
        why = f"{info.path} holds numbers of a palette: convert it to RGB (gdal_translate -expand rgb)"
        raise UnreadableError(why, str(info.path))


def _decode_image(info: RasterInfo, draft: Path) -> dict[str, Any]:
    check_pixels(info)
    sums = np.zeros((3, info.bands))
    masked = False
    with (
        _ArrayWriter(draft / "pixels.npy", (info.bands, *info.size), info.dtype) as pixels,
        _ArrayWriter(draft / "valid.npy", info.size, "bool") as valid,
    ):
        for (top, _, rows, width), strip, real in read_strips(info):
            pixels.write_rows(top, strip)
            valid.write_rows(top, np.ones((rows, width), bool) if real is None else real)
            masked = masked or real is not None
            counted = strip.reshape(info.bands, -1) if real is None else strip[:, real]
            # Not (counted.astype(float64) ** 2).sum(1), which takes 16 times the memory of the strip.
            squares = np.einsum("bp,bp->b", counted, counted, dtype=np.float64)
            sums += [np.full(info.bands, counted.shape[1]), counted.sum(1, dtype=np.float64), squares]
    if not masked:
        (draft / "valid.npy").unlink()
    return {"size": info.size, "masked": masked, "band_sums": sums.tolist()}


def _decode_labels(info: RasterInfo, draft: Path, classes: ClassTable) -> dict[str, Any]:
    counts = np.zeros(256, dtype=np.int64)
    with _ArrayWriter(draft / "pixels.npy", info.size, "uint8") as labels:
        for (top, _, _, _), strip, real in read_strips(info):
            decoded, _ = classes.decode(strip, info.palette, where=str(info.path))
            if real is not None:
                decoded = np.where(real, decoded, np.uint8(IGNORE))
            labels.write_rows(top, decoded)
            counts += np.bincount(decoded.ravel(), minlength=256)
    return {"size": info.size, "class_pixels": counts[: len(classes.names)].tolist()}


class _ArrayWriter:
    """A .npy file written by rows. Not a memory map: there a full disk ends the process, here it is an error."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: str) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.file = path.open("wb")
        header = {
            "descr": self.dtype.str,
            "fortran_order": False,
            "shape": tuple(int(side) for side in shape),
        }
        np.lib.format.write_array_header_1_0(self.file, header)
        self.start = self.file.tell()

    def __enter__(self) -> "_ArrayWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write_rows(self, top: int, rows: np.ndarray) -> None:  # [C, h, W] or [h, W]
        """Write the rows that begin at `top`, in every band."""
        height, width = self.shape[-2:]
        bands = rows.reshape(-1, *rows.shape[-2:])
        for i, band in enumerate(bands):
            self.file.seek(self.start + (i * height + top) * width * self.dtype.itemsize)
            self.file.write(np.ascontiguousarray(band, self.dtype).data)
