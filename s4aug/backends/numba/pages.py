"""Memory for large results. Its pages are made when first written, which for small ones takes longer than a warp."""

import ctypes
import mmap
import sys
from functools import cache
from typing import Any

import torch
from torch import Tensor

# Less than this holds too few large pages to be worth a call.
LEAST_BYTES = 4 << 20


def empty(shape: Any, dtype: torch.dtype, layout: torch.memory_format = torch.contiguous_format) -> Tensor:
    """`torch.empty`, in large pages where the system gives them for the asking (Linux)."""
    made = torch.empty(shape, dtype=dtype, memory_format=layout)
    size = made.numel() * made.element_size()
    if size >= LEAST_BYTES:
        advise = _advise()
        if advise is not None:
            first = -(-made.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
            # Advice alone: where it is not taken, nothing changes.
            advise(first, made.data_ptr() + size - first, mmap.MADV_HUGEPAGE)
    return made


@cache
def _advise() -> Any:
    if not sys.platform.startswith("linux") or not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return advise
