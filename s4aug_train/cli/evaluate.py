"""`s4aug-train evaluate`: a run or a checkpoint on whole tiles, or two side by side."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from ..errors import ConfigError
from ..files import write_json
from ..launch import here
from ..run import find_checkpoint
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

if TYPE_CHECKING:
    from ..assessment import Assessment
    from ..comparison import Comparison


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@data_options
@split_choice
@click.option("--against", metavar="RUN", type=click.Path(path_type=Path), help="Compare with it on the same tiles.")
@click.option("--tta", metavar="flips|affine:K", help="Average the predictions of so many views, undone.")
@click.option("--smooth", is_flag=True, help="Windows fade into each other.")
@model_option
@device_options
@workers_option
@set_option
@click.option("--confusion", is_flag=True, help="Show the confusion matrix.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write the same JSON to a file.")
def evaluate(
    run: Path,
    split: str,
    against: Path | None,
    tta: str | None,
    smooth: bool,
    assignments: tuple[str, ...],
    confusion: bool,
    as_json: bool,
    out: Path | None,
    **options: Any,
) -> None:
    """Evaluate RUN (a run folder or a checkpoint file): IoU by class over one confusion matrix."""
    if out is not None and out.is_dir():
        raise ConfigError(f"--out {out} is a folder; give a file")
    changes, rank = settings_of(options, assignments), here()
    runs = [run, against] if against else [run]
    for each in runs:
        find_checkpoint(each)
    require_changed(changes, split)
    from ..examination import assess_all

    with Reporter(quiet=not rank.first) as reporter:
        show = reporter.line
        found = assess_all(
            runs,
            changes,
            split=split,
            tta=tta,
            smooth=smooth,
            on_note=lambda note: show(note.text),
            on_progress=reporter.progress,
        )
    if rank.first:
        _tell(found, run, against, confusion=confusion, as_json=as_json, out=out)


def _tell(
    found: "list[Assessment]", run: Path, against: Path | None, *, confusion: bool, as_json: bool, out: Path | None
) -> None:
    """Print and write what was found."""
    from ..comparison import compare
    from .assessed import print_assessment, print_comparison, print_confusion

    first, last = found[0], found[-1]
    intervals = first.intervals()
    comparison = None if against is None else compare(first, last)
    told = {**first.summary(intervals), "comparison": _comparison_json(last, against, comparison)}
    if as_json:
        click.echo(json.dumps(told))
    else:
        console = Console()
        print_assessment(console, first, intervals, f"{run}, step {first.step}, {len(first.tiles)} tiles")
        if comparison is not None and against is not None:
            print_comparison(console, first, last, comparison, against)
        if confusion:
            print_confusion(console, first)
    if out is not None:
        write_json(out, told)


def _comparison_json(
    other: "Assessment", against: Path | None, comparison: "Comparison | None"
) -> dict[str, Any] | None:
    if comparison is None:
        return None
    told = {"against": str(against), "step": other.step, "miou": other.miou, "iou": other.iou()}
    return {**told, **asdict(comparison), "shown": comparison.shown}
