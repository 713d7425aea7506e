"""Folders: from the root of a data set to its tiles."""

import glob
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from .folder import check_folder
from .matching import Key, Matching, match_names, match_patterns
from .palette import DEEPGLOBE, ClassTable
from .raster import DRIVERS

IMAGE_FOLDERS = frozenset(["images", "image", "imgs", "img", "sat"])
MASK_FOLDERS = frozenset(["masks", "mask", "labels", "label", "gt", "annotations"])
UNDERSTOOD = (
    "understood are DeepGlobe (train/ID_sat.jpg + ID_mask.png, {training_data,test_data}/{images,masks} or "
    "Sat + Label) and a folder called images, image, imgs, img or sat beside one called masks, mask, labels, "
    "label, gt or annotations; for any other give --image-pattern and --mask-pattern, for example "
    "'scenes/{id}_rgb.tif' and 'truth/{id}.png'"
)


@dataclass(frozen=True)
class TileFile:
    """An image file and its mask; `id` is unique in a listing and the same on every machine."""

    id: str
    image: Path
    mask: Path | None


@dataclass(frozen=True)
class Listing:
    """The tiles of a folder.

    Args:
        root: The folder.
        layout: How it is laid out, for people.
        tiles: Sorted by id. Pairs have a mask; images without one are unlabelled.
        class_file: class_dict.csv at the root or in train/, if there is one.
        deepglobe: It is DeepGlobe land cover, whose classes are known.
        orphan_masks: Masks without an image.
        notes: How names were matched, where that was not obvious.

    Raises:
        DataError: Two tiles have the same id.
    """

    root: Path
    layout: str
    tiles: tuple[TileFile, ...]
    class_file: Path | None = None
    deepglobe: bool = False
    orphan_masks: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_unique(self.tiles)

    @property
    def labelled(self) -> tuple[TileFile, ...]:
        """The tiles with a mask."""
        return tuple(tile for tile in self.tiles if tile.mask is not None)

    @property
    def unlabelled(self) -> tuple[TileFile, ...]:
        """The tiles without a mask."""
        return tuple(tile for tile in self.tiles if tile.mask is None)


@dataclass(frozen=True)
class _Found:
    """What one way of reading the folder gives."""

    layout: str
    tiles: tuple[TileFile, ...]
    orphans: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    deepglobe: bool = False


def find_tiles(root: Path, *, image_pattern: str | None = None, mask_pattern: str | None = None) -> Listing:
    """Find the pairs of image and mask below a folder, and its images without masks.

    Args:
        root: The folder of the data set; for DeepGlobe also its `train` folder.
        image_pattern: Path below `root` with named fields, such as `images/{a}_patchN_{b}.tif`.
            The id of a tile is its fields, joined by "_".
        mask_pattern: The same for masks, with the same fields.

    Raises:
        DataError: No such folder, no images, no pairs, an id twice, or a pattern that is wrong.
    """
    files = _image_files(root)
    if image_pattern is not None or mask_pattern is not None:
        found = _by_patterns(root, files, image_pattern, mask_pattern)
    else:
        found = _official(root, files) or _by_folders(root, files)
    if not any(tile.mask for tile in found.tiles):
        raise DataError(f"no pair of image and mask in {root} (found {_summary(root, files)}); {UNDERSTOOD}")
    tables = [root / "class_dict.csv", root / "train" / "class_dict.csv"]
    return Listing(
        root=root,
        layout=found.layout,
        tiles=tuple(sorted(found.tiles, key=lambda tile: tile.id)),
        class_file=next((path for path in tables if path.is_file()), None),
        deepglobe=found.deepglobe,
        orphan_masks=found.orphans,
        notes=found.notes,
    )


def find_unlabeled(source: str, is_other: Callable[[Path], bool] = lambda path: False) -> tuple[TileFile, ...]:
    """Find images without regard to masks, sorted by id (the path without its suffix).

    Args:
        source: A folder, searched with all folders in it, or a glob such as `scenes/**/*.tif`.
            Files that are the masks of a layout `find_tiles` knows are left out of a folder.
        is_other: Whether a file is left out too.

    Raises:
        DataError: Nothing there, or two images whose names differ in the suffix alone.
    """
    folder = Path(source)
    if folder.exists():
        files = _image_files(folder)
        masks = _masks(folder, files)
        files = [path for path in files if path not in masks]
    else:
        folder, pattern = _before_magic(Path(source))
        matches = (folder / match for match in glob.glob(pattern, root_dir=folder, recursive=True))
        files = sorted(path for path in matches if path.is_file() and _is_image(path.name))
    files = [path for path in files if not is_other(path)]
    if not files:
        raise DataError(f"no images ({', '.join(sorted(DRIVERS))}) at {source}; give a folder, or a glob in quotes")
    tiles = tuple(TileFile(_id(folder, path), path, None) for path in files)
    _check_unique(tiles)
    return tuple(sorted(tiles, key=lambda tile: tile.id))


def choose_classes(listing: Listing, file: Path | None = None) -> ClassTable | None:
    """The class table of a data set: `file` if given, else its class_dict.csv, else DeepGlobe's or none."""
    if path := file or listing.class_file:
        return ClassTable.read(path)
    return DEEPGLOBE if listing.deepglobe else None


def _is_image(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in DRIVERS


def _image_files(root: Path) -> list[Path]:
    """All image files below `root`, sorted; links are followed, each folder once."""
    check_folder(root)
    files: list[Path] = []
    visited: set[str] = set()
    for folder, subfolders, names in os.walk(root, onerror=_raise, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:
            subfolders.clear()
            continue
        visited.add(real)
        subfolders[:] = [name for name in subfolders if not name.startswith((".", "__"))]
        files += [Path(folder, name) for name in names if _is_image(name)]
    if not files:
        raise DataError(f"no images ({', '.join(sorted(DRIVERS))}) in {root}; check the path")
    return sorted(files)


def _raise(error: OSError) -> None:
    raise DataError(f"cannot read the folder {error.filename}: {error.strerror}; change its permissions") from error


def _id(root: Path, path: Path) -> str:
    return path.relative_to(root).with_suffix("").as_posix()


def _check_unique(tiles: Iterable[TileFile]) -> None:
    images: dict[str, Path] = {}
    for tile in tiles:
        if other := images.get(tile.id):
            raise DataError(f"{other} and {tile.image} are both the tile {tile.id!r}; rename or remove one of them")
        images[tile.id] = tile.image


def _summary(root: Path, files: Sequence[Path]) -> str:
    folders = Counter(path.parent.relative_to(root).as_posix() for path in files)
    parts = [f"{count} in {'the folder itself' if name == '.' else name}" for name, count in folders.most_common(4)]
    more = f" and {len(folders) - 4} more folders" if len(folders) > 4 else ""
    return f"{len(files)} images: {', '.join(parts)}{more}"


def _before_magic(source: Path) -> tuple[Path, str]:
    """The leading folders of a glob, and the rest: a folder of that very name is meant, also if it holds wildcards."""
    folder, parts = Path(), list(source.parts)
    while len(parts) > 1 and (folder / parts[0]).is_dir():
        folder /= parts.pop(0)
    return folder, str(Path(*parts))


def _official(root: Path, files: Sequence[Path]) -> _Found | None:
    images, masks = _official_files(root, files)
    if not set(images) & set(masks):
        return None
    tiles = tuple(
        TileFile(_official_id(folder.relative_to(root), number), path, masks.get((folder, number)))
        for (folder, number), path in images.items()
    )
    orphans = tuple(path for key, path in masks.items() if key not in images)
    return _Found("DeepGlobe, official (train/ID_sat.jpg + train/ID_mask.png)", tiles, orphans, deepglobe=True)


def _official_files(
    root: Path, files: Sequence[Path]
) -> tuple[dict[tuple[Path, str], Path], dict[tuple[Path, str], Path]]:
    """Images and masks that share a folder, by (folder, number)."""
    found: tuple[dict[tuple[Path, str], Path], dict[tuple[Path, str], Path]] = ({}, {})
    for path in files:
        match = re.fullmatch(r"(\d+)_(sat|mask)", path.stem)
        if match is None or any(_names(path.relative_to(root).parent.name)):
            continue
        target, key = found[match[2] == "mask"], (path.parent, match[1])
        if key in target:
            raise DataError(f"{target[key]} and {path} differ in the suffix alone; rename or remove one of them")
        target[key] = path
    return found


def _official_id(folder: Path, number: str) -> str:
    """The number alone for training tiles, else with its folder: the sets number their tiles apart."""
    name = folder.as_posix().removeprefix("data/")
    return number if name in (".", "data", "train", "training_data") else f"{name}/{number}"


@dataclass(frozen=True)
class _Pair:
    """A folder of images beside a folder of masks, either of them perhaps empty."""

    parent: Path
    images: dict[Key, Path]
    masks: dict[Key, Path]


def _names(folder: str) -> tuple[bool, bool]:
    return folder.lower() in IMAGE_FOLDERS, folder.lower() in MASK_FOLDERS


def _pairs(root: Path, files: Sequence[Path]) -> list[_Pair]:
    groups: dict[Path, tuple[dict[Key, Path], dict[Key, Path]]] = defaultdict(lambda: ({}, {}))
    owners: dict[tuple[Path, bool], str] = {}
    for path in files:
        parts = path.relative_to(root).parts
        depth = next((d for d in range(len(parts) - 2, -1, -1) if any(_names(parts[d]))), None)
        if depth is None:
            continue
        parent, is_mask = root.joinpath(*parts[:depth]), _names(parts[depth])[1]
        owner = owners.setdefault((parent, is_mask), parts[depth])
        if owner != parts[depth]:
            raise DataError(
                f"{parent} holds both {owner} and {parts[depth]}; say which to use with "
                "--image-pattern and --mask-pattern"
            )
        key = ("/".join(parts[depth + 1 : -1]), path.stem)
        target = groups[parent][is_mask]
        if key in target:
            raise DataError(f"{target[key]} and {path} differ in the suffix alone; rename or remove one of them")
        target[key] = path
    return [_Pair(parent, images, masks) for parent, (images, masks) in groups.items()]


def _by_folders(root: Path, files: Sequence[Path]) -> _Found:
    pairs = _pairs(root, files)
    deepglobe = _is_deepglobe(pairs)
    tiles: list[TileFile] = []
    orphans: list[Path] = []
    notes: dict[str, None] = {}
    for pair in pairs:
        matching = match_names(pair.images, pair.masks, pair.parent)
        tiles += _tiles(root, pair, matching, deepglobe)
        used = set(matching.keys.values())
        orphans += [path for key, path in pair.masks.items() if key not in used]
        notes |= dict.fromkeys(matching.notes)
    return _Found(_describe(pairs, root, deepglobe), tuple(tiles), tuple(orphans), tuple(notes), deepglobe)


def _tiles(root: Path, pair: _Pair, matching: Matching, deepglobe: bool) -> Iterator[TileFile]:
    for (folder, stem), image in pair.images.items():
        below = pair.parent.relative_to(root) / folder
        mask = matching.keys.get((folder, stem))
        if deepglobe:
            tile_id = _official_id(below, stem.removesuffix("_sat"))
        else:
            tile_id = (below / matching.short(stem)).as_posix()
        yield TileFile(tile_id, image, mask and pair.masks[mask])


def _is_deepglobe(pairs: Sequence[_Pair]) -> bool:
    """Numbered 8-bit pictures in the folders, or with the names, of DeepGlobe's copies."""
    images = [path for pair in pairs for path in pair.images.values()]
    masks = [path for pair in pairs for path in pair.masks.values()]
    numbered = all(re.fullmatch(r"\d+(_sat)?", path.stem) for path in images)
    numbered &= all(re.fullmatch(r"\d+(_mask)?", path.stem) for path in masks)
    pictures = all(path.suffix.lower() == ".png" for path in masks)
    pictures &= all(path.suffix.lower() in (".jpg", ".jpeg", ".png") for path in images)
    folders = {pair.parent.name for pair in pairs} <= {"training_data", "test_data"}
    folders |= all(path.stem.endswith("_sat") for path in images)
    folders |= all(path.parent.name == "Sat" for path in images)
    return bool(images and masks) and numbered and pictures and folders


def _describe(pairs: Sequence[_Pair], root: Path, deepglobe: bool) -> str:
    both = [pair for pair in pairs if pair.images and pair.masks]
    if not both:
        return "unknown"
    first = both[0]
    names = [_folder(first, root, files) for files in (first.images, first.masks)]
    more = f" and {len(both) - 1} more such pairs of folders" if len(both) > 1 else ""
    return f"{'DeepGlobe, ' if deepglobe else ''}{names[0]} + {names[1]}{more}"


def _folder(pair: _Pair, root: Path, files: dict[Key, Path]) -> str:
    depth = len(pair.parent.relative_to(root).parts)
    parts = next(iter(files.values())).relative_to(root).parts
    return "/".join(parts[: depth + 1])


def _by_patterns(root: Path, files: Sequence[Path], image_pattern: str | None, mask_pattern: str | None) -> _Found:
    images, masks = match_patterns(root, files, image_pattern, mask_pattern)
    tiles = tuple(TileFile("_".join(key), image, masks.get(key)) for key, image in images.items())
    orphans = tuple(path for key, path in masks.items() if key not in images)
    return _Found(f"by pattern ({image_pattern} + {mask_pattern})", tiles, orphans)


def _masks(root: Path, files: Sequence[Path]) -> set[Path]:
    """The files that are masks in a layout known here."""
    images, masks = _official_files(root, files)
    found = {path for key, path in masks.items() if key in images}
    for pair in _pairs(root, files):
        found |= set(pair.masks.values()) if pair.images else set()
    return found
