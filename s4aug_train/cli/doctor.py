"""`s4aug-train doctor`: check a data set before training on it."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..config import Config
from ..data.dataset import list_tiles
from ..data.layouts import choose_classes
from ..data.palette import ClassTable
from ..doctor import Report, inspect, proposed_classes
from ..errors import DataError
from .line import one_line
from .options import data_options, refuse_existing, require_data, settings_of, split_options
from .reporter import Reporter

ROWS = 20  # shown of a table of colours, files or sizes


@click.command()
@data_options
@split_options
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--write-classes", type=click.Path(path_type=Path), help="Write the class table, or a proposal.")
@click.pass_context
def doctor(context: click.Context, /, as_json: bool, write_classes: Path | None, **options: Any) -> None:
    """Check a data set: files, sizes, classes, and whether training would fail (exit 1)."""
    config = Config().updated(settings_of(options)).data
    require_data(config)
    if write_classes is not None:
        refuse_existing(write_classes, "--write-classes")
    with Reporter() as reporter:
        listing = list_tiles(config, reporter.progress)
        classes = choose_classes(listing, Path(config.classes) if config.classes else None)
        report = inspect(
            listing,
            classes,
            plan=config if options["labeled"] else None,
            mismatch=config.mismatch,
            on_progress=lambda done, total: reporter.progress("checking tiles", done, total),
        )
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2))
    else:
        print_report(report, Console())
    if write_classes is not None:
        _write_classes(write_classes, classes or proposed_classes(report))
    context.exit(0 if report.ok else 1)


def _write_classes(path: Path, classes: ClassTable | None) -> None:
    if classes is None:
        raise DataError(f"cannot propose classes for {path}: the masks hold too many values; write it by hand")
    classes.write(path)


def print_report(report: Report, console: Console) -> None:
    """Print a report for people."""
    console.print(_overview(report))
    for table in _tables(report):
        console.print(table)
    for problem in report.problems:
        line = f"{'ERROR' if problem.fatal else 'note'}: {problem.what}; {problem.cure}"
        console.print(one_line(line), markup=False, soft_wrap=True)
    console.print("Training can start." if report.ok else "Training would fail.")


def _tables(report: Report) -> Iterator[Table]:
    if report.classes:
        classes = [(c.name, f"{c.pixels:,}", f"{c.share:.2%}", f"{c.tiles:,}") for c in report.classes]
        yield _rows("Classes", ("Class", "Pixels", "Share", "Tiles"), classes, limit=255)
    for title, items in (("Not in the class table", report.off_palette), ("In the masks", report.observed)):
        if items:
            seen = [(s.item, f"{s.pixels:,}", f"{s.tiles:,}", ", ".join(s.examples)) for s in items]
            yield _rows(title, ("Colour or value", "Pixels", "Tiles", "Such as"), seen)
    if report.mismatches:
        sizes = [(m.id, "{} x {}".format(*m.image), "{} x {}".format(*m.mask)) for m in report.mismatches]
        yield _rows("Sizes that differ", ("Tile", "Image", "Mask"), sizes)
    if report.unreadable:
        faults = [(fault.path, fault.reason) for fault in report.unreadable]
        yield _rows("Files that cannot be used", ("File", "Reason"), faults)


def _overview(report: Report) -> Table:
    rows = [
        ("Data set", report.root),
        ("Layout", "; ".join((report.layout, *report.notes))),
        ("Labelled tiles", f"{report.pairs:,}"),
        ("Unlabelled tiles", f"{report.unlabelled:,}"),
        ("Training", f"up to {report.training:,} labelled tiles; {report.validation:,} held out for validation"),
        ("Masks without image", f"{len(report.orphan_masks):,}"),
        ("Sizes (H x W px)", _kinds(report.sizes)),
        ("Bands", _kinds(report.bands)),
        ("Pixels", _kinds(report.dtypes)),
        ("Nodata", f"{report.nodata_share:.2%} of image pixels"),
        ("Ignored", f"{report.ignored_share:.2%} of mask pixels"),
    ]
    table = Table(show_header=False)
    for name, value in rows:
        table.add_row(name, Text(one_line(value), overflow="fold"))
    return table


def _kinds(histogram: dict[str, int]) -> str:
    parts = [f"{kind} ({count:,})" for kind, count in list(histogram.items())[:ROWS]]
    more = [f"and {len(histogram) - ROWS} more"] if len(histogram) > ROWS else []
    return ", ".join(parts + more)


def _rows(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, limit: int = ROWS) -> Table:
    table = Table(title=Text(title), title_justify="left")
    for name in header:
        right = name in ("Pixels", "Share", "Tiles")
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in rows[:limit]:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    if len(rows) > limit:
        table.add_row(f"and {len(rows) - limit:,} more")
    return table
