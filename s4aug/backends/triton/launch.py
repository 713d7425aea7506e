"""How kernels are started: on the tensors' own device, with a fixed configuration or a tuned one."""

import functools
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton
from torch import Tensor

from ...errors import BackendUnavailable

# The first is the static default; the rest are tried where tuning is asked for.
CONFIGS = [
    triton.Config({"BLOCK_H": 16, "BLOCK_W": 32}, num_warps=4),
    triton.Config({"BLOCK_H": 8, "BLOCK_W": 64}, num_warps=4),
    triton.Config({"BLOCK_H": 8, "BLOCK_W": 32}, num_warps=4),
    triton.Config({"BLOCK_H": 16, "BLOCK_W": 32}, num_warps=8),
]
# Where each pixel holds much.
WIDE_WARPS = 8
TUNING_KEY = ["channels", "height", "width", "rows", "columns", "MODE", "MASKED", "SOFTMAX"]

# Whether kernels run under Triton's interpreter, on the CPU; settled when they are defined.
INTERPRETED = bool(triton.knobs.runtime.interpret)

# Were multiples of 16 known, the compiler would widen the stores and shuffle gathered values between threads for it.
_NUMBERS = ["channels", "groups", "height", "width", "rows", "columns"]
_TENSORS = [
    *("image", "valid", "out", "gradient", "sum"),
    *("pred", "pred1", "pred2", "valid1", "valid2", "logit"),
]
_STRIDES = [f"{tensor}_{axis}" for tensor in _TENSORS for axis in "bcyx"]
kernel = functools.partial(
    triton.jit,
    do_not_specialize=["fill", "settling", "pixels"],
    do_not_specialize_on_alignment=[*_NUMBERS, *_STRIDES],
)


def check_there(image: Tensor, dtype: torch.dtype) -> None:
    """Hold the arguments to what the kernels can do.

    Raises:
        BackendUnavailable: The pixels are not on a CUDA device, or are to be computed in float64.
    """
    if image.device.type != "cuda" and not INTERPRETED:
        raise BackendUnavailable(f'backend "triton" needs CUDA, the image is on {image.device}; use backend="torch"')
    if torch.float64 in (image.dtype, dtype):
        raise BackendUnavailable('backend "triton" computes in float32; use backend="torch" for float64 pixels')


def launch(
    started: Any,
    grid: Callable[[dict[str, Any]], tuple[int]],
    device: torch.device,
    *args: Any,
    tunable: bool = True,
    wide: bool = False,
    **constants: Any,
) -> None:
    """Start one program per tile.

    Convention:
        The configuration is fixed unless the environment variable S4AUG_TUNE is 1: then the first call of a
        shape measures a few and keeps the fastest, except where torch is asked for deterministic algorithms.

    Args:
        started: A kernel with the constants `BLOCK_H` and `BLOCK_W`.
        grid: From all constants, `BLOCK_H` and `BLOCK_W` included, to the number of programs.
        device: Of the tensors.
        args: Tensors and numbers, in the kernel's order.
        tunable: Whether the configuration leaves the results as they are.
        wide: Whether a pixel needs the registers of more threads, as sixteen taps do.
        constants: What the kernel is compiled for.
    """
    constants = {**constants, "enable_fp_fusion": True}
    wide = wide or constants.get("TAPS") == 4
    fixed = {**CONFIGS[0].kwargs, "num_warps": WIDE_WARPS if wide else CONFIGS[0].num_warps}
    if grid({**constants, **fixed})[0] == 0:
        return
    with _on(device):
        if tunable and _tuning():
            _tuned(started)[grid](*args, **constants)
        else:
            started[grid](*args, **constants, **fixed)


def channel_groups(channels: int, largest: int) -> tuple[int, int]:
    """Channels that share coordinates in groups of at most `largest`: their size and number, at least one group."""
    groups = max(1, triton.cdiv(channels, largest))
    return max(1, triton.cdiv(channels, groups)), groups


def as_bytes(mask: Tensor) -> Tensor:
    """A view of a bool tensor that kernels can read and write."""
    return mask.view(torch.uint8)


def _tuning() -> bool:
    wanted = os.environ.get("S4AUG_TUNE") == "1"
    return wanted and not INTERPRETED and not torch.are_deterministic_algorithms_enabled()


@functools.cache
def _tuned(started: Any) -> Any:
    key = [name for name in TUNING_KEY if name in started.arg_names]
    return triton.autotune(CONFIGS, key=key)(started)


def _on(device: torch.device) -> AbstractContextManager[None]:
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()  # type: ignore[return-value]
