"""The doctor: what is in a data set, what is wrong with it, and whether training would fail."""

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from .config import DataConfig
from .data.cache import check_pixels
from .data.dataset import FURTHER, Division, division_of
from .data.decoding import observed
from .data.layouts import Listing, TileFile
from .data.palette import IGNORE, ClassEntry, ClassTable
from .data.raster import RasterInfo, read_displacement, read_info, read_strips, read_valid
from .data.split import check_counts, read_groups
from .diagnosis import EXAMPLES, ClassShare, Displaced, Mismatch, Problem, Seen, Unreadable, find_problems
from .diagnosis import Report as Report
from .errors import DataError


@dataclass(frozen=True)
class _Finding:
    """What one tile holds; `mask` is the size of a usable mask, `counts` the pixels of labels 0..255."""

    tile: TileFile
    image: RasterInfo | None = None
    mask: tuple[int, int] | None = None
    pixels: int = 0
    nodata: int = 0
    counts: np.ndarray = field(default_factory=lambda: np.zeros(256, dtype=np.int64))
    off_palette: Counter[str] = field(default_factory=Counter)
    hidden: Counter[str] = field(default_factory=Counter)
    observed: Counter[str] = field(default_factory=Counter)
    unreadable: tuple[Unreadable, ...] = ()
    displacement: str | None = None

    @property
    def mismatch(self) -> Mismatch | None:
        """The sizes, where image and mask differ in them."""
        if self.image is None or self.mask is None or self.image.size == self.mask:
            return None
        return Mismatch(self.tile.id, self.image.size, self.mask)

    def is_skipped(self, config: DataConfig) -> bool:
        """Whether training leaves the tile out."""
        if self.mismatch and config.mismatch == "skip":
            return True
        return bool(self.unreadable) and config.unreadable == "skip"


def inspect(
    listing: Listing,
    classes: ClassTable | None,
    *,
    labeled: int | None = None,
    config: DataConfig = DataConfig(),  # noqa: B008  # frozen
    workers: int = 2,
    on_progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Decode every file of a data set and report on it. Bad files are reported, not raised.

    Args:
        listing: The tiles.
        classes: The class table; without one the masks' values or colours are counted.
        labeled: Labelled tiles that training would draw; None: whatever there is will do.
        config: What training would hold out (`val`, `split_seed`) and do with pairs of different size (`mismatch`)
            and with files that cannot be read (`unreadable`), and whether it takes images without masks (`unpaired`).
        workers: Threads that decode.
        on_progress: Called with (tiles done, tiles in all) after every tile.
    """
    findings = []
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for finding in pool.map(lambda tile: _examine(tile, classes), listing.tiles):
            findings.append(finding)
            if on_progress is not None:
                on_progress(len(findings), len(listing.tiles))
    kept = tuple(finding.tile for finding in findings if not finding.is_skipped(config))
    division, problems = _plan(replace(listing, tiles=kept), labeled, config)
    report = _report(listing, classes, config, findings, division)
    return replace(report, problems=tuple(sorted((*report.problems, *problems), key=lambda problem: not problem.fatal)))


def proposed_classes(report: Report) -> ClassTable | None:
    """A class table with every value or colour that the masks hold, to be given names by a person.

    Returns:
        Classes `class_<value>` or `class_<r>_<g>_<b>`; None if the report was made with a class
        table, or the masks hold too many values, fractions, or values and colours both.
    """
    items = [seen.item for seen in report.observed]
    if items and all(item.lstrip("-").isdigit() for item in items):
        entries = tuple(ClassEntry(f"class_{value}", value=value) for value in sorted(map(int, items)))
    elif items and all(item.count(",") == 2 for item in items):
        colors = sorted((int(r), int(g), int(b)) for r, g, b in (item.split(",") for item in items))
        entries = tuple(ClassEntry("class_{}_{}_{}".format(*color), color=color) for color in colors)
    else:
        return None
    return ClassTable(entries)


def _examine(tile: TileFile, classes: ClassTable | None) -> _Finding:
    """Decode one tile in bounded memory."""
    finding = _Finding(tile)
    try:
        image = read_info(tile.image)
        pixels, nodata = _examine_image(image)
        finding = replace(finding, image=image, pixels=pixels, nodata=nodata)
    except (DataError, OSError) as error:
        finding = replace(finding, unreadable=(_unreadable(tile.image, error),))
    if tile.mask is None:
        return finding
    try:
        mask = read_info(tile.mask)
        held = _examine_mask(mask, finding.image, classes)
        if finding.image is not None:
            finding = replace(finding, displacement=read_displacement(tile.image, tile.mask))
        return replace(finding, mask=mask.size, **held)
    except (DataError, OSError) as error:
        return replace(finding, unreadable=(*finding.unreadable, _unreadable(tile.mask, error)))


def _unreadable(path: Path, error: Exception) -> Unreadable:
    return Unreadable(str(path), str(error).removeprefix(f"{path} "))


def _examine_image(image: RasterInfo) -> tuple[int, int]:
    """Pixels, and those that are not real."""
    check_pixels(image)
    pixels, nodata = 0, 0
    for (_, _, height, width), _, valid in read_strips(image):
        pixels += height * width
        nodata += 0 if valid is None else int(np.count_nonzero(~valid))
    return pixels, nodata


def _examine_mask(mask: RasterInfo, image: RasterInfo | None, classes: ClassTable | None) -> dict[str, Any]:
    """`counts`, `off_palette`, `hidden` and `observed` of a finding, over the area that image and mask share."""
    counts = np.zeros(256, dtype=np.int64)
    off, hidden, seen = Counter[str](), Counter[str](), Counter[str]()
    height, width = mask.size if image is None else np.minimum(mask.size, image.size).tolist()
    for (top, _, rows, _), raw, real in read_strips(mask):
        shared = raw[:, : max(0, min(rows, height - top)), :width]
        if not shared.size:
            continue
        real = None if real is None else real[: shared.shape[1], :width]
        told = shared if real is None else shared[:, real][:, None]  # [C, 1, N]
        if classes is None:
            seen.update(observed(told, mask.palette))
            continue
        labels, unknown = classes.decode(shared, mask.palette, where=str(mask.path))
        if real is not None:
            unknown = classes.decode(told, mask.palette, where=str(mask.path))[1]
            under = np.bincount(labels[~real], minlength=256)[: len(classes.names)]
            hidden.update({name: int(count) for name, count in zip(classes.names, under, strict=True) if count})
        off.update(unknown)
        if image is not None and image.masked:
            valid = read_valid(image.path, (top, 0, *labels.shape))
            labels = labels if valid is None else np.where(valid, labels, IGNORE)
        if real is not None:
            labels = np.where(real, labels, IGNORE)
        counts += np.bincount(labels.ravel(), minlength=256)
    return {"counts": counts, "off_palette": off, "hidden": hidden, "observed": seen}


def _plan(listing: Listing, labeled: int | None, config: DataConfig) -> tuple[Division, tuple[Problem, ...]]:
    """Pairs to train on and to hold out, by tiles.csv or by number, and what is wrong with that."""
    # Those of --unlabeled are taken in any case.
    bare = [tile for tile in listing.unlabelled if config.unpaired or tile.id.startswith(FURTHER)]
    division = Division(0, 0)
    try:
        division = division_of(listing, read_groups(listing.root), config)
        check_counts(labeled or 1, division.training)
        # Where all are labelled, nothing is left to learn from without.
        most = division.training if bare else max(1, division.training - 1)
        if labeled is None and division.training < config.labeled:
            what = f"fewer than the {config.labeled} labelled tiles that fit draws by default can be trained on"
            return division, (Problem(what, f"give fit --labeled {most} or fewer", fatal=False),)
        if (labeled or config.labeled) == division.training and not bare:
            what = f"with {division.training} labelled tiles none is left without label"
            cure = "give fewer, or further images with --unlabeled; else use --method supervised, sup+affine or full"
            return division, (Problem(what, cure, fatal=False),)
    except DataError as error:
        what, _, cure = str(error).rpartition("; ")
        return division, (Problem(what, cure, fatal=True),)
    return division, ()


def _report(
    listing: Listing, classes: ClassTable | None, config: DataConfig, findings: list[_Finding], division: Division
) -> Report:
    images = [finding.image for finding in findings if finding.image]
    mismatches = tuple(finding.mismatch for finding in findings if finding.mismatch)
    used = [f for f in findings if f.mask and not f.is_skipped(config)]
    counts = sum((f.counts for f in used), np.zeros(256, dtype=np.int64))
    labelled_folders = {tile.image.parent for tile in listing.labelled}
    lonely = (tile for tile in listing.unlabelled if tile.image.parent in labelled_folders)
    facts: dict[str, Any] = {
        "root": str(listing.root),
        "layout": listing.layout,
        "notes": listing.notes,
        "pairs": len(listing.labelled),
        "unlabelled": len(listing.unlabelled),
        "images_without_mask": tuple(str(tile.image) for tile in lonely),
        "orphan_masks": tuple(map(str, listing.orphan_masks)),
        "sizes": _histogram(f"{info.size[0]} x {info.size[1]}" for info in images),
        "bands": _histogram(str(info.bands) for info in images),
        "dtypes": _histogram(info.dtype for info in images),
        "unreadable": tuple(fault for finding in findings for fault in finding.unreadable),
        "mismatches": mismatches,
        "displaced": tuple(Displaced(f.tile.id, f.displacement) for f in findings if f.displacement),
        "off_palette": _seen((f.tile.id, f.off_palette) for f in used),
        "hidden": _seen((f.tile.id, f.hidden) for f in used),
        "observed": _seen((f.tile.id, f.observed) for f in used),
        "classes": _class_shares(classes, used),
        "ignored": () if classes is None else tuple(f"{e.name} ({e.in_masks})" for e in classes.entries if e.ignored),
        "ignored_share": _share(counts[IGNORE], counts.sum()),
        "training": division.training,
        "validation": division.validation,
        "held_out": division.groups,
        "nodata_share": _share(sum(f.nodata for f in findings), sum(f.pixels for f in findings)),
    }
    problems = find_problems(Report(**facts, problems=()), classes, config, len(used))
    return Report(**facts, problems=tuple(sorted(problems, key=lambda problem: not problem.fatal)))


def _histogram(items: Iterable[str]) -> dict[str, int]:
    return dict(Counter(items).most_common())


def _share(part: int, whole: int) -> float:
    return float(part / whole) if whole else 0.0


def _seen(tiles: Iterable[tuple[str, Counter[str]]]) -> tuple[Seen, ...]:
    """Colours or values over all tiles, the most frequent first."""
    pixels: Counter[str] = Counter()
    by_tile: dict[str, Counter[str]] = {}
    for tile_id, counts in tiles:
        pixels.update(counts)
        for item, count in counts.items():
            by_tile.setdefault(item, Counter())[tile_id] = count
    found = []
    for item, count in pixels.most_common():
        most = by_tile[item].most_common(EXAMPLES)
        found.append(Seen(item, count, len(by_tile[item]), tuple(tile for tile, _ in most), most[0][1]))
    return tuple(found)


def _class_shares(classes: ClassTable | None, findings: list[_Finding]) -> tuple[ClassShare, ...]:
    if classes is None:
        return ()
    per_tile = np.array([f.counts for f in findings]).reshape(-1, 256)[:, : len(classes.names)]  # [N, K]
    pixels, tiles = per_tile.sum(axis=0), np.count_nonzero(per_tile, axis=0)
    return tuple(
        ClassShare(name, int(pixels[index]), _share(pixels[index], pixels.sum()), int(tiles[index]))
        for index, name in enumerate(classes.names)
    )
