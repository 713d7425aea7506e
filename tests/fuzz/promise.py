"""What is promised of all that a user hands over: it works, or ends in one line and leaves everything as it was."""

import contextlib
import logging
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TypeVar

from click.testing import CliRunner
from hypothesis import HealthCheck, settings

from s4aug_train.cli import main
from s4aug_train.cli.main import told as told_by_the_command_line

LIMIT_S = 120.0  # of a call, on a machine that does much else besides
LIMIT_MIB = 1024  # of the memory that a call takes beyond what was held before
ROOM_BYTES = 4 << 30  # more address space than that the system refuses, so that a fault harms nobody
NIGHTLY = 500  # cases of a test in the profile of that name
STATUS = Path("/proc/self/status")  # of Linux

OF_LIBTIFF = re.compile(r"_tiff\w+Proc: .*")  # printed past GDAL, which has no way to stop it
LONGEST = 2500  # signs of a line
T = TypeVar("T")

Tree = dict[str, tuple[object, ...]]


def fuzzed(cases: int) -> settings:
    """How many cases a test has: so many, always the same; in the profile `nightly` what that says, always new."""
    chosen = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    return chosen if chosen.max_examples >= NIGHTLY else settings(chosen, max_examples=cases, derandomize=True)


@dataclass(frozen=True)
class Ending:
    """How a call of the command line ended.

    Args:
        code: The exit code.
        stdout: What was printed.
        stderr: The same.
        noise: What C printed, past Python.
        fault: The traceback of an error that nobody told.
        changed: Paths below the world that are new, gone or others since.
        seconds: How long it took.
        mib: The most memory beyond what was held before; 0 where nobody tells.
    """

    code: int
    stdout: str = ""
    stderr: str = ""
    noise: str = ""
    fault: str = ""
    changed: tuple[str, ...] = ()
    seconds: float = 0.0
    mib: float = 0.0

    def faults(self) -> Iterator[str]:
        """How it broke the promise."""
        if self.fault or "Traceback" in self.stdout + self.stderr:
            yield f"a traceback: {self.fault}"
        if noise := [line for line in self.noise.splitlines() if not OF_LIBTIFF.fullmatch(line)]:
            yield f"noise of C: {noise}"
        may_write = self.code == 0 or self.began or self.examined or self.partly
        if written := [path for path in self.changed if not (may_write and path.startswith("case/"))]:
            yield f"written: {written}"
        if self.seconds > LIMIT_S or self.mib > LIMIT_MIB:
            yield f"it took {self.seconds:.0f} s and {self.mib:.0f} MiB"
        yield from self._said_wrongly()

    @property
    def began(self) -> bool:
        """Whether it is a run that ended after it had begun, which leaves what it wrote."""
        return self.code == 1 and "\nstep " in self.stderr

    @property
    def examined(self) -> bool:
        """Whether a command did what it was asked for and says in full what is wrong: doctor, and predict --json."""
        return self.code == 1 and ("Training would fail." in self.stdout or self.stdout.startswith(("{\n", "[{")))

    @property
    def partly(self) -> bool:
        """Whether some rasters of several were made into maps."""
        return self.code == 1 and self.stdout != "" and bool(re.search("^failed: ", self.stderr, re.MULTILINE))

    def _said_wrongly(self) -> Iterator[str]:
        lines = self.stderr.split("\n")[:-1]
        if odd := {
            sign for sign in self.stdout + self.stderr if (sign < " " and sign != "\n") or "\x7f" <= sign < "\xa0"
        }:
            yield f"control characters {odd}"
        if long := [line for line in lines if len(line) > LONGEST]:
            yield f"lines too long to read: {long}"
        if "Warning" in self.stderr:
            yield f"a warning: {self.stderr}"
        told = [line for line in lines if line.startswith(("error: ", "failed: "))]
        besides = ("classes of ", "note: ") if self.partly else ()  # of the maps that were made
        last = lines[-1:] if self.began else [line for line in lines if not line.startswith(besides)]
        if self.code == 1 and not self.examined and not (told and told == last):
            yield f"not one line that begins with error: {self.stderr}"
        if self.code == 2 and [line for line in lines if line.startswith("Error: ")] != lines[-1:]:
            yield f"wrong usage that is not told in one line: {self.stderr}"
        if self.code not in (0, 1, 2):
            yield f"exit {self.code}"


@dataclass(frozen=True)
class World:
    """A folder with all that calls read; each call works in the folder `case` within.

    Args:
        root: The folder.
    """

    root: Path

    @property
    def case(self) -> Path:
        """The working folder."""
        return self.root / "case"

    @contextlib.contextmanager
    def fresh(self) -> Iterator[Path]:
        """An empty working folder."""
        self.case.mkdir()
        try:
            yield self.case
        finally:
            shutil.rmtree(self.case)

    def copied_data(self) -> Path:
        """The data set in the working folder, to be changed."""
        return shutil.copytree(self.root / "data", self.case / "data")

    def prepare(self, *arguments: object) -> None:
        """Call the command line for what tests begin with: it works, however long it takes."""
        with contextlib.chdir(self.case):
            result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output

    def call(self, *arguments: object) -> Ending:
        """Call the command line, and hold it to the promise."""
        ending = self.ending(*map(str, arguments))
        faults = list(ending.faults())
        assert not faults, f"{arguments}: {'; '.join(faults)}"
        return ending

    def ending(self, *arguments: str) -> Ending:
        """Call the command line."""
        before = tree_of(self.root)
        with contextlib.chdir(self.case), tempfile.TemporaryFile() as noise:
            with _past_python(noise), _limited(), _unhandled_logs():
                held, began = _memory_mib("VmRSS"), time.monotonic()
                result = CliRunner().invoke(main, list(arguments), color=True)
                seconds, mib = time.monotonic() - began, _memory_mib("VmHWM") - held
            noise.seek(0)
            ending = Ending(result.exit_code, result.stdout, result.stderr, noise.read().decode(errors="replace"))
        after = tree_of(self.root)
        changed = sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
        told = result.exception is None or isinstance(result.exception, SystemExit)
        fault = "" if told else "".join(traceback.format_exception(*result.exc_info))
        return replace(ending, fault=fault, changed=tuple(changed), seconds=seconds, mib=mib)


def told(function: Callable[[], T]) -> T | None:
    """What a function of ours gives; None for an error that the command line tells in one line, and nothing else."""
    with _limited():
        held, began, fault = _memory_mib("VmRSS"), time.monotonic(), ""
        try:
            found = function()
        except Exception as error:
            found, fault = None, "" if told_by_the_command_line(error) else traceback.format_exc()
        ending = Ending(0, fault=fault, seconds=time.monotonic() - began, mib=_memory_mib("VmHWM") - held)
    assert not (faults := list(ending.faults())), faults
    return found


def tree_of(root: Path) -> Tree:
    """Each path below a folder, with what tells whether it was touched."""
    found: Tree = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            stat = path.lstat()
            # A folder in which a file came and went was touched, and is as it was.
            written = () if path.is_dir() else (stat.st_size, stat.st_mtime_ns, stat.st_ino)
            found[path.relative_to(root).as_posix()] = (stat.st_mode, *written)
    return found


@contextlib.contextmanager
def _past_python(file: IO[bytes]) -> Iterator[None]:
    """Catch what C prints: Python's own streams are the runner's."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    try:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        yield
    finally:
        for number, copy in enumerate(kept, 1):
            os.dup2(copy, number)
            os.close(copy)


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """End what hangs, and refuse what would take all memory; memory is counted anew."""

    def late(*_: object) -> None:
        raise AssertionError(f"it hung for {LIMIT_S} s")

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    if STATUS.exists():
        Path("/proc/self/clear_refs").write_text("5")
        resource.setrlimit(resource.RLIMIT_AS, (int(_memory_mib("VmSize") * 2**20) + ROOM_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


def _memory_mib(what: str) -> float:
    """A line of Linux' account of this process."""
    if not STATUS.exists():
        return 0.0
    return next(int(line.split()[1]) / 1024 for line in STATUS.read_text().splitlines() if line.startswith(what))


@contextlib.contextmanager
def _unhandled_logs() -> Iterator[None]:
    """Without pytest's handlers, where Python prints what is logged as a warning."""
    handlers, logging.root.handlers = logging.root.handlers, []
    try:
        yield
    finally:
        logging.root.handlers = handlers
