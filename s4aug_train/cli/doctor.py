"""`s4aug-train doctor`: check a data set before training on it."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import ConfigError, DataError
from ..files import shell_path
from ..presets import configured
from .line import one_line
from .options import data_options, refuse_existing, require_data, set_option, settings_of, split_options
from .reporter import Reporter

if TYPE_CHECKING:
    from ..data.layouts import Listing
    from ..data.palette import ClassTable
    from ..diagnosis import Report, Seen

ROWS = 20  # shown of a table of colours, files or sizes
SHOWN_EXAMPLES = 2  # tiles that hold a colour; --json has more


@click.command()
@data_options
@split_options
@set_option
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--write-classes", type=click.Path(path_type=Path), help="Write the class table, or a proposal.")
@click.option("--write-groups", type=click.Path(path_type=Path), help="Write a tiles.csv: a group for each folder.")
@click.pass_context
def doctor(
    context: click.Context,
    /,
    as_json: bool,
    write_classes: Path | None,
    write_groups: Path | None,
    assignments: tuple[str, ...],
    **options: Any,
) -> None:
    """Check a data set: files, sizes, classes, and whether training would fail (exit 1)."""
    given = settings_of(options, assignments)
    config = configured(given).data
    if config.split:
        raise ConfigError("the doctor looks at what fit would draw; leave out data.split")
    require_data(config)
    for path, option in ((write_classes, "--write-classes"), (write_groups, "--write-groups")):
        if path is not None:
            refuse_existing(path, option)
    from ..data.dataset import list_tiles, with_further
    from ..data.layouts import choose_classes
    from ..doctor import inspect

    with Reporter() as reporter:
        listing = list_tiles(config, reporter.progress)
        classes = choose_classes(listing, Path(config.classes) if config.classes else None)
        report = inspect(
            with_further(listing, config),
            classes,
            labeled=config.labeled if "data.labeled" in given else None,
            config=config,
            on_progress=lambda done, total: reporter.progress("checking tiles", done, total),
        )
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2))
    else:
        print_report(report, Console())
    if write_classes is not None:
        click.echo(one_line(_write_classes(write_classes, classes, report)), err=as_json)
    if write_groups is not None:
        click.echo(one_line(_write_groups(write_groups, listing, by_path=bool(config.image_pattern))), err=as_json)
    context.exit(0 if report.ok else 1)


def _write_classes(path: Path, known: "ClassTable | None", report: "Report") -> str:
    """Write the class table, or a proposal, and say so."""
    from ..doctor import proposed_classes

    classes = known or proposed_classes(report)
    if classes is None:
        raise DataError(f"cannot propose classes for {path}: the masks hold too many values; write it by hand")
    classes.write(path)
    if known is not None:
        return f"{path}: the class table"
    return (
        f"{path}: {len(classes.entries)} classes proposed; name them in it, and give it as --classes {shell_path(path)}"
    )


def _write_groups(path: Path, listing: "Listing", *, by_path: bool) -> str:
    """Write spatial groups to begin with, by the folders of ids or of paths, and say so."""
    from ..data.split import groups_by_folder

    root = listing.root
    places = {t.id: t.image.relative_to(root).as_posix() if by_path else t.id for t in listing.tiles}
    groups = groups_by_folder(places)
    groups.write(path)
    count = len(set(groups.group.values()))
    place = listing.root / "tiles.csv"
    keep = "" if path.resolve() == place.resolve() else f" and keep it as {place}"
    tiles = f"{path}: {len(groups.group)} tiles in {count} spatial groups by folder"
    return f"{tiles}; where neighbours are in several, give them one name{keep}"


def print_report(report: "Report", console: Console) -> None:
    """Print a report for people."""
    console.print(_overview(report))
    for table in _tables(report):
        console.print(table)
    for problem in report.problems:
        line = f"{'ERROR' if problem.fatal else 'note'}: {problem.what}; {problem.cure}"
        console.print(one_line(line), markup=False, soft_wrap=True)
    console.print("Training can start." if report.ok else "Training would fail.")


def _tables(report: "Report") -> Iterator[Table]:
    if report.classes:
        classes = [(c.name, f"{c.pixels:,}", f"{c.share:.2%}", f"{c.tiles:,}") for c in report.classes]
        yield _rows("Classes", ("Class", "Pixels", "Share", "Tiles"), classes, limit=255)
    for title, items in (("Not in the class table", report.off_palette), ("In the masks", report.observed)):
        if items:
            seen = [(_sample(s.item), f"{s.pixels:,}", f"{s.tiles:,}", _such_as(s)) for s in items]
            yield _rows(title, ("Colour or value", "Pixels", "Tiles", "Such as"), seen)
    if report.mismatches:
        sizes = [(m.id, "{} x {}".format(*m.image), "{} x {}".format(*m.mask)) for m in report.mismatches]
        yield _rows("Sizes that differ", ("Tile", "Image", "Mask"), sizes)
    if report.unreadable:
        faults = [(fault.path, fault.reason) for fault in report.unreadable]
        yield _rows("Files that cannot be used", ("File", "Reason"), faults)


def _overview(report: "Report") -> Table:
    rows = [
        ("Data set", report.root),
        ("Layout", "; ".join((report.layout, *report.notes))),
        ("Labelled tiles", f"{report.pairs:,}"),
        ("Unlabelled tiles", f"{report.unlabelled:,}"),
        ("Training", f"up to {report.training:,} labelled tiles; {report.validation:,} held out for validation"),
        *([("Groups held out", _some(report.held_out))] if report.held_out else []),
        ("Masks without image", f"{len(report.orphan_masks):,}"),
        ("Sizes (H x W px)", _kinds(report.sizes)),
        ("Bands", _kinds(report.bands)),
        ("Pixels", _kinds(report.dtypes)),
        ("Nodata", f"{report.nodata_share:.2%} of image pixels"),
        ("Ignored", _ignored(report)),
    ]
    table = Table(show_header=False)
    for name, value in rows:
        table.add_row(name, Text(one_line(value), overflow="fold"))
    return table


def _ignored(report: "Report") -> str:
    share = f"{report.ignored_share:.2%} of mask pixels"
    return f"{share}; named in the class table: {', '.join(report.ignored)}" if report.ignored else share


def _such_as(seen: "Seen") -> str:
    """Tiles with the most of it, the first with how many pixels."""
    return ", ".join([f"{seen.examples[0]} ({seen.most:,} px)", *seen.examples[1:SHOWN_EXAMPLES]])


def _sample(item: str) -> Text:
    """A value as it is; a colour "255,0,0" with a sample of it, which only terminals show."""
    text = Text(item)
    if item.count(",") == 2:
        text.append(" ").append("  ", style=f"on rgb({item})")
    return text


def _kinds(histogram: dict[str, int]) -> str:
    return _some([f"{kind} ({count:,})" for kind, count in histogram.items()])


def _some(items: Sequence[str]) -> str:
    more = [f"and {len(items) - ROWS} more"] if len(items) > ROWS else []
    return ", ".join([*items[:ROWS], *more])


def _rows(title: str, header: Sequence[str], rows: Sequence[Sequence[str | Text]], *, limit: int = ROWS) -> Table:
    table = Table(title=Text(title), title_justify="left")
    for name in header:
        right = name in ("Pixels", "Share", "Tiles")
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in rows[:limit]:
        table.add_row(*(cell if isinstance(cell, Text) else Text(one_line(cell)) for cell in row))
    if len(rows) > limit:
        table.add_row(f"and {len(rows) - limit:,} more")
    return table
