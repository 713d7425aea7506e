"""The device of a run: its name, precision, memory, and the machine that it is part of."""

import platform
import sys
from importlib.metadata import version

import torch

from s4aug import __version__

from ..errors import ConfigError
from ..launch import ONLY, Rank

try:
    import resource
except ImportError:  # Windows: memory is not told
    resource = None  # type: ignore[assignment]

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
MIB = 1024**2
PACKAGES = ("torch", "torchvision", "kornia", "numpy", "rasterio")


def choose_device(name: str, rank: Rank = ONLY) -> torch.device:
    """The device of a name; `auto` is CUDA where it is, else the CPU. Of several processes each takes its own GPU.

    Raises:
        ConfigError: There is no such device, or processes would share one.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
        if rank.count == 1:
            return torch.device(name)
    if name.startswith("cuda") and rank.count > 1:
        if name != "cuda" or rank.local_count > torch.cuda.device_count():
            raise ConfigError(
                f"{rank.local_count} processes on this machine need as many GPUs and --device cuda (or auto), got "
                f"{torch.cuda.device_count()} GPUs and {name}; start fewer processes, or use --device cpu"
            )
        name = f"cuda:{rank.local}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"train.device must be auto, cpu, cuda or cuda:N, got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"train.device must be auto, cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"there is no {name}: torch sees {torch.cuda.device_count()} GPUs; use --device cpu")
    return device


def chosen_precision(name: str, device: torch.device) -> torch.dtype | None:
    """The type of the autocast, None for float32; "auto" is bf16 on a GPU that has it (Ampere or newer), else fp32."""
    if name == "auto":
        # Older ones imitate it, slowly.
        has = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        name = "bf16" if has else "fp32"
    return PRECISIONS[name]


def peak_memory_mib(device: torch.device) -> float:
    """The most memory so far: torch's on a GPU, else what the process had resident; 0 where nobody tells."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MIB
    if resource is None:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (MIB if sys.platform == "darwin" else 1024)


def environment(device: torch.device) -> dict[str, object]:
    """Versions and machine, as written to env.json."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "s4aug": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": f"{device.type}: {name}",
        "threads": torch.get_num_threads(),
        **{package: version(package) for package in PACKAGES},
    }
