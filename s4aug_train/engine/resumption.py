"""What a run goes on from: the newest of its checkpoints that can be read, or one that the user names."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import CheckpointError, DamagedError
from ..run import RunFolder
from .checkpoint import Checkpoint


@dataclass(frozen=True, eq=False)
class Resumption:
    """A checkpoint to go on from, and the damaged ones it was taken in place of.

    Args:
        checkpoint: As read.
        path: Its file.
        damaged: Files of the run that were passed over, each with the reason.
    """

    checkpoint: Checkpoint
    path: Path
    damaged: Mapping[Path, str]

    @property
    def passed_over(self) -> Mapping[Path, str]:
        """Each damaged file with the warning that tells of it."""
        taken = f"going on from {self.path} (step {self.checkpoint.step})"
        return {path: f"warning: {path} was passed over ({reason}); {taken}" for path, reason in self.damaged.items()}


def newest(run: RunFolder) -> Resumption | None:
    """The first of a run's checkpoints that can be read; None if there is none at all.

    Raises:
        CheckpointError: There are some and none can be read.
    """
    damaged: dict[Path, str] = {}
    for path in run.checkpoints:
        if not path.exists():
            continue
        try:
            return Resumption(Checkpoint.read(path), path, damaged)
        except DamagedError as error:
            damaged[path] = error.reason
    if damaged:
        each = "; ".join(f"{path.name}: {reason}" for path, reason in damaged.items())
        raise CheckpointError(
            f"no checkpoint in {run.last.parent} can be read ({each}): put a copy of one back, or begin anew with "
            f"--overwrite or another --out"
        )
    return None


def chosen(path: Path, run: RunFolder) -> Resumption:
    """A checkpoint that the user names, for a run that may have others.

    Raises:
        CheckpointError: It cannot be read.
    """
    checkpoint, damaged = Checkpoint.read(path), {}
    if run.last.exists() and not run.last.samefile(path):
        # Damaged, it must not take the place of previous.pt at the first save.
        try:
            Checkpoint.read(run.last)
        except DamagedError as error:
            damaged[run.last] = error.reason
    return Resumption(checkpoint, path, damaged)
