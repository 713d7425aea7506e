"""Which tiles are labelled, unlabelled and held out: drawn by seed, written down, never overlapping."""

import csv
import io
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..files import content_hash, parse_json, write_json, write_text
from ..rng import stream_rng

VERSION = 1
NAMED = 20  # groups that a line names
PARTS = ("labeled", "unlabeled", "val")


@dataclass(frozen=True)
class Split:
    """Tile ids by what they are used for.

    Args:
        labeled: Trained with their masks.
        unlabeled: Trained without.
        val: Held out.
        how: How the split was made, for people.

    Raises:
        DataError: An id is in two parts, or twice in one.
    """

    labeled: tuple[str, ...]
    unlabeled: tuple[str, ...]
    val: tuple[str, ...]
    how: str = ""

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        for part in PARTS:
            for tile in getattr(self, part):
                if tile in seen:
                    raise DataError(f"split: tile {tile} is in {seen[tile]} and in {part}; each belongs to one part")
                seen[tile] = part

    @property
    def hash(self) -> str:
        """Of the three lists, whatever their order."""
        return content_hash({part: sorted(getattr(self, part)) for part in PARTS})

    def to_dict(self) -> dict[str, Any]:
        """As written to splits.json."""
        parts = {part: list(getattr(self, part)) for part in PARTS}
        return {"version": VERSION, "how": self.how, "hash": self.hash, **parts}

    def write(self, path: Path) -> None:
        """Write the manifest as JSON."""
        write_json(path, self.to_dict())

    @classmethod
    def read(cls, path: Path) -> "Split":
        """Read a manifest.

        Raises:
            DataError: It cannot be read, lacks a part, overlaps, or its hash is not that of its lists.
        """
        try:
            content = parse_json(path.read_text())
            parts = {part: tuple(content[part]) for part in PARTS}
            if not all(isinstance(content[part], list) for part in PARTS):
                raise TypeError("parts must be lists")
            if not all(isinstance(tile, str) for part in parts.values() for tile in part):
                raise TypeError("ids must be strings")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"cannot read the split {path} ({error}); it is JSON with labeled, unlabeled and val, as "
                f"s4aug-train split writes it"
            ) from error
        try:
            split = cls(**parts, how=str(content.get("how", "")))
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        if content.get("hash", split.hash) != split.hash:
            raise DataError(f"{path} was changed by hand: its hash does not fit; remove the hash line to accept that")
        return split


@dataclass(frozen=True)
class Groups:
    """What a tiles.csv says: spatial group of each tile and, where given, its part.

    Args:
        group: Tile id to group.
        part: Tile id to "train" or "val"; empty where the file does not divide.
    """

    group: Mapping[str, str]
    part: Mapping[str, str]

    def names(self, tiles: Collection[str]) -> tuple[str, ...]:
        """The groups that some tiles are in."""
        return tuple(sorted({self.group[tile] for tile in tiles if tile in self.group}))

    def together(self, held_out: Collection[str]) -> set[str]:
        """All tiles of the groups that some tiles are in."""
        names = set(self.names(held_out))
        return {tile for tile, name in self.group.items() if name in names}

    def held_with(self, val: Collection[str]) -> set[str]:
        """What is not trained on where some tiles are held out: all of their groups, and what the file names val."""
        return self.together({*val, *(tile for tile, part in self.part.items() if part == "val")})

    def write(self, path: Path) -> None:
        """Write the groups, without parts, as `read_groups` takes them."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(["id", "spatial_group"])
        writer.writerows(self.group.items())
        write_text(path, buffer.getvalue())

    def check(self, split: Split, where: Path) -> None:
        """Hold a split to leaving groups whole.

        Raises:
            DataError: A group is in validation and in training.
        """
        near = self.held_with(split.val)
        for tile in (*split.labeled, *split.unlabeled):
            if tile in near:
                raise DataError(
                    f"{where}: spatial group {self.group[tile]} is both in val and in training (tile {tile}); "
                    f"neighbours must be on one side"
                )


def groups_by_folder(places: Mapping[str, str]) -> Groups:
    """A group for each folder of tiles; where they are all in one folder, for each tile.

    Args:
        places: Tile id to its path: the id itself, but where patterns make ids without folders.
    """
    folders = {tile: path.rpartition("/")[0] or tile for tile, path in places.items()}
    return Groups(folders if len(set(folders.values())) > 1 else {tile: tile for tile in places}, {})


def read_groups(folder: Path) -> Groups | None:
    """Read `tiles.csv` (`id,spatial_group[,split]`) of a data folder; None where there is none.

    Raises:
        DataError: The file cannot be read, a column or a cell is missing, an id comes twice, a split is neither
            train nor val, or a group is both in train and in val.
    """
    path = folder / "tiles.csv"
    if not path.is_file():
        return None
    rows = _rows(path)
    group = {row["id"]: row["spatial_group"].strip() for row in rows}
    if len(group) < len(rows):
        twice = next(tile for tile, count in Counter(row["id"] for row in rows).items() if count > 1)
        raise DataError(f"{path} has the tile {twice} twice; remove one of its lines")
    part = {row["id"]: row["split"].strip() for row in rows if (row.get("split") or "").strip()}
    if strange := sorted(set(part.values()) - {"train", "val"}):
        raise DataError(f"{path}: a split is train or val, not {strange[0]!r}; correct it, or move these tiles away")
    sides: dict[str, str] = {}
    # In a file that divides, a tile that it leaves open is trained on.
    for tile, name in group.items() if part else ():
        side = part.get(tile, "train")
        if sides.setdefault(name, side) != side:
            raise DataError(f"{path}: spatial group {name} is both in train and in val; put it in one of them")
    return Groups(group, part)


def draw_split(
    class_pixels: Mapping[str, Sequence[int]],
    others: Sequence[str],
    *,
    labeled: int,
    val: int,
    seed: int,
    split_seed: int,
    groups: Groups | None = None,
) -> Split:
    """Hold out a validation set, then draw labelled tiles; both stratified by class presence.

    Labelled sets are nested: with one seed the 20 tiles of `labeled=20` are among the 50 of `labeled=50`.

    Args:
        class_pixels: Pixels of each class, by id, for every tile with a mask.
        others: Ids of images without masks; they are unlabelled, but for those in a group that is held out.
        labeled: Labelled tiles to draw.
        val: Validation tiles to draw where `groups` names none; see `validation_count`.
        seed: Of the labelled set.
        split_seed: Of the validation set.
        groups: Spatial groups; none is divided between training and validation.

    Returns:
        The split.

    Raises:
        DataError: More labelled tiles wanted than training tiles there are.
    """
    ids = sorted(class_pixels)
    present = {tile: np.asarray(class_pixels[tile]) > 0 for tile in ids}
    held_out, how = _validation(ids, present, val, split_seed, groups)
    training = [tile for tile in ids if tile not in held_out]
    check_counts(labeled, len(training))
    order = stratified_order(training, present, seed, "labeled")
    near = set() if groups is None else groups.held_with(held_out)
    return Split(
        tuple(sorted(order[:labeled])),
        tuple(sorted(order[labeled:]) + sorted(set(others) - near)),
        tuple(sorted(held_out)),
        f"validation: {how}; labelled: {labeled} of {len(training)} by seed {seed}, stratified by class presence",
    )


def check_counts(labeled: int, training: int) -> None:
    """Hold the number of labelled tiles to what there is."""
    if training < 1:
        raise DataError("the validation tiles leave no tile with a mask to train on; add tiles with masks")
    if labeled > training:
        raise DataError(
            f"{labeled} labelled tiles are wanted, but there are {training} training tiles with a mask; "
            f"use --labeled {training} or fewer"
        )


def validation_count(pairs: int, val: int) -> int:
    """Validation tiles that are drawn from `pairs`: `val`, or for 0 a quarter, at most 200, at least one."""
    return val or max(1, min(200, pairs // 4))


def stratified_order(ids: Sequence[str], present: Mapping[str, np.ndarray], seed: int, stream: str) -> list[str]:
    """A random order whose every beginning holds each class in about the share of tiles that the whole does.

    Greedy: of the tiles left, in random order, the one that brings the shares so far nearest to the whole's.
    """
    shuffled = [ids[i] for i in stream_rng(seed, 0, stream).permutation(len(ids))]
    if not shuffled:
        return []
    has = np.stack([present[tile] for tile in shuffled]).astype(np.float64)  # [N, K]
    share = has.mean(0)
    so_far = np.zeros_like(share)
    left = np.ones(len(shuffled), dtype=bool)
    order = []
    for taken in range(1, len(shuffled) + 1):
        # Rare classes count as much as common ones.
        apart = ((so_far + has - taken * share) ** 2 / np.maximum(share, 1e-9)).sum(1)
        best = int(np.where(left, apart, np.inf).argmin())
        left[best] = False
        so_far += has[best]
        order.append(shuffled[best])
    return order


def held_out_by_groups(ids: Sequence[str], val: int, seed: int, groups: Groups) -> tuple[set[str], str]:
    """Validation tiles where groups decide, which takes no decoding, and how they were chosen.

    Args:
        ids: Tiles with a mask.
        val: Tiles to hold out at least, where `groups` names none; see `validation_count`.
        seed: Of the draw.
        groups: No group is divided.

    Raises:
        DataError: `groups` names validation tiles, but none of `ids`; or tiles to train on alone; or it lacks one of
            `ids`.
    """
    if groups.part and "val" not in groups.part.values():
        raise DataError("tiles.csv marks tiles as train and none as val; mark those to hold out, or empty the column")
    if groups.part:
        held_out = {tile for tile in ids if groups.part.get(tile) == "val"}
        if not held_out:
            named = next(tile for tile, part in groups.part.items() if part == "val")
            raise DataError(
                f"tiles.csv names validation tiles, such as {named}, but none is a tile with a mask here, such as "
                f"{min(ids, default='(none)')}; make its ids those of the tiles"
            )
        return held_out, f"{len(held_out)} tiles named in tiles.csv ({_listed(groups.names(held_out))})"
    members: dict[str, list[str]] = {}
    for tile in ids:
        if tile not in groups.group:
            known = next(iter(groups.group))
            raise DataError(f"tiles.csv lacks the tile {tile} (it has {known}, for example); add a line for each tile")
        members.setdefault(groups.group[tile], []).append(tile)
    names = sorted(members)
    if len(names) == 1:
        raise DataError(
            f"all tiles with a mask are in the spatial group {names[0]} of tiles.csv, so none can be held out; make "
            f"several groups, or remove the file"
        )
    chosen: set[str] = set()
    for i in stream_rng(seed, 0, "val").permutation(len(names)):
        group = members[names[i]]
        # Something must be left to train on.
        if len(chosen) < validation_count(len(ids), val) and len(chosen) + len(group) < len(ids):
            chosen.update(group)
    return chosen, f"{len(chosen)} tiles in whole spatial groups ({_listed(groups.names(chosen))}) by seed {seed}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _rows(path: Path) -> list[dict[str, str]]:
    """The lines of a tiles.csv, by column."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}; it is CSV in UTF-8: id,spatial_group[,split]") from error
    if not rows or not {"id", "spatial_group"} <= rows[0].keys():
        raise DataError(f"{path} needs the columns id,spatial_group and may have split; got {list(rows[:1])}")
    for number, row in enumerate(rows, 1):
        if not row["id"] or not (row["spatial_group"] or "").strip():
            raise DataError(f"{path}, tile {number}: no id or no spatial_group; fill the line or remove it")
    return rows


def _validation(
    ids: Sequence[str], present: Mapping[str, np.ndarray], val: int, seed: int, groups: Groups | None
) -> tuple[set[str], str]:
    if groups is not None:
        return held_out_by_groups(ids, val, seed, groups)
    count = validation_count(len(ids), val)
    return set(stratified_order(ids, present, seed, "val")[:count]), f"{count} tiles by seed {seed}"
