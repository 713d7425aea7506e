"""`s4aug-train preview`: a picture of what the perturbation does."""

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from ..presets import configured
from .line import one_line
from .options import data_options, method_option, preset_option, require_data, require_named, set_option, settings_of
from .picture import Picture, can_show
from .reporter import Reporter


@click.command()
@data_options
@method_option
@preset_option
@click.option("--crop", type=click.IntRange(64), metavar="PX", help="Side of a crop.")
@click.option("--seed", type=click.IntRange(0), help="Of tiles, crops and motions.")
@set_option
@click.option("--out", type=click.Path(path_type=Path), help="Picture to write, .png or .jpg.")
def preview(out: Path | None, preset_name: str | None, assignments: tuple[str, ...], **options: Any) -> None:
    """Show what the perturbation does to some of your tiles: views, masks, and both views undone."""
    typed = settings_of(options, assignments)
    config = configured(typed, preset_name)
    require_data(config.data)
    require_named(config, typed)
    console = Console()
    if out is None and not can_show(console):
        raise click.UsageError("--out FILE.png is missing: this terminal cannot show pictures")
    from ..data.raster import picture_format, write_image

    if out is not None:
        picture_format(out)
    from ..preview import preview as preview_of

    with Reporter() as reporter:
        picture = preview_of(config, reporter.progress)
    if out is not None:
        write_image(out, picture.transpose(2, 0, 1))
        click.echo(one_line(f"{out}: {picture.shape[1]} x {picture.shape[0]} px"))
    if can_show(console):
        console.print(Picture(picture))
