"""The folder of a run, and how a user names one."""

import contextlib
import errno
import itertools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .errors import CheckpointError, ConfigError
from .files import parse_json, remove_empty, remove_remains
from .launch import ONLY, Rank

try:
    import fcntl
except ImportError:  # Windows: runs there are not kept apart
    fcntl = None  # type: ignore[assignment]

MEANT = "give a run folder of s4aug-train fit, or a checkpoint file"


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
    def tensorboard(self) -> Path:
        """What TensorBoard reads."""
        return self.path / "tb"

    def events(self) -> list[Path]:
        """Event files for TensorBoard, oldest first."""
        return sorted(self.tensorboard.glob("events.out.tfevents.*"))

    @property
    def log(self) -> Path:
        """What was printed."""
        return self.path / "log.txt"

    @property
    def report(self) -> Path:
        """The page that `report` makes."""
        return self.path / "report.html"

    @property
    def lock(self) -> Path:
        """Held while a process writes to the run."""
        return self.path / ".lock"

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.path / "checkpoints" / "last.pt"

    @property
    def previous(self) -> Path:
        """The checkpoint before the newest."""
        return self.path / "checkpoints" / "previous.pt"

    @property
    def best(self) -> Path:
        """The checkpoint of the best validation mIoU."""
        return self.path / "checkpoints" / "best.pt"

    @property
    def checkpoints(self) -> tuple[Path, ...]:
        """All of them, in the order in which a run would go on from them."""
        return self.last, self.previous, self.best


def fresh_run(parent: Path, name: str, rank: Rank = ONLY) -> RunFolder:
    """A numbered folder that did not exist before, `parent/001-name`; it is made, so that no other run takes it.

    Raises:
        ConfigError: There are several processes, each of which would take another one.
    """
    if rank.count > 1:
        raise ConfigError("several processes need --out RUN, so that all mean one folder")
    while True:
        taken = [int(m[0]) for p in parent.glob("[0-9]*") if (m := re.match(r"\d+", p.name))]
        run = RunFolder(parent / f"{max(taken, default=0) + 1:03d}-{re.sub('[^0-9A-Za-z_.-]', '-', name)}")
        with contextlib.suppress(FileExistsError):
            run.path.mkdir(parents=True)
            return run


def claim(run: RunFolder, *, resume: bool, overwrite: bool, rank: Rank = ONLY) -> None:
    """Hold a run folder to being new, resumed or given up; nothing is touched yet. The first process asks for all.

    Raises:
        ConfigError: It holds something and neither was asked for; or it is no run folder.
    """
    if not rank.first:
        return
    if run.path.is_file():
        raise ConfigError(f"--out {run.path} is a file; give a folder")
    # A run that failed before it began leaves a log and nothing else.
    held = {path.name for path in run.path.iterdir()} - {run.log.name, run.lock.name} if run.path.is_dir() else set()
    if not held or resume:
        return
    if not overwrite:
        raise ConfigError(
            f"--out {run.path} is not empty; continue it with --resume, give it up with --overwrite, or choose "
            f"another folder"
        )
    if not run.config.exists():
        raise ConfigError(f"--out {run.path} holds something that is no run; --overwrite only gives up runs")


def begun_by(run: RunFolder, rank: Rank) -> bool:
    """Whether the run was begun by the launch of torchrun that this process is of, in an earlier attempt."""
    try:
        launches = parse_json(run.environment.read_text())["launches"]
        return bool(rank.launch) and rank.launch in launches
    except (OSError, ValueError, KeyError, TypeError):
        return False


def clear(run: RunFolder) -> None:
    """Give up a run: its own files go, others stay."""
    damaged = [aside for file in run.checkpoints for aside in file.parent.glob(f"{file.name}.damaged*")]
    made = (run.metrics, run.split, run.environment, run.config, run.report)
    ours = (*damaged, *run.checkpoints, *made, *run.events())
    for file in ours:
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        run.tensorboard.rmdir()  # if it holds nothing else


def tidy(run: RunFolder) -> None:
    """Remove what a killed process had not finished writing; only for the one that holds the run."""
    for file in (*run.checkpoints, run.metrics, run.split, run.environment, run.config):
        remove_remains(file)


def set_aside(path: Path) -> Path:
    """Rename a damaged file, so that nothing takes its place or is taken for it; tells the new name."""
    names = (f"{path.name}.damaged{number or ''}" for number in itertools.count())
    aside = next(path.with_name(name) for name in names if not path.with_name(name).exists())
    return path.replace(aside)


@contextmanager
def held(run: RunFolder, rank: Rank = ONLY) -> Iterator[None]:
    """Keep other processes from writing to a run folder; a killed holder leaves no trace.

    Of the processes of one run the first holds it for all.

    Raises:
        ConfigError: Another process holds it, or it cannot be made.
    """
    if not rank.first:
        yield
        return
    # If nothing comes of it, its folder goes, and all that were made for it.
    made = [run.path, *(folder for folder in run.path.parents if not folder.exists())]
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        file = run.lock.open("a")
    except OSError as error:
        raise ConfigError(f"cannot write --out {run.path}: {error.strerror}; choose another folder") from error
    with file:
        if not lock(file) or (fcntl is not None and not _is(file, run.lock)):
            raise ConfigError(f"another run is writing to {run.path}; wait for it, or choose another --out")
        try:
            yield
        finally:
            with contextlib.suppress(PermissionError):  # Windows keeps what is open
                run.lock.unlink(missing_ok=True)
            remove_empty(made)


def lock(file: IO[str]) -> bool:
    """Lock a file until it is closed; False: another process has it. Where there are no locks nobody is kept out."""
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Some network file systems know no locks, which is another error.
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def _is(file: IO[str], path: Path) -> bool:
    """Whether an open file is still the one of that name: the holder of a lock removes its file when it ends."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def find_checkpoint(path: Path) -> Path:
    """The checkpoint that a user means by a run folder or a file.

    Raises:
        CheckpointError: There is none.
    """
    if path.is_file():
        return path
    check_there(path)
    run = RunFolder(path)
    for checkpoint in (run.last, run.previous):
        if checkpoint.is_file():
            return checkpoint
    raise CheckpointError(f"the folder {path} holds no checkpoints/last.pt; {MEANT}")


def check_there(path: Path) -> None:
    """Hold what a user calls a run to being a folder or a file.

    Raises:
        CheckpointError: It is neither.
    """
    if not path.is_dir() and not path.is_file():
        raise CheckpointError(f"{path} does not exist; {MEANT}")
