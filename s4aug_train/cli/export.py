"""`s4aug-train export`: a trained network in a format that others read."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..data.folder import check_folder
from ..limits import SUFFIXES, check_export
from ..run import find_checkpoint
from .line import one_line
from .options import model_option
from .reporter import Reporter

if TYPE_CHECKING:
    from ..exporting import Export


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(list(SUFFIXES)), required=True, help="Of the file.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write: .onnx, .pt2, .safetensors.")
@click.option("--data", metavar="PATH", help="Folder of tiles to compare on, in place of the run's.")
@model_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def export(run: Path, form: str, out: Path, as_json: bool, **options: Any) -> None:
    """Write the network of RUN (a run folder or a checkpoint file) for use elsewhere, and check it.

    The file is run on random images and on tiles of the run's data, and must give the same probabilities.
    """
    check_export(form, out)
    find_checkpoint(run)
    if options["data"] is not None:
        check_folder(Path(options["data"]))
    from .. import api

    with Reporter() as reporter:
        done = api.export(run, out, format=form, **options, on_progress=reporter.progress)
    click.echo(json.dumps(done.to_json()) if as_json else "\n".join(map(one_line, _lines(done))))


def _lines(done: "Export") -> list[str]:
    """What came of it, for people."""
    lines = [f"{done.path}: {done.format}, {done.size / 1e6:.1f} MB, step {done.step}, weights {done.weights[:16]}"]
    for parity in done.parities:
        lines.append(
            f"on {parity.images} {parity.what} images: probabilities differ by up to {parity.largest:.2g}, labels of "
            f"{parity.differing} of {parity.pixels:,} px ({100 * parity.differing / parity.pixels:.4f} %)"
        )
    if done.without_real:
        lines.append(f"not compared on real tiles: {done.without_real}")
    return lines
