"""Processes of a grid: several at once, signals passed on, and none left behind."""

import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from .grid import Cell

PAUSE_S = 0.1
GRACE_S = 60.0  # for what has to be stopped, to save


class Process(Protocol):
    """What works off a cell; a subprocess.Popen is one."""

    def poll(self) -> int | None:
        """Its exit code; None while it goes on, negative after a signal."""

    def send_signal(self, number: int) -> None:
        """Ask it to stop."""

    def kill(self) -> None:
        """End it."""


Start = Callable[[Cell, int], Process]  # cell and slot, from 0


@dataclass(frozen=True)
class Begun:
    """A run has a process now."""

    cell: Cell


@dataclass(frozen=True)
class Ended:
    """A run's process has ended, with this exit code."""

    cell: Cell
    code: int


@dataclass(frozen=True)
class Going:
    """These runs go on, and those wait; told often."""

    running: tuple[Cell, ...]
    waiting: tuple[Cell, ...]


def work_off(
    cells: Sequence[Cell], start: Start, jobs: int, signals: Sequence[int], *, pause_s: float = PAUSE_S
) -> Iterator[Begun | Ended | Going]:
    """Work off cells, `jobs` at once, in their order.

    Args:
        cells: What is to be done.
        start: Gives a process; an error of it ends all.
        jobs: Slots.
        signals: Grows when this process is asked to stop: each one is passed on, and nothing new begins.
        pause_s: Between two looks.

    Yields:
        What happens. Processes that go on when this iterator is closed, or fails, are asked to stop, and waited for.
    """
    waiting, running, passed = deque(cells), dict[Cell, tuple[Process, int]](), 0
    free = list(range(jobs))
    try:
        while running or (waiting and not signals):
            while waiting and free and not signals:
                cell = waiting.popleft()
                slot = free.pop(0)
                running[cell] = start(cell, slot), slot
                yield Begun(cell)
            for number in signals[passed:]:
                _pass_on(running.values(), number)
                passed += 1
            for cell, (process, slot) in list(running.items()):
                code = process.poll()
                if code is not None:
                    del running[cell]
                    free.append(slot)
                    yield Ended(cell, code)
            yield Going(tuple(running), tuple(waiting))
            time.sleep(pause_s)
    finally:
        _stop([process for process, _ in running.values()], signals[-1] if signals else signal.SIGTERM)


def _pass_on(running: Iterable[tuple[Process, int]], number: int) -> None:
    for process, _ in running:
        # It may have ended since.
        with suppress(ProcessLookupError):
            process.send_signal(number)


def _stop(processes: Sequence[Process], number: int) -> None:
    """Ask processes to stop, wait for them, and end those that do not."""
    _pass_on([(process, 0) for process in processes], number)
    deadline = time.monotonic() + GRACE_S
    while any(process.poll() is None for process in processes):
        if time.monotonic() > deadline:
            for process in processes:
                process.kill()
            return
        time.sleep(PAUSE_S)
