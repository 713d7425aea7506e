"""What a call of `reproduce` is to do: the grid, the settings of each run, and what in them is not the paper's."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..config import Config
from ..engine import FREE_ON_RESUME
from ..errors import ConfigError
from ..presets import configured
from . import paper
from .grid import Cell, Grid
from .survey import Survey

# What the grid itself decides, and what decides it.
DECIDED = {
    "data.labeled": "use --labels",
    "data.split": "the grid draws its splits: use --labels, --seeds and data.split_seed",
    "train.seed": "use --seeds",
    "method.name": "the table says which methods",
    "method.weight": "lambda is the paper's 2, and what fig5 compares",
    "model.factory": "the grid trains the paper's network",
}
# Settings that may differ between calls: where and how fast, not what.
FREE = FREE_ON_RESUME - {"train.accumulate", "data.unlabeled"}
LEAST_SAVED = 50  # steps between checkpoints; else a twentieth of the run, and 1000 at most
# Told in other words, by the survey and by the grid; or without influence on what is learned.
UNTOLD = {*FREE, "data.val", "data.split_seed", "data.image_pattern", "data.mask_pattern", "train.seed"}
UNTOLD |= {"data.labeled", "train.compile", "train.graph", "train.sync_batchnorm"}


@dataclass(frozen=True)
class Plan:
    """A grid and the settings that all its runs share.

    Args:
        grid: The runs.
        given: `group.field` to value, as asked for; `method.*` is S4Net's alone.

    Raises:
        ConfigError: A setting is unknown or wrong, or one that the grid decides.
    """

    grid: Grid
    given: Mapping[str, Any]

    def __post_init__(self) -> None:
        for key, cure in DECIDED.items():
            if key in self.given:
                raise ConfigError(f"reproduce sets {key} itself; {cure}")
        for cell in self.grid.cells():
            self.config(cell)

    def config(self, cell: Cell) -> Config:
        """All settings of a run."""
        given = {**_paper_pools(), **_evaluated_once(), **self._given_to(cell.method), **cell.settings()}
        steps = configured(given).train.steps
        return configured({"train.checkpoint_every": min(1000, max(LEAST_SAVED, steps // 20)), **given})

    def common(self) -> dict[str, Any]:
        """What all runs of one folder must have alike, `group.field` to value."""
        any_run = Cell("s4net", paper.LABELS, 0)
        flat = self.config(any_run).flat()
        return {key: value for key, value in flat.items() if key not in {*FREE, *any_run.settings()}}

    def differences(self, survey: Survey) -> tuple[str, ...]:
        """What is not the paper's setting, in words; empty if all is."""
        settings = [line for cell in self.grid.cells() for line in self._changed(cell)]
        return tuple(dict.fromkeys([*survey.differences(), *self._labels_and_seeds(), *settings]))

    def _given_to(self, method: str) -> dict[str, Any]:
        alone = {key: value for key, value in self.given.items() if not key.startswith("method.")}
        return dict(self.given) if method == "s4net" else alone

    def _changed(self, cell: Cell) -> Iterator[str]:
        ours, theirs = self.config(cell).flat(), configured({**_paper_pools(), **cell.settings()}, "paper").flat()
        for key, value in theirs.items():
            if ours[key] != value and key not in UNTOLD:
                yield f"{key} {_shown(ours[key])} instead of {_shown(value)}"

    def _labels_and_seeds(self) -> Iterator[str]:
        known = paper.LABEL_COUNTS if self.grid.table == "table4" else (paper.LABELS,)
        others = [str(count) for count in self.grid.labels if count not in known]
        if others:
            yield f"{', '.join(others)} labelled tiles instead of {', '.join(map(str, known))}"
        if self.grid.table == "table4" and len(self.grid.seeds) != 3:
            yield f"{len(self.grid.seeds)} seed{'' if len(self.grid.seeds) == 1 else 's'} instead of 3"


def scaled(scale: float) -> dict[str, int]:
    """Crops and windows of `scale` times the paper's 512 px; tiles stay as they are.

    Raises:
        ConfigError: There would be less than 64 px, or more than 1.
    """
    if not 0.125 <= scale <= 1:
        raise ConfigError(f"--scale must be from 0.125 (crops of 64 px) to 1 (the paper's 512 px), got {scale:g}")
    side = round(paper.CROP_PX * scale)
    return {"train.crop": side, "train.window": side, "train.stride": round(paper.STRIDE_PX * scale)}


def _paper_pools() -> dict[str, Any]:
    """The paper's unlabelled tiles are training pairs whose masks are not used."""
    return {"data.unpaired": False}


def _evaluated_once() -> dict[str, Any]:
    """At the end: figures are of the last checkpoint."""
    return {"train.evaluate_every": 10**9}


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
