"""What a process and its descendants hold of the machine, from /proc (Linux)."""

import os
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class Usage:
    """What is held at one time, by all of them together.

    Args:
        seconds: Since the process began to be watched.
        resident_mib: All pages in memory, those of mapped files included.
        anonymous_mib: Those that no file stands behind: what leaks (RssAnon).
        descriptors: Open ones: files, sockets, pipes.
        threads: Of all.
        processes: The process and its descendants.
    """

    seconds: float
    resident_mib: float
    anonymous_mib: float
    descriptors: int
    threads: int
    processes: int


def usage(process: int, seconds: float) -> Usage:
    """What a process and its descendants hold now.

    Args:
        process: Its number.
        seconds: As in `Usage`.

    Raises:
        ProcessLookupError: It has ended.
    """
    held = [each for number in (process, *descendants(process)) if (each := _held(number)) is not None]
    if not held:
        raise ProcessLookupError(f"the process {process} has ended")
    resident, anonymous, descriptors, threads = (sum(column) for column in zip(*held, strict=True))
    return Usage(seconds, resident / 1024, anonymous / 1024, descriptors, threads, len(held))


def _held(number: int) -> tuple[int, int, int, int] | None:
    """KiB resident, KiB anonymous, descriptors and threads; None for a process that has ended."""
    try:
        lines = (PROC / str(number) / "status").read_text().splitlines()
        status = dict(line.split(":", 1) for line in lines if ":" in line)
        kib = [int(status[key].split()[0]) for key in ("VmRSS", "RssAnon")]
        return kib[0], kib[1], len(os.listdir(PROC / str(number) / "fd")), int(status["Threads"])
    except (OSError, KeyError):  # one that nobody has waited for yet has no memory
        return None


def descendants(process: int) -> list[int]:
    """The numbers of its children, theirs, and so on."""
    children = defaultdict(list)
    for folder in PROC.glob("[0-9]*"):
        with suppress(OSError):
            # The name of a command, in brackets, may hold anything.
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            children[parent].append(int(folder.name))
    found, asked = list[int](), [process]
    while asked:
        found += (below := children[asked.pop()])
        asked += below
    return found
