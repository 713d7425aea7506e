"""Tensors on the CPU as the flat arrays that kernels take, and chunks of their rows."""

import platform
from collections.abc import Iterator

import numpy as np
import torch
from llvmlite import binding
from torch import Tensor

from ...checks import order_of

ROWS_PER_CHUNK = 128
# Numba computes with no float of 16 bits; as records of one field they keep their names.
RECORDS = {torch.float16: np.dtype([("half", np.uint16)]), torch.bfloat16: np.dtype([("bfloat", np.uint16)])}


def converts_half() -> bool:
    """Whether the processor has instructions for 16-bit floats; without, LLVM calls functions that may be missing."""
    return platform.machine().lower() in ("aarch64", "arm64") or binding.get_host_cpu_features().get("f16c", False)


# What the quick kernels convert pixel by pixel, and what all do.
CONVERTED = (torch.bfloat16, *((torch.float16,) if converts_half() else ()))
READ_AS_THEY_ARE = (torch.uint8, torch.uint16, torch.float32)


def readable(image: Tensor) -> Tensor:
    """Pixels of a type that the quick kernels read."""
    return image if image.dtype in (*READ_AS_THEY_ARE, *CONVERTED) else image.float()


def flat(image: Tensor) -> tuple[np.ndarray, tuple[int, int, int]]:  # [B, C, H, W] -> [B, C * H * W]
    """Pixels of each sample as they lie, and the steps to the next channel, row and column."""
    batch, channels, height, width = image.shape
    last = order_of(image) == torch.channels_last
    ordered = image.permute(0, 2, 3, 1) if last else image.contiguous()
    pixels, record = ordered.reshape(batch, channels * height * width), RECORDS.get(image.dtype)
    steps = (1, width * channels, channels) if last else (height * width, width, 1)
    return pixels.numpy() if record is None else pixels.view(torch.int16).numpy().view(record), steps


def masks(valid: Tensor | None) -> np.ndarray | None:  # [B, 1, H, W] -> [B, H, W]
    """The mask of each sample."""
    return None if valid is None else valid[:, 0].contiguous().numpy()


def parts(batch: int, rows: int) -> Iterator[tuple[int, int, int]]:
    """Sample, first row, one past the last row of each chunk."""
    for b in range(batch):
        for first, last in row_chunks(rows, ROWS_PER_CHUNK):
            yield b, first, last


def row_chunks(rows: int, most: int) -> Iterator[tuple[int, int]]:
    """First row, one past the last row of each chunk of one sample."""
    for first in range(0, rows, most):
        yield first, min(first + most, rows)
