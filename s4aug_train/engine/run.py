"""The folder of a run, and how a user names one."""

import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import CheckpointError, ConfigError


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps what it makes.

    Args:
        path: The folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The resolved settings."""
        return self.path / "config.yaml"

    @property
    def split(self) -> Path:
        """Tile ids by use."""
        return self.path / "splits.json"

    @property
    def environment(self) -> Path:
        """Versions and machine."""
        return self.path / "env.json"

    @property
    def metrics(self) -> Path:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def log(self) -> Path:
        """What was printed."""
        return self.path / "log.txt"

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.path / "checkpoints" / "last.pt"

    @property
    def best(self) -> Path:
        """The checkpoint of the best validation mIoU."""
        return self.path / "checkpoints" / "best.pt"


def fresh_run(parent: Path, name: str) -> RunFolder:
    """A numbered folder that does not exist yet, `parent/001-name`."""
    taken = [int(m[0]) for p in parent.glob("[0-9]*") if (m := re.match(r"\d+", p.name))] if parent.is_dir() else []
    return RunFolder(parent / f"{max(taken, default=0) + 1:03d}-{name.replace('+', '-')}")


def claim(run: RunFolder, *, resume: bool, overwrite: bool) -> None:
    """Hold a run folder to being new, resumed or given up.

    Raises:
        ConfigError: It holds something and neither was asked for; or it is no run folder.
    """
    if run.path.is_file():
        raise ConfigError(f"--out {run.path} is a file; give a folder")
    if not run.path.is_dir() or not any(run.path.iterdir()) or resume:
        return
    if not overwrite:
        raise ConfigError(
            f"--out {run.path} is not empty; continue it with --resume, give it up with --overwrite, or choose "
            f"another folder"
        )
    if not run.config.exists():
        raise ConfigError(f"--out {run.path} holds something that is no run; --overwrite only gives up runs")
    for file in (run.metrics, run.last, run.best, run.log, run.split, run.environment, run.config):
        file.unlink(missing_ok=True)


def find_checkpoint(path: Path) -> Path:
    """The checkpoint that a user means by a run folder or a file.

    Raises:
        CheckpointError: There is none.
    """
    if path.is_file():
        return path
    last = RunFolder(path).last
    if last.is_file():
        return last
    what = f"the folder {path} holds no checkpoints/last.pt" if path.is_dir() else f"{path} does not exist"
    raise CheckpointError(f"{what}; give a run folder of s4aug-train fit, or a checkpoint file")
