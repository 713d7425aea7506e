"""Which backend serves a call, and its kernels."""

import importlib
import warnings
from functools import cache
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .errors import BackendUnavailable

# Which backend serves which device, and whether the package of its name is installed.
KERNELS = {"cpu": "numba", "cuda": "triton"}
INSTALLED = {name: find_spec(name) is not None for name in KERNELS.values()}
BACKENDS = ("auto", "torch", *KERNELS.values())


def choose(backend: str, device: torch.device, refusal: str | None) -> str:
    """The backend for pixels on a device.

    Args:
        backend: The name asked for.
        device: Of the pixels.
        refusal: Why kernels cannot serve this call, as the end of a sentence that their name begins; None if they can.

    Returns:
        "torch", or the name of the device's kernels.

    Raises:
        BackendUnavailable: A named backend that is not there, or cannot serve the call.
    """
    if backend not in BACKENDS:
        raise BackendUnavailable(f"backend {backend!r} is not there; choose one of {', '.join(BACKENDS)}")
    kernel = KERNELS.get(device.type)
    if kernel is None or backend not in ("auto", "torch", kernel):
        refusal = f"has no kernels for images on {device}"
    elif not INSTALLED[kernel]:
        refusal = f"needs the package {kernel}, which is not installed"
    if backend == "auto":
        if kernel is not None and not INSTALLED[kernel]:
            _tell_once(f"{kernel} is not installed: warps take the reference, which is slower")
        return "torch" if refusal is not None or kernel is None else kernel
    if backend != "torch" and refusal is not None:
        raise BackendUnavailable(f"backend {backend!r} {refusal}; take 'auto' or 'torch'")
    return backend


def refusal_of(*pixels_or_matrices: Tensor) -> str | None:
    """Why no kernel can serve these tensors, as `choose` takes it."""
    if any(is_transformed(tensor) for tensor in pixels_or_matrices):
        return "is not differentiated forwards, nor by torch.func"
    return None


def is_transformed(value: Tensor) -> bool:
    """Whether a tensor is within `torch.func` or carries a tangent: operators would drop what it means."""
    if torch.compiler.is_compiling():
        return False
    if torch._C._functorch.is_functorch_wrapped_tensor(value):
        return True
    return forward_ad._current_level >= 0 and forward_ad.unpack_dual(value).tangent is not None


def computes(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the device's kernels compute in `dtype`: those for GPUs leave float64 to the reference."""
    return dtype != torch.float64 or KERNELS.get(device.type) != "triton"


def kernels_for(device: torch.device) -> ModuleType:
    """The functions over tensors of the device's backend."""
    return _loaded(KERNELS[device.type])


@cache
def _loaded(name: str) -> ModuleType:
    return importlib.import_module(f".backends.{name}", __package__)


@cache
def _tell_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)
