"""Peak memory of contenders, above what holds their inputs.

On a GPU torch's allocator counts. On the CPU it does not, and Python's tracing sees no tensor, so the operating
system is asked: in a process of their own, contenders run one by one; before each the high-water mark of resident
memory is set back (Linux, /proc/self/clear_refs). There the C library is told to map each array on its own and to
hand it back at once, so that nothing freed earlier is used again unseen. Outputs and all that lives between count,
inputs do not.
"""

import ctypes
import gc
import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch

from .cases import Case
from .contest import Contest
from .contests import make_contest

M_MMAP_THRESHOLD = -3  # malloc.h
SMALLEST_MAPPED = 64 * 1024


class MemoryMeter:
    """Measures cases; holds the process that the CPU's are measured in."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._process = ProcessPoolExecutor(1, context, initializer=map_each_array)

    def peaks(self, contest: Contest) -> dict[str, int]:
        """Bytes by contender; empty where there is no way to measure."""
        if contest.case.device == "cuda":
            return {each.name: cuda_peak(each.run) for each in contest.contenders}
        if sys.platform != "linux":
            return {}
        return self._process.submit(cpu_peaks, contest.case).result()

    def close(self) -> None:
        """End the process."""
        self._process.shutdown()


def map_each_array() -> None:
    """Have every array of some size mapped, and so given back when it is freed. Does nothing without glibc."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, SMALLEST_MAPPED)


def cpu_peaks(case: Case) -> dict[str, int]:
    """By contender; to be called in a process of its own."""
    return {contender.name: resident_peak(contender.run) for contender in make_contest(case).contenders}


def resident_peak(run: Callable[[], Any]) -> int:
    """Bytes by which resident memory rises at most during a second run."""
    run()
    return resident_growth(run)


def resident_growth(run: Callable[[], Any]) -> int:
    """Bytes by which resident memory rises at most during a run."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as control:
        control.write("5")
    before = _status("VmRSS")
    run()
    return max(_status("VmHWM") - before, 0)


def _status(key: str) -> int:
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def cuda_peak(run: Callable[[], Any]) -> int:
    """Bytes by which torch's allocations rise at most during a second run."""
    run()
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
