"""`s4aug-train split`: draw a split and write it down."""

from pathlib import Path
from typing import Any

import click

from ..presets import configured
from ..records import LeftOut
from .line import one_line
from .options import data_options, refuse_existing, require_data, set_option, settings_of, split_options
from .reporter import Reporter


@click.command()
@data_options
@split_options
@set_option
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Manifest to write (JSON).")
def split(out: Path, assignments: tuple[str, ...], **options: Any) -> None:
    """Divide tiles into labelled, unlabelled and validation, by seed, stratified by class presence."""
    config = configured(settings_of(options, assignments))
    require_data(config.data)
    refuse_existing(out, "--out")
    from ..data.dataset import load_dataset

    with Reporter() as reporter:
        dataset = load_dataset(
            config.data, config.train.seed, workers=config.train.workers, on_progress=reporter.progress
        )
        for note in LeftOut(dataset.left_out).notes():
            reporter.line(note.text)
    dataset.split.write(out)
    parts = f"{len(dataset.labeled)} labelled, {len(dataset.unlabeled)} unlabelled, {len(dataset.val)} validation"
    click.echo(one_line(f"{out}: {parts} ({dataset.split.how}), hash {dataset.split.hash}"))
