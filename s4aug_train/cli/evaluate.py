"""`s4aug-train evaluate`: a run or a checkpoint on whole tiles."""

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from .. import api
from .options import data_options, device_options, model_option, set_option, settings_of
from .reporter import Reporter, evaluation_table


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@data_options
@click.option("--split", default="val", show_default=True, metavar="val|FILE", help="Which tiles; FILE: its val.")
@model_option
@device_options
@set_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate(run: Path, split: str, assignments: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Evaluate RUN (a run folder or a checkpoint file): IoU by class over one confusion matrix."""
    changes = settings_of(options, assignments)
    with Reporter() as reporter:
        show = reporter.line
        record = api.evaluate(
            run, changes, split=split, on_note=lambda note: show(note.text), on_progress=reporter.progress
        )
    if as_json:
        click.echo(json.dumps(record.to_json()))
    else:
        Console().print(evaluation_table(record, f"{run}, step {record.step}, {record.tiles} tiles"))
