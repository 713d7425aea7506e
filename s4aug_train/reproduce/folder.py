"""The folder of a grid: its runs, their settings and logs, and what they share."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ..config import Config, read_settings
from ..errors import ConfigError, DataError
from ..files import parse_json, write_json, write_text
from ..records import read_metrics
from ..run import RunFolder
from .grid import SUPERVISED, Cell
from .plan import FREE, Plan

TAIL_BYTES = 8192  # of a metrics.jsonl: holds its last lines


@dataclass(frozen=True)
class Outcome:
    """The final evaluation of a run, and its speed.

    Args:
        miou: In %.
        iou: By class, in %; None where the truth does not hold it.
        step_s: Seconds of a step, in the middle of all; 0 where nothing was logged.
    """

    miou: float
    iou: Mapping[str, float | None]
    step_s: float


@dataclass(frozen=True)
class GridFolder:
    """Where a grid keeps what it makes; several tables may share one.

    Args:
        path: The folder.
    """

    path: Path

    @property
    def shared(self) -> Path:
        """What all runs have alike: settings and data."""
        return self.path / "grid.json"

    def run(self, cell: Cell) -> RunFolder:
        """Of one run."""
        return RunFolder(self.path / "runs" / cell.name)

    def settings(self, cell: Cell) -> Path:
        """All settings of one run, for `fit --config`."""
        return self.path / "settings" / f"{cell.name}.yaml"

    def log(self, cell: Cell) -> Path:
        """What its process printed, the last time."""
        return self.path / "logs" / f"{cell.name}.txt"

    def results(self, table: str) -> Path:
        """Folder of a table's results."""
        return self.path / table

    def check(self) -> None:
        """Hold the folder to being new or a grid's; nothing is touched.

        Raises:
            ConfigError: It is something else.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"--out {self.path} is a file; give a folder")
        # A hidden file is a lock, or a file manager's.
        if self.path.is_dir() and not self.shared.exists() and list(self.path.glob("[!.]*")):
            raise ConfigError(f"--out {self.path} holds something that is no grid of reproduce; give another folder")

    def check_common(self, plan: Plan, data: str | None = None) -> None:
        """Hold a plan to the settings and the data that the folder's runs have.

        Args:
            plan: What is to be done.
            data: As `decoded` gives it; None: not looked at yet.

        Raises:
            ConfigError: One differs; it is named with both values.
        """
        if not self.shared.exists():
            return
        old = self._read_shared()
        # A setting that is newer than the folder had its default.
        had = {**Config().flat(), **old["settings"]}
        changed = [f"{key} (was {had[key]}, now {value})" for key, value in plan.common().items() if had[key] != value]
        if data is not None and old["data"] != data:
            changed.append("the data (other tiles, masks or validation tiles)")
        if changed:
            raise ConfigError(
                f"--out {self.path} holds runs with other settings: {'; '.join(changed)}; put it back, or give another "
                f"--out"
            )

    def begin(self, plan: Plan, data: str) -> None:
        """Write down what all runs share, and the settings of each, once it is held to what is there."""
        self.check_common(plan, data)
        if not self.shared.exists():
            write_json(self.shared, {"settings": plan.common(), "data": data})
        for cell in plan.grid.cells():
            write_text(self.settings(cell), plan.config(cell).to_yaml())

    def outcome(self, cell: Cell, config: Config) -> Outcome | None:
        """What came of a run; None if it has not been finished.

        Args:
            cell: The run.
            config: What it should have been trained with.

        Raises:
            ConfigError: It was trained with other settings.
            DataError: Its validation tiles hold no class.
        """
        run = self.run(cell)
        if not run.metrics.exists() or not run.config.exists():
            return None
        lines = list(read_metrics(run.metrics))
        final = [line for line in lines if "miou" in line and line["step"] == config.train.steps]
        _check_settings(run, config)
        if not final:
            return None
        if final[-1]["miou"] is None:
            raise DataError(f"{run.path}: no class of the table occurs in its validation tiles; check the masks")
        iou = {name: None if value is None else 100 * value for name, value in final[-1]["iou"].items()}
        return Outcome(100 * final[-1]["miou"], iou, _step_seconds(lines, cell, config))

    def steps_done(self, cell: Cell) -> int:
        """How far a run is, by the end of its metrics.jsonl."""
        try:
            with self.run(cell).metrics.open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - TAIL_BYTES))
                lines = file.read().splitlines()
            # The first may be cut by the seek, the last by its writer.
            return next((step for line in reversed(lines) if (step := _step_of(line))), 0)
        except OSError:
            return 0

    def _read_shared(self) -> dict[str, Any]:
        try:
            content = parse_json(self.shared.read_text())
            if not isinstance(content["settings"], dict) or not isinstance(content["data"], str):
                raise TypeError("it is not what reproduce writes")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"cannot read {self.shared} ({error}); restore it, or give another --out") from error
        return dict(content)


def _check_settings(run: RunFolder, config: Config) -> None:
    # A setting that is newer than the run had its default.
    trained = {**Config().flat(), **read_settings(run.config)}
    changed = [
        f"{key} (was {trained[key]}, now {value})"
        for key, value in config.flat().items()
        if trained[key] != value and key not in FREE
    ]
    if changed:
        raise ConfigError(
            f"{run.path} was trained with {'; '.join(changed)}; put it back, move the run away, or give another --out"
        )


def _step_of(line: bytes) -> int:
    try:
        step = parse_json(line)["step"]
    except (ValueError, KeyError, TypeError):
        return 0
    return step if isinstance(step, int) else 0


def _step_seconds(lines: list[dict[str, Any]], cell: Cell, config: Config) -> float:
    rates = [line["images_per_s"] for line in lines if line.get("images_per_s")]
    train = config.train
    crops = train.batch_labeled + (0 if cell.method in SUPERVISED else train.batch_unlabeled)
    return crops * train.accumulate / median(rates) if rates else 0.0
