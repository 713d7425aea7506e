"""`s4aug-train reproduce`: a table of the paper, ours beside theirs."""

from pathlib import Path
from typing import Any

import click

from ..limits import CHOICES
from ..presets import configured
from ..reproduce import paper
from ..reproduce.grid import SEEDS, TABLES, Grid
from .options import data_options, device_options, require_data, set_option, settings_of, workers_option


class Numbers(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases alone
    """Whole numbers from `least` on, as in 20,50,100.

    Args:
        least: What each must be at least.
    """

    name = "numbers"

    def __init__(self, least: int) -> None:
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Each once, in the order given."""
        if isinstance(value, tuple):
            return value
        parts = value.replace(",", " ").split()
        if not parts or not all(part.isdecimal() and int(part) >= self.least for part in parts):
            self.fail(f"{value!r} is not a list of whole numbers from {self.least} on, as in 1,2", param, ctx)
        return tuple(dict.fromkeys(map(int, parts)))


@click.command()
@click.argument("table", type=click.Choice(list(TABLES)))
@data_options
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the runs and results.")
@click.option("--seeds", type=Numbers(0), default=SEEDS, metavar="N,N", help="One run each; 0,1,2 by default.")
@click.option("--labels", type=Numbers(1), metavar="N,N", help="Labelled tiles; 100, of table4 20,50,100 by default.")
@click.option("--budget", type=click.IntRange(1), metavar="STEPS", help="Steps of a run; the paper's are 100,000.")
@click.option("--encoder", type=click.Choice(CHOICES["model.encoder"]), help="The paper's is resnet50.")
@click.option("--scale", type=float, metavar="S", help="Crops and windows of 512 S px. Tiles are not resized.")
@click.option("--weights", metavar="imagenet|none|PATH", help="Of the encoder; imagenet by default.")
@device_options
@workers_option
@set_option
@click.option("--jobs", type=click.IntRange(1), metavar="N", help="Runs at once; one a GPU, on the CPU 1 by default.")
@click.option("--dry-run", is_flag=True, help="Tell the runs and how long they will take, and end.")
def reproduce(table: str, out: Path, jobs: int | None, dry_run: bool, **options: Any) -> None:
    """Train all runs of a table of the paper, or go on, and show ours beside the paper's figures."""
    labels, seeds, scale = (options.pop(name) for name in ("labels", "seeds", "scale"))
    given = _given(options)
    data = configured({key: value for key, value in given.items() if key.startswith("data.")}).data
    require_data(data)
    from ..reproduce.plan import Plan, scaled
    from .grid import work_off

    sides = {} if scale is None else scaled(scale)
    usual = paper.LABEL_COUNTS if table == "table4" else (data.labeled,)
    work_off(Plan(Grid(table, labels or usual, seeds), {**sides, **given}), out, jobs, dry_run)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """The settings that are asked for."""
    names = {"budget": "train.steps", "encoder": "model.encoder"}
    ours = {key: options.pop(name) for name, key in names.items()}
    assignments = options.pop("assignments")
    return {key: value for key, value in ours.items() if value is not None} | settings_of(options, assignments)
