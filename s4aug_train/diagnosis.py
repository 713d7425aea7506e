"""What the doctor says of a data set: facts, and the problems that follow from them."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .config import DataConfig
from .data.palette import ONE_CLASS, ClassTable

EXAMPLES = 5  # ids or names given for each finding


@dataclass(frozen=True)
class Unreadable:
    """A file that cannot be decoded."""

    path: str
    reason: str


@dataclass(frozen=True)
class Mismatch:
    """An image and a mask of different sizes, (H, W) in px."""

    id: str
    image: tuple[int, int]
    mask: tuple[int, int]


@dataclass(frozen=True)
class Displaced:
    """A mask that does not lie where its image does, by their georeferences."""

    id: str
    reason: str


@dataclass(frozen=True)
class ClassShare:
    """How often a class occurs: its share of the pixels of all real classes, and in how many tiles."""

    name: str
    pixels: int
    share: float
    tiles: int


@dataclass(frozen=True)
class Seen:
    """A colour ("255,0,0") or value ("37") of the masks.

    Args:
        item: The colour or value.
        pixels: That have it.
        tiles: In which it is.
        examples: Some of these tiles, those with the most of it first.
        most: Pixels that have it in the first of them.
    """

    item: str
    pixels: int
    tiles: int
    examples: tuple[str, ...]
    most: int


@dataclass(frozen=True)
class Problem:
    """What is wrong and what to do; training fails if it is fatal."""

    what: str
    cure: str
    fatal: bool


@dataclass(frozen=True)
class Report:
    """What `inspect` found.

    Args:
        root: The folder.
        layout: As in the listing, with its `notes`.
        pairs: Tiles with a mask.
        unlabelled: Tiles without a mask.
        images_without_mask: Those of the unlabelled that lie among labelled ones.
        orphan_masks: Masks without an image.
        sizes: Images of each size, "H x W" px.
        bands: Images of each number of bands.
        dtypes: Images of each type of pixels.
        unreadable: Files that cannot be decoded.
        mismatches: Pairs of different size; under "skip" they are not in the shares.
        displaced: Masks that lie elsewhere than their image.
        off_palette: What the masks hold beside the class table; counted as ignored.
        hidden: Classes whose pixels the mask files call nodata; counted as ignored.
        observed: What the masks hold, if there is no class table.
        classes: Every real class.
        ignored: What the class table leaves out, "name: colour or value".
        ignored_share: Of the mask pixels, those without a class: unknown, off palette, nodata.
        nodata_share: Of the image pixels, those that are not real.
        training: Pairs that may be trained on; `--labeled` of them with their masks.
        validation: Pairs that would be held out.
        held_out: The spatial groups that these are, where tiles.csv divides.
        problems: Fatal ones first.
    """

    root: str
    layout: str
    notes: tuple[str, ...]
    pairs: int
    unlabelled: int
    images_without_mask: tuple[str, ...]
    orphan_masks: tuple[str, ...]
    sizes: dict[str, int]
    bands: dict[str, int]
    dtypes: dict[str, int]
    unreadable: tuple[Unreadable, ...]
    mismatches: tuple[Mismatch, ...]
    displaced: tuple[Displaced, ...]
    off_palette: tuple[Seen, ...]
    hidden: tuple[Seen, ...]
    observed: tuple[Seen, ...]
    classes: tuple[ClassShare, ...]
    ignored: tuple[str, ...]
    ignored_share: float
    nodata_share: float
    training: int
    validation: int
    held_out: tuple[str, ...]
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether training would not fail on this data."""
        return not any(problem.fatal for problem in self.problems)

    @property
    def absent(self) -> tuple[str, ...]:
        """The names of the classes that never occur."""
        return tuple(entry.name for entry in self.classes if not entry.tiles)

    def to_dict(self) -> dict[str, Any]:
        """All of it for JSON, with `ok` and `absent`."""
        return {"ok": self.ok, **asdict(self), "absent": list(self.absent)}


def find_problems(report: Report, classes: ClassTable | None, config: DataConfig, usable: int) -> Iterator[Problem]:
    """The problems that follow from the facts of a report.

    Args:
        report: Its own problems are not looked at.
        classes: The class table, if there is one.
        config: What training does with pairs of different size, and with files that cannot be read.
        usable: Pairs that can be trained on.
    """
    yield from _file_problems(report, config, usable)
    if len(report.classes) == 1:
        yield Problem(f"{report.classes[0].name} is the only class of the table", ONE_CLASS, fatal=True)
    if report.hidden:
        yield _hidden_problem(report)
    if classes is None and report.pairs:
        yield Problem(
            "there is no class table",
            "write one with --write-classes FILE, name the classes in it, and give it as --classes FILE",
            fatal=True,
        )
    elif classes is not None and usable and len(report.absent) == len(report.classes):
        held = ", ".join(seen.item for seen in report.off_palette[:EXAMPLES]) or "ignored entries"
        yield Problem(
            f"no class of the table occurs in any mask (the masks hold {held})",
            "give the right table as --classes FILE",
            fatal=True,
        )
    elif report.absent:
        yield Problem(
            f"{len(report.absent)} classes never occur: {', '.join(report.absent)}",
            "take them out of the class table, or add tiles that show them",
            fatal=False,
        )
    if report.off_palette:
        yield _off_palette_problem(report)


def _file_problems(report: Report, config: DataConfig, usable: int) -> Iterator[Problem]:
    if report.unreadable:
        first = report.unreadable[0]
        what = f"{len(report.unreadable)} files cannot be used: {_examples(f.path for f in report.unreadable)}"
        fatal = config.unreadable == "error"
        yield Problem(f"{what}. {first.path} {first.reason}", "so for each of them", fatal=fatal)
    if report.mismatches:
        yield Problem(
            f"{len(report.mismatches)} masks have another size than their image: "
            f"{_examples(entry.id for entry in report.mismatches)}",
            "correct them, or go on with --mismatch crop (to what they share) or skip",
            fatal=config.mismatch == "error",
        )
    if not usable:
        yield Problem("there is no pair to learn from", "add masks, or see the problems above", fatal=True)
    for what, kinds in (("numbers of bands", report.bands), ("types of pixels", report.dtypes)):
        if len(kinds) > 1:
            found = ", ".join(f"{kind} in {count} images" for kind, count in kinds.items())
            cure = "convert the images to one kind"
            if what == "numbers of bands":
                cure += (
                    ", and tell in the files whether their last band is transparency (gdal_translate -colorinterp_4 "
                    "undefined); one that they call alpha is judged by the pixels at its centre"
                )
            yield Problem(f"different {what}: {found}", cure, fatal=True)
    if report.displaced:
        names, reason = _examples(entry.id for entry in report.displaced), report.displaced[0].reason
        what = f"{len(report.displaced)} masks do not lie where their image does: {names}. Of the first: {reason}"
        yield Problem(what, "bring them onto the grid of the image; evaluate refuses such pairs", fatal=False)
    if report.orphan_masks:
        what = f"{len(report.orphan_masks)} masks have no image: {_examples(report.orphan_masks)}"
        yield Problem(what, "add the images, or remove the masks", fatal=False)
    if report.images_without_mask:
        names = _examples(report.images_without_mask)
        what = f"{len(report.images_without_mask)} images among labelled ones have no mask: {names}"
        yield Problem(what, "add the masks if they should have one; they count as unlabelled", fatal=False)


def _hidden_problem(report: Report) -> Problem:
    items = "; ".join(
        f"{seen.item} in {seen.tiles} masks, such as that of {seen.examples[0]}" for seen in report.hidden
    )
    return Problem(
        f"{sum(seen.pixels for seen in report.hidden)} mask pixels of classes are nodata by their files and count as "
        f"ignored: {items}",
        "if the classes are meant, take the nodata value out of the masks (gdal_edit.py -unsetnodata MASK)",
        fatal=False,
    )


def _off_palette_problem(report: Report) -> Problem:
    pixels = sum(seen.pixels for seen in report.off_palette)
    items = "; ".join(
        f"{seen.item} in {seen.tiles} masks, most in that of {seen.examples[0]} ({seen.most} px)"
        for seen in report.off_palette[:EXAMPLES]
    )
    return Problem(
        f"{pixels} mask pixels are not in the class table and count as ignored: {items}",
        "add a class for them, or name them 'unknown' in the table, if they are meant",
        fatal=False,
    )


def _examples(items: Iterable[str]) -> str:
    """The first few file names or ids."""
    names = [Path(item).name if "/" in item and Path(item).suffix else item for item in items]
    more = f" and {len(names) - EXAMPLES} more" if len(names) > EXAMPLES else ""
    return ", ".join(names[:EXAMPLES]) + more
