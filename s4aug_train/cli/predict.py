"""`s4aug-train predict`: maps of whole rasters."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..launch import here
from ..run import find_checkpoint
from .line import one_line
from .options import device_options, model_option, set_option, settings_of
from .reporter import Reporter

if TYPE_CHECKING:
    from ..prediction import Made


class Numbers(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases alone
    """Numbers with commas between them.

    Args:
        kind: int or float.
        most: How many there may be.
    """

    name = "numbers"

    def __init__(self, kind: type, most: int) -> None:
        self.kind, self.most = kind, most

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """The numbers of a text."""
        try:
            numbers = tuple(self.kind(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} must be numbers with commas between them, as in 1,2,3", param, ctx)
        if len(numbers) > self.most:
            self.fail(f"{value!r} holds {len(numbers)} numbers, {self.most} at most", param, ctx)
        return numbers


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the maps.")
@click.option("--bands", type=Numbers(int, 1000), metavar="N,N,...", help="Bands to use, from 1, as in training.")
@click.option("--scale", type=Numbers(float, 2), metavar="FACTOR[,OFFSET]", help="What makes pixels as in training.")
@click.option("--nodata", type=float, metavar="VALUE", help="Not real where all bands have it.")
@click.option("--tta", metavar="flips|affine:K", help="Also predict views of each window, undone and averaged.")
@click.option("--window", type=click.IntRange(32), metavar="PX", help="Side of a window; by default the run's.")
@click.option("--overlap", type=click.IntRange(0), metavar="PX", help="Of windows; by default a quarter of them.")
@click.option("--batch", type=click.IntRange(1), metavar="N", help="Windows per forward; by default 4, 1 on the CPU.")
@click.option("--confidence", is_flag=True, help="Also write NAME_confidence.tif: confidence and entropy.")
@click.option("--probabilities", is_flag=True, help="Also write NAME_probabilities.tif: a band for each class.")
@click.option("--overwrite", is_flag=True, help="Make maps again that are there.")
@model_option
@device_options
@set_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def predict(run: Path, inputs: tuple[str, ...], assignments: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Predict rasters with RUN: for each INPUT a map of labels, a Cloud Optimized GeoTIFF on its grid.

    RUN is a run folder, a checkpoint, or a file of export (.onnx, .safetensors). INPUT is a GeoTIFF, VRT, JPEG or PNG,
    a folder of them or a glob. Maps go to --out; those that are there already are skipped. With torchrun, each process
    takes its share of the rasters.
    """
    setting = {name: options.pop(name) for name in ("model", "device", "precision")}
    changes, first = settings_of(setting, assignments), here().first
    find_checkpoint(run)
    from .. import api

    with Reporter(quiet=not first) as reporter:
        made = api.predict(inputs, run, changes, on_progress=reporter.progress, **_checked(options))
    if first:
        _tell(made, as_json)
    if any(each.failure for each in made):
        raise SystemExit(1)


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    """What `api.predict` takes: a factor alone has the offset 0."""
    scale = options["scale"]
    return {**options, "scale": None if scale is None else (*scale, 0.0)[:2]}


def _tell(made: "Sequence[Made]", as_json: bool) -> None:
    """The maps, and on stderr what there is to say of them; failures last, where they are seen."""
    told = [unplaced_note(made), *lost_notes(made)]
    if as_json:
        click.echo(json.dumps([_json(each) for each in made]))
    else:
        for each in made:
            if not each.failure:
                click.echo(one_line(f"{each.job.out}{': was there already' if each.skipped else ''}"))
        failures = [f"failed: {each.failure}" for each in made if each.failure]
        told = [shares_text(made), *told, *failures]
    for text in told:
        if text:
            click.echo(one_line(text), err=True)


def _json(made: "Made") -> dict[str, Any]:
    outcome = "failed" if made.failure else "skipped" if made.skipped else "made"
    told = {"input": str(made.job.source), "map": str(made.job.out), "outcome": outcome, "failure": made.failure}
    return {**told, "shares": shares(made.pixels)}


def shares(pixels: Mapping[str, int]) -> dict[str, float] | None:
    """By class, of the pixels that are not nodata; None where no pixels are known."""
    whole = sum(pixels.values())
    return {name: count / whole for name, count in pixels.items()} if whole else None


def shares_text(made: "Sequence[Made]") -> str | None:
    """How much of the maps each class has, over all of them; None where no map says it."""
    counted = [each.pixels for each in made if each.pixels]
    total = {name: sum(pixels[name] for pixels in counted) for name in (counted[0] if counted else ())}
    found = shares(total)
    if found is None:
        return None
    maps = sum(not each.failure for each in made)
    which = "the map" if maps == 1 else f"the {maps} maps"
    which = which if len(counted) == maps else f"{len(counted)} of {which}"
    classes = ", ".join(f"{name} {_percent(share)}" for name, share in found.items())
    return f"classes of {which}, % of {sum(total.values())} valid pixels: {classes}"


def _percent(share: float) -> str:
    return "<0.1" if 0 < share < 0.0005 else f"{100 * share:.1f}"


def lost_notes(made: "Sequence[Made]") -> Iterator[str]:
    """What of the maps is not as one would think."""
    lost = [each.job for each in made if each.system_lost]
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        yield (
            f"note: a GeoTIFF cannot tell the CRS of {lost[0].source}{more}, so {lost[0].out}{more} has none: warp the "
            f"raster to one with an EPSG code (gdalwarp -t_srs), or give the map the raster's"
        )
    older = [path for each in made for path in each.older]
    if older:
        more = f" and {len(older) - 1} more" if len(older) > 1 else ""
        yield (
            f"note: {older[0]}{more} was there and does not go with the new map (another network, request or raster): "
            f"remove it, or ask for it too with --overwrite"
        )


def unplaced_note(made: "Sequence[Made]") -> str | None:
    """Rasters that do not say where they lie; None where all do."""
    sources = [each.job.source for each in made if not each.placed]
    if not sources:
        return None
    why = "(no CRS, or no geotransform)"
    if len(sources) == 1:
        return f"note: {sources[0]} does not say where on earth it lies {why}, so its map does not either"
    some = f"{len(sources)} rasters, for example {sources[0]},"
    return f"note: {some} do not say where on earth they lie {why}, so their maps do not either"
