"""`s4aug-train report`: runs as one page."""

from pathlib import Path
from typing import Any

import click

from ..run import check_there
from .line import one_line
from .options import (
    data_options,
    device_options,
    model_option,
    require_changed,
    set_option,
    settings_of,
    split_choice,
    workers_option,
)
from .reporter import Reporter


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Page to write.  [default: report.html in a single RUN]")
@split_choice
@click.option(
    "--unlabeled-tiles",
    type=click.IntRange(0),
    default=100,
    show_default=True,
    metavar="N",
    help="Unlabelled tiles to look at, for what to label next; 0: none.",
)
@click.option("--title", metavar="TEXT", help="Title of the page, instead of one made of the runs' names.")
@data_options
@model_option
@device_options
@workers_option
@set_option
def report(
    runs: tuple[Path, ...],
    out: Path | None,
    split: str,
    unlabeled_tiles: int,
    title: str | None,
    assignments: tuple[str, ...],
    **options: Any,
) -> None:
    """Write RUN... (run folders or checkpoint files) as one page: results, curves, pictures, settings."""
    changes = settings_of(options, assignments)
    for run in runs:
        check_there(run)
    require_changed(changes, split)
    from .. import api

    with Reporter() as reporter:
        show = reporter.line
        written = api.report(
            runs,
            changes,
            out=out,
            split=split,
            unlabelled=unlabeled_tiles,
            title=title,
            on_note=lambda note: show(note.text),
            on_progress=reporter.progress,
        )
    click.echo(one_line(f"{written}: {written.stat().st_size / 1e6:.2f} MB"))
