"""What a run goes on from: the newest of its checkpoints that can be read, or one that the user names."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..config import Config, read_settings
from ..data.split import Split
from ..errors import CheckpointError, DamagedError
from ..run import RunFolder
from .checkpoint import Checkpoint

# What a resumed run may change; all else would make it another run.
FREE_ON_RESUME = {
    "data.path",
    "data.classes",
    "data.unlabeled",
    "data.split",
    "data.unreadable",
    "train.device",
    "train.workers",
    "train.accumulate",  # the parts of a step are held to what they were
    "train.skip_limit",
    "train.pool",
    "train.log_every",
    "train.tensorboard",
    "train.checkpoint_every",
    "train.evaluate_every",
}


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
        CheckpointError: It cannot be read, or is none of the run that the folder holds.
    """
    checkpoint, damaged = Checkpoint.read(path), {}
    _check_same_run(checkpoint, path, run)
    if run.last.exists() and not run.last.samefile(path):
        # Damaged, it must not take the place of previous.pt at the first save.
        try:
            Checkpoint.read(run.last)
        except DamagedError as error:
            damaged[run.last] = error.reason
    return Resumption(checkpoint, path, damaged)


def _check_same_run(checkpoint: Checkpoint, path: Path, run: RunFolder) -> None:
    if not run.config.exists():
        return
    changed = changed_settings(Config().updated(read_settings(run.config)), checkpoint.config)
    if run.split.exists() and (held := Split.read(run.split).hash) != checkpoint.split.hash:
        changed.append(f"split (was {held}, now {checkpoint.split.hash})")
    if changed:
        raise CheckpointError(
            f"--out {run.path} holds another run than {path} is of, with {'; '.join(changed)}: go on with --out in "
            f"another folder"
        )


def changed_settings(old: Config, new: Config) -> list[str]:
    """The settings that differ and that a resumed run cannot change, each with both values."""
    before, after = old.flat(), new.flat()
    return [
        f"{name} (was {before[name]}, now {after[name]})"
        for name in before
        if after[name] != before[name] and name not in FREE_ON_RESUME
    ]
