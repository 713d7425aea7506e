"""From a folder to decoded tiles, classes, split and normalisation: all that training and evaluation read."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from ..config import DataConfig
from ..errors import DataError, S4AugTrainError, UnreadableError
from ..files import real_path, shell_path
from .cache import OnUnreadable, Tile, cache_folder, load_tiles
from .layouts import Listing, TileFile, choose_classes, find_tiles, find_unlabeled
from .normalization import Normalization, choose_normalization
from .palette import ClassEntry, ClassTable, check_several
from .pool import check_alike
from .raster import read_displacement
from .readable import first_readable
from .split import Groups, Split, check_counts, draw_split, held_out_by_groups, read_groups, validation_count
from .synthetic import write_demo

Progress = Callable[[str, int, int], None]  # what, done, all
FURTHER = "unlabeled:"  # begins the ids of the images of --unlabeled
# For tiles whose masks are not looked at.
NO_CLASSES = ClassTable((ClassEntry("any", value=0, ignored=False),))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Decoded tiles by their use.

    Args:
        classes: Names, colours and how masks are read.
        split: Which tile is what.
        labeled: Tiles trained with their masks.
        unlabeled: Tiles trained without; where a mask exists, only the method `full` sees it.
        val: Held-out tiles.
        normalization: Measured on the training tiles, or ImageNet's.
        own: Tiles are read from datasets of the user's whenever they are asked for.
        skip: Tiles that turn unreadable are left out; else they are errors.
        left_out: Why each file or tile that was left out already could not be read, by name.
    """

    classes: ClassTable
    split: Split
    labeled: Sequence[Tile]
    unlabeled: Sequence[Tile]
    val: Sequence[Tile]
    normalization: Normalization
    own: bool = False
    skip: bool = False
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def bands(self) -> int:
        """Bands of the images."""
        return self._kind[0]

    @property
    def dtype(self) -> str:
        """Pixel type of the images."""
        return self._kind[1]

    @cached_property
    def _kind(self) -> tuple[int, str]:
        """Asked for once, for a tile may turn unreadable later."""
        image = first_readable(self.labeled, (lambda name, why: None) if self.skip else None).image
        return int(image.shape[0]), str(image.dtype)


def list_tiles(config: DataConfig, on_progress: Progress | None = None) -> Listing:
    """The tiles of a folder; `demo` makes the demo set in the cache first."""
    if config.path != "demo":
        return find_tiles(Path(config.path), image_pattern=config.image_pattern, mask_pattern=config.mask_pattern)
    progress = None if on_progress is None else lambda done, all_: on_progress("making the demo set", done, all_)
    demo = cache_folder() / "demo"
    try:
        write_demo(demo, on_progress=progress)
    except S4AugTrainError as error:
        raise S4AugTrainError(f"{error}, with S4AUG_CACHE") from error
    return find_tiles(demo)


def class_table(listing: Listing, config: DataConfig) -> ClassTable:
    """The class table given, that of the folder, or DeepGlobe's.

    Raises:
        DataError: There is none.
    """
    classes = choose_classes(listing, Path(config.classes) if config.classes else None)
    if classes is None:
        raise DataError(
            f"{listing.root} has no class table: give one with --classes FILE (CSV: name,r,g,b or name,value); "
            f"s4aug-train doctor --data {shell_path(listing.root)} --write-classes FILE proposes one from the masks"
        )
    check_several(classes)
    return classes


def with_further(listing: Listing, config: DataConfig) -> Listing:
    """A listing with the images of --unlabeled too.

    Raises:
        DataError: There are none.
    """
    return replace(listing, tiles=(*listing.tiles, *_external(config, listing)))


class Division(NamedTuple):
    """Pairs by their use, as far as it is known before anything is decoded.

    Args:
        training: How many can be trained on.
        validation: How many are held out.
        groups: The spatial groups that are held out, where groups decide.
    """

    training: int
    validation: int
    groups: tuple[str, ...] = ()


def division_of(listing: Listing, groups: Groups | None, config: DataConfig) -> Division:
    """What is held out, by groups or by number."""
    pairs = [tile.id for tile in listing.labelled]
    if groups is None:
        count = validation_count(len(pairs), config.val)
        return Division(len(pairs) - count, count)
    held_out = held_out_by_groups(pairs, config.val, config.split_seed, groups)[0]
    return Division(len(pairs) - len(held_out), len(held_out), groups.names(held_out))


def load_dataset(config: DataConfig, seed: int, *, workers: int, on_progress: Progress | None = None) -> Dataset:
    """List, check, decode (once, into the cache) and divide the tiles.

    Args:
        config: The group `data` of the settings.
        seed: Of the labelled set.
        workers: Threads that decode.
        on_progress: Called with what is being done, how many are done, and of how many.

    Raises:
        DataError: As the parts do; counts that cannot be met are told before anything is decoded.
    """
    listing = list_tiles(config, on_progress)
    classes = class_table(listing, config)
    groups = read_groups(listing.root)
    split = Split.read(Path(config.split)) if config.split else None
    extra = _external(config, listing)
    files = [*(listing.tiles if config.unpaired else listing.labelled), *extra]
    if split is None:
        check_counts(config.labeled, division_of(listing, groups, config).training)
    else:
        where = Path(config.split or "")
        files = _named(files, split, where)
        if extra and not {tile.id for tile in extra} & {*split.unlabeled}:
            raise DataError(
                f"{where} names no image of --unlabeled {config.unlabeled}, such as {extra[0].id}; make the split with "
                f"the same --unlabeled, or leave it out"
            )
        if groups is not None:
            groups.check(split, where)
    left_out: dict[str, str] = {}
    skip = config.unreadable == "skip"
    tiles = _decoded(files, classes, config, left_out.__setitem__ if skip else None, workers, on_progress)
    if split is None:
        split = draw_split(
            {tile.id: tile.class_pixels for tile in tiles.values() if tile.labels is not None},
            [tile.id for tile in tiles.values() if tile.labels is None],
            labeled=config.labeled,
            val=config.val,
            seed=seed,
            split_seed=config.split_seed,
            groups=groups,
        )
    return replace(_divided(tiles, split, classes, config.include_labeled), skip=skip, left_out=left_out)


def load_validation(
    listing: Listing,
    config: DataConfig,
    classes: ClassTable,
    ids: Sequence[str],
    *,
    on_unreadable: OnUnreadable | None = None,
    workers: int,
    on_progress: Progress | None = None,
) -> list[Tile]:
    """The tiles of some ids, decoded; `on_unreadable` is as in `load_tiles`.

    Raises:
        DataError: An id is not in the folder, or has no mask, or one that lies elsewhere than its image.
    """
    files = {tile.id: tile for tile in listing.labelled}
    missing = [tile for tile in ids if tile not in files]
    if missing:
        raise DataError(
            f"{config.path} lacks {len(missing)} of {len(ids)} tiles to evaluate (or their masks), for example "
            f"{missing[0]}; give the folder that the split was made for, or another --split"
        )
    chosen = [files[tile] for tile in ids if _in_place(files[tile], config.mismatch)]
    tiles = list(_decoded(chosen, classes, config, on_unreadable, workers, on_progress).values())
    if not tiles:
        raise DataError(f"no tile to evaluate is left in {config.path}; repair files, change the split or --mismatch")
    return tiles


def load_unlabelled(
    listing: Listing,
    config: DataConfig,
    ids: Sequence[str],
    *,
    on_unreadable: OnUnreadable | None = None,
    workers: int,
    on_progress: Progress | None = None,
) -> list[Tile]:
    """The tiles of some ids without their masks, decoded; those of `unlabeled` too; as in `load_tiles`.

    Raises:
        DataError: None of the ids is there.
    """
    files = {tile.id: tile for tile in [*listing.tiles, *_external(config, listing)]}
    chosen = [replace(files[tile], mask=None) for tile in ids if tile in files]
    if not chosen:
        raise DataError(f"{config.path} holds none of {len(ids)} unlabelled tiles, for example {', '.join(ids[:1])}")
    return list(_decoded(chosen, NO_CLASSES, config, on_unreadable, workers, on_progress).values())


def _in_place(file: TileFile, mismatch: str) -> bool:
    """Whether a mask is to be held against its image: by their georeferences, where both have one.

    Raises:
        DataError: They disagree, and such tiles are not to be left out.
    """
    assert file.mask is not None
    try:
        fault = read_displacement(file.image, file.mask)
    except UnreadableError:
        return True  # told when it is decoded
    if fault is not None and mismatch != "skip":
        raise DataError(
            f"{file.mask} does not lie where its image {file.image} does: {fault}; bring it onto the image's grid, "
            f"or leave out such tiles with --mismatch skip"
        )
    return fault is None


def _external(config: DataConfig, listing: Listing) -> list[TileFile]:
    """Tiles of --unlabeled that the folder does not hold already, as images or as masks."""
    if not config.unlabeled:
        return []
    held = [path for tile in listing.tiles for path in (tile.image, tile.mask) if path]
    known = {real_path(path) for path in [*held, *listing.orphan_masks]}
    extra = [tile for tile in find_unlabeled(config.unlabeled) if real_path(tile.image) not in known]
    return [TileFile(f"{FURTHER}{tile.id}", tile.image, None) for tile in extra]


def _named(files: Iterable[TileFile], split: Split, path: Path) -> list[TileFile]:
    """The files that a split names; all must be there, labelled and validation ones with masks."""
    found = {tile.id: tile for tile in files}
    masked = {*split.labeled, *split.val}
    for tile in [*split.labeled, *split.unlabeled, *split.val]:
        if tile not in found or (tile in masked and found[tile].mask is None):
            raise DataError(f"{path} names the tile {tile}, which the data lacks (or its mask); make a new split")
    return [found[tile] for tile in [*split.labeled, *split.unlabeled, *split.val]]


def _decoded(
    files: Sequence[TileFile],
    classes: ClassTable,
    config: DataConfig,
    on_unreadable: OnUnreadable | None,
    workers: int,
    on_progress: Progress | None,
) -> dict[str, Tile]:
    progress = None if on_progress is None else lambda done, all_: on_progress("decoding tiles", done, all_)
    tiles = load_tiles(
        list(files),
        classes,
        mismatch=config.mismatch,
        on_unreadable=on_unreadable,
        workers=workers,
        on_progress=progress,
    )
    return {tile.id: tile for tile in tiles}


def _divided(tiles: dict[str, Tile], split: Split, classes: ClassTable, include_labeled: bool) -> Dataset:
    # Under mismatch or unreadable "skip" a tile of a given split may be gone.
    labeled, unlabeled, val = (
        [tiles[tile] for tile in part if tile in tiles] for part in (split.labeled, split.unlabeled, split.val)
    )
    if not labeled or not val:
        raise DataError("the split leaves no labelled or no validation tile; label more tiles, or change the split")
    if not any(sum(tile.class_pixels) for tile in labeled):
        raise DataError(
            "no class of the table occurs in the masks of the labelled tiles, so there is nothing to learn; see "
            "s4aug-train doctor, and give the right table with --classes"
        )
    check_alike([*labeled, *unlabeled, *val])
    normalization = choose_normalization([*labeled, *unlabeled])
    if include_labeled:
        unlabeled = [*unlabeled, *labeled]
    return Dataset(classes, split, labeled, unlabeled, val, normalization)
