"""Class tables: which colour or value of a mask is which class."""

import csv
import io
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..files import content_hash, write_text
from .decoding import IGNORE as IGNORE
from .decoding import Color, decode_colors, decode_corners, decode_values, expand
from .raster import Palette

ONE_CLASS = "so every pixel would be it; give what is around it a class of its own (as background)"
IGNORED_NAMES = frozenset(
    ["unknown", "unlabeled", "unlabelled", "ignore", "ignored", "void", "nodata", "no_data", "no data"]
)


@dataclass(frozen=True)
class ClassEntry:
    """One line of a class table.

    Args:
        name: For people; unique.
        color: (r, g, b) in the masks, 0 to 255; None in a table of values only.
        value: In index masks; None in a table of colours only.
        ignored: Known, but not a class to learn: decodes to `IGNORE`.

    Raises:
        DataError: One of these is of another type, as in a file that was changed.
    """

    name: str
    color: Color | None = None
    value: int | None = None
    ignored: bool = False

    def __post_init__(self) -> None:
        color = (0, 0, 0) if self.color is None else self.color
        numbers = (*color, 0 if self.value is None else self.value)
        typed = isinstance(self.name, str) and isinstance(self.ignored, bool) and len(color) == 3
        if not typed or not all(isinstance(number, int) for number in numbers):
            raise DataError(f"a class is a name, three whole numbers, a whole number, and yes or no; got {self}")

    @property
    def in_masks(self) -> str:
        """The pixels that are it, for people: "155,155,155", "0", or both."""
        held = [] if self.value is None else [str(self.value)]
        held += [] if self.color is None else [",".join(map(str, self.color))]
        return " or ".join(held)


@dataclass(frozen=True)
class ClassTable:
    """The classes of a data set, in the order of their label indices.

    Entries that are not ignored are the real classes 0..K-1. Ignored entries (named unknown,
    unlabeled, void, ..., or marked so) decode to `IGNORE` and count as known colours.

    Raises:
        DataError: A duplicate name, colour or value, a colour outside 0..255, entries with and
            without colour (or value) mixed, no real class, or more than 255.
    """

    entries: tuple[ClassEntry, ...]

    def __post_init__(self) -> None:
        for index, fault in _faults(self.entries):
            where = "class table" if index is None else f"class table, entry {index + 1}"
            raise DataError(f"{where}: {fault}")

    @cached_property
    def real(self) -> tuple[ClassEntry, ...]:
        """The entries of the real classes; their position is the label index."""
        return tuple(entry for entry in self.entries if not entry.ignored)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the real classes."""
        return tuple(entry.name for entry in self.real)

    @cached_property
    def colors(self) -> tuple[Color, ...]:
        """A display colour for every real class: its own, or one of a fixed distinct series."""
        return tuple(entry.color or _distinct_colors()[index] for index, entry in enumerate(self.real))

    @cached_property
    def key(self) -> str:
        """A hash of all that decoding depends on."""
        return content_hash([[e.name, e.color, e.value, e.ignored] for e in self.entries])

    @property
    def has_colors(self) -> bool:
        """Whether colour masks can be decoded."""
        return self.entries[0].color is not None

    @property
    def has_values(self) -> bool:
        """Whether index masks can be decoded."""
        return self.entries[0].value is not None

    @classmethod
    def read(cls, path: Path) -> "ClassTable":
        """Read a CSV file with the header `name,r,g,b` or `name,value` or `name,value,r,g,b`.

        Upper and lower case, spaces and a byte order mark do not matter. An optional column
        `ignore` (1 or 0) says which entries are no class to learn; where it is empty or
        absent, the name decides.

        Raises:
            DataError: The file or one of its lines is wrong; the message names both.
        """
        numbered = list(_read_entries(path))
        entries = tuple(entry for _, entry in numbered)
        for index, fault in _faults(entries):
            raise DataError(f"{path}{'' if index is None else f', line {numbered[index][0]}'}: {fault}")
        return cls(entries)

    def write(self, path: Path) -> None:
        """Write the table as `read` takes it."""
        marked = any(entry.ignored != _ignored_by_name(entry.name) for entry in self.entries)
        header = ["name"] + ["value"] * self.has_values + ["r", "g", "b"] * self.has_colors
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(header + ["ignore"] * marked)
        for entry in self.entries:
            row: list[str | int] = [entry.name]
            row += [] if entry.value is None else [entry.value]
            row += entry.color or ()
            writer.writerow(row + [int(entry.ignored)] * marked)
        write_text(path, buffer.getvalue())

    def decode(
        self,
        raw: np.ndarray,  # [C, H, W]
        palette: Palette | None = None,
        *,
        where: str = "the mask",
    ) -> tuple[np.ndarray, dict[str, int]]:
        """Turn the pixels of a mask file into labels.

        If all colours of the table are corners of the RGB cube (each channel 0 or 255), each
        channel is cut at 128, because such masks are often not exact; with other colours than
        DeepGlobe's, what has a channel from 64 to 191 is none of them. Other colours must match
        exactly. A mask with a colour map is decoded by value if the table has values, else by the
        colours of the map. A fourth band is ignored.

        Args:
            raw: [C, H, W] as `read_image` gives it.
            palette: `RasterInfo.palette` of the mask file.
            where: What to call the mask in errors, usually its path.

        Returns:
            Labels [H, W] uint8 (0..K-1, or `IGNORE`), and the pixel counts of colours
            ("255,0,0"; of their corner if cut) or values ("37") that are not in the table. They decode to
            `IGNORE`. Beyond the `MAX_COLORS` most frequent, the rest is counted as `OTHER`.

        Raises:
            DataError: The mask holds values and the table colours, or the reverse.
        """
        single = raw.shape[0] == 1
        if single and self.has_values:
            return decode_values({e.value: label for e, label in self._labels() if e.value is not None}, raw[0])
        if single and palette is not None:
            return self.decode(expand(raw[0], palette), where=where)
        if single:
            raise DataError(
                f"{where} holds one band of values, but the class table has only colours; "
                "add a column 'value' to the table (see --classes)"
            )
        _check_color_mask(self, raw, where)
        by_color = {entry.color: label for entry, label in self._labels() if entry.color}
        if not _on_corners(self):
            return decode_colors(by_color, raw)
        theirs = {entry.color for entry in DEEPGLOBE.entries}
        return decode_corners(by_color, raw, all_near=set(by_color) == theirs)

    def _labels(self) -> Iterator[tuple[ClassEntry, int]]:
        label = 0
        for entry in self.entries:
            yield entry, IGNORE if entry.ignored else label
            label += not entry.ignored


def check_several(table: ClassTable) -> None:
    """Hold a table to something that can be learned.

    Raises:
        DataError: It has one class, which every pixel would be.
    """
    if len(table.names) == 1:
        raise DataError(f"{table.names[0]} is the only class of the table, {ONE_CLASS}")


def _faults(entries: tuple[ClassEntry, ...]) -> Iterator[tuple[int | None, str]]:
    """What is wrong, with the index of the entry, or None for the table as a whole."""
    seen: dict[tuple[str, object], str] = {}
    for index, entry in enumerate(entries):
        if not entry.name:
            yield index, "the name is empty; give every class a name"
        if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in entry.name):
            yield index, f"the name {entry.name!a} holds a control character; remove it"
        if entry.color is not None and not all(0 <= channel <= 255 for channel in entry.color):
            yield index, f"the colour {entry.color} of {entry.name!r} is outside 0..255; correct it"
        if entry.value is not None and entry.value.bit_length() > 63:
            yield index, f"the value of {entry.name!r} has more than 64 bits; no mask can hold it"
        if (entry.color is None) != (entries[0].color is None):
            yield index, f"{entry.name!r} has a colour and others have none, or the reverse; fill the columns"
        if (entry.value is None) != (entries[0].value is None):
            yield index, f"{entry.name!r} has a value and others have none, or the reverse; fill the column"
        for kind, item in (("name", entry.name), ("colour", entry.color), ("value", entry.value)):
            if item is not None and (kind, item) in seen:
                yield index, f"the {kind} {item} is also that of {seen[kind, item]!r}; make them differ"
            seen[kind, item] = entry.name
    real = sum(not entry.ignored for entry in entries)
    if not 1 <= real <= 255:
        yield None, f"{real} classes to learn (ignored ones not counted); a table needs 1 to 255"
    if entries and entries[0].color is None and entries[0].value is None:
        yield None, "neither colours nor values; add the columns r,g,b or value"


def _read_entries(path: Path) -> Iterator[tuple[int, ClassEntry]]:
    """The entries of a CSV file, each with its line number."""
    lines = csv.reader(io.StringIO(_read_text(path), newline=""))
    header: list[str] | None = None
    for row in _csv_rows(path, lines):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        if header is None:
            header = _checked_header(path, [cell.lower() for cell in cells])
        elif len(cells) > len(header):
            raise DataError(f"{path}, line {lines.line_num}: {len(cells)} cells, but {len(header)} columns")
        else:
            named = dict.fromkeys(header, "") | dict(zip(header, cells, strict=False))
            yield lines.line_num, _entry(f"{path}, line {lines.line_num}", named)
    if header is None:
        raise DataError(f"{path} is empty; a class table starts with the line name,r,g,b or name,value")


def _csv_rows(path: Path, lines: Iterable[list[str]]) -> Iterator[list[str]]:
    try:
        yield from lines
    except csv.Error as error:
        raise DataError(
            f"{path} is no CSV table ({error}); a class table starts with name,r,g,b or name,value"
        ) from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8; save the class table as UTF-8 CSV") from error
    except OSError as error:
        raise DataError(
            f"cannot read the class table {path}: {error.strerror}; check the path (--classes FILE)"
        ) from error


def _checked_header(path: Path, header: list[str]) -> list[str]:
    rgb = [name in header for name in "rgb"]
    missing = [] if "name" in header else ["name"]
    if any(rgb) or "value" not in header:
        missing += [name for name, present in zip("rgb", rgb, strict=True) if not present]
    if missing:
        raise DataError(
            f"{path}, line 1: no column {', '.join(missing)} in '{','.join(header)}'; "
            "a class table starts with the line name,r,g,b or name,value or name,value,r,g,b"
        )
    if duplicates := [name for name, count in Counter(header).items() if count > 1]:
        raise DataError(f"{path}, line 1: the column {duplicates[0]!r} appears twice; remove one")
    return header


def _entry(where: str, cells: dict[str, str]) -> ClassEntry:
    name = cells["name"]
    r, g, b = (_whole(where, column, cells[column]) if column in cells else 0 for column in "rgb")
    value = _whole(where, "value", cells["value"]) if "value" in cells else None
    mark = cells.get("ignore", "").lower()
    if mark not in ("", "0", "1", "true", "false", "yes", "no"):
        raise DataError(f"{where}: the column ignore is 1 or 0, not {mark!r}")
    ignored = mark in ("1", "true", "yes") if mark else _ignored_by_name(name)
    return ClassEntry(name, (r, g, b) if "r" in cells else None, value, ignored)


def _whole(where: str, column: str, cell: str) -> int:
    try:
        return int(cell)
    except ValueError:
        raise DataError(f"{where}: the column {column} needs a whole number, not {cell!r}") from None


def _ignored_by_name(name: str) -> bool:
    return name.strip().lower() in IGNORED_NAMES


@cache
def _distinct_colors() -> tuple[Color, ...]:
    """255 colours, each as far as possible from black and from all before it."""
    grid = np.stack(np.meshgrid(*3 * [np.linspace(0, 255, 7)]), axis=-1).reshape(-1, 3).round()  # [343, 3]
    distance = np.abs(grid).sum(axis=1)
    chosen = []
    for _ in range(255):
        color = grid[distance.argmax()]
        distance = np.minimum(distance, np.abs(grid - color).sum(axis=1))
        chosen.append((int(color[0]), int(color[1]), int(color[2])))
    return tuple(chosen)


def _check_color_mask(table: ClassTable, raw: np.ndarray, where: str) -> None:
    if not table.has_colors:
        raise DataError(
            f"{where} holds colours ({raw.shape[0]} bands), but the class table has only values; "
            "add the columns r,g,b to the table (see --classes)"
        )
    if raw.shape[0] not in (3, 4) or raw.dtype != np.uint8:
        raise DataError(
            f"{where} has {raw.shape[0]} bands of {raw.dtype}; a mask has one band of values, "
            "or three of 8-bit colour: convert it"
        )


def _on_corners(table: ClassTable) -> bool:
    return all(channel in (0, 255) for entry in table.entries for channel in entry.color or (1,))


DEEPGLOBE = ClassTable(
    (
        ClassEntry("urban_land", (0, 255, 255)),
        ClassEntry("agriculture_land", (255, 255, 0)),
        ClassEntry("rangeland", (255, 0, 255)),
        ClassEntry("forest_land", (0, 255, 0)),
        ClassEntry("water", (0, 0, 255)),
        ClassEntry("barren_land", (255, 255, 255)),
        ClassEntry("unknown", (0, 0, 0), ignored=True),
    )
)
