"""One run of a grid as a process: `fit`, its GPU, its log, and what its end says."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..config import Config
from ..engine import choose_device
from ..errors import ConfigError, S4AugTrainError
from ..run import RunFolder, lock
from .folder import GridFolder
from .grid import Cell
from .schedule import Process


@dataclass(frozen=True)
class Fits:
    """Starts the runs of a grid.

    Args:
        folder: Of the grid; the settings of each run are there.
        jobs: Runs at once.
        gpus: As CUDA_VISIBLE_DEVICES names them, shared out among the slots; empty: processes see what this one sees.
    """

    folder: GridFolder
    jobs: int
    gpus: Sequence[str] = ()

    def start(self, cell: Cell, slot: int) -> Process:
        """A process of `fit` for a run; it begins, or goes on.

        Raises:
            S4AugTrainError: The log cannot be written.
        """
        if is_held(self.folder.run(cell)):
            return Awaited(self, cell, slot)
        log = self.folder.log(cell)
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("w") as file:
                return subprocess.Popen(
                    self.command(cell),
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **self.environment(slot)},
                    # Ctrl-C reaches this process alone, which passes it on.
                    start_new_session=True,
                )
        except OSError as error:
            raise S4AugTrainError(f"cannot begin {cell.name}: {error}; free some space or memory, and go on") from error

    def command(self, cell: Cell) -> list[str]:
        """What is called; a user can call it too."""
        settings, out = str(self.folder.settings(cell)), str(self.folder.run(cell).path)
        return [sys.executable, "-m", "s4aug_train", "fit", "--config", settings, "--out", out, "--resume"]

    def environment(self, slot: int) -> Mapping[str, str]:
        """Its share of GPUs or cores."""
        if self.gpus:
            return {"CUDA_VISIBLE_DEVICES": self.gpus[slot % len(self.gpus)]}
        if self.jobs == 1 or "OMP_NUM_THREADS" in os.environ:
            return {}
        return {"OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // self.jobs))}


class Awaited:
    """A run that a process of an earlier call is still at: waited for, then begun or found finished by a process.

    Args:
        fits: Starts the process.
        cell: The run.
        slot: Its slot.
    """

    def __init__(self, fits: Fits, cell: Cell, slot: int) -> None:
        self.fits = fits
        self.cell = cell
        self.slot = slot
        self.own: Process | None = None
        self.code: int | None = None

    def poll(self) -> int | None:
        """As a process."""
        if self.own is None and self.code is None and not is_held(self.fits.folder.run(self.cell)):
            self.own = self.fits.start(self.cell, self.slot)
        return self.code if self.own is None else self.own.poll()

    def send_signal(self, number: int) -> None:
        """The other process is not ours to stop; it is no longer waited for."""
        if self.own is None:
            self.code = 128 + number
        else:
            self.own.send_signal(number)

    def kill(self) -> None:
        """As a process."""
        self.send_signal(signal.SIGKILL)


def is_held(run: RunFolder) -> bool:
    """Whether a process is writing to a run."""
    try:
        with run.lock.open("r+") as file:
            return not lock(file)
    except FileNotFoundError:
        return False
    except OSError:
        return True


def visible_gpus(config: Config) -> tuple[str, ...]:
    """The GPUs to share runs out among, as CUDA_VISIBLE_DEVICES names them; empty where there is none to choose."""
    if choose_device(config.train.device).type != "cuda" or ":" in config.train.device:
        return ()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    every = named.split(",") if named else map(str, range(torch.cuda.device_count()))
    return tuple(every)[: torch.cuda.device_count()]


def check_alone() -> None:
    """Hold the grid to one process, which starts others itself.

    Raises:
        ConfigError: It is one of several of torchrun.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise ConfigError("reproduce starts its runs itself: call it without torchrun, with --jobs N for several")


def reason(log: Path, code: int) -> str:
    """Why a process ended, by what it printed last and its exit code."""
    try:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    errors = [line for line in lines if line.lower().startswith("error")]
    said = (errors or lines or ["it printed nothing"])[-1].removeprefix("error: ")
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}{' (is the memory full?)' if name == 'SIGKILL' else ''}; the last line: {said}"
    return said
