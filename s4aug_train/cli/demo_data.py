"""`s4aug-train demo-data`: write the procedural demo set."""

from pathlib import Path

import click

from ..data.demo import Demo
from .line import one_line
from .reporter import Reporter


@click.command("demo-data")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--tiles", type=click.IntRange(1), default=Demo.tiles, show_default=True, help="Pairs in train/.")
@click.option(
    "--unlabeled", type=click.IntRange(0), default=Demo.unlabeled, show_default=True, help="Images in valid/."
)
@click.option("--size", type=click.IntRange(64), default=Demo.size, show_default=True, help="Side of a tile, px.")
@click.option("--seed", type=click.IntRange(0), default=Demo.seed, show_default=True)
def demo_data(folder: Path, tiles: int, unlabeled: int, size: int, seed: int) -> None:
    """Write a made-up land-cover set to FOLDER, in the official DeepGlobe layout."""
    demo = Demo(tiles, unlabeled, size, seed)
    from ..data.synthetic import write_demo

    with Reporter() as reporter:
        write_demo(
            folder,
            demo,
            on_progress=lambda done, total: reporter.progress("making tiles", done, total),
        )
    click.echo(
        f"{one_line(str(folder))}: {tiles} pairs in train/, {unlabeled} images in valid/, {size} px, seed {seed}"
    )
