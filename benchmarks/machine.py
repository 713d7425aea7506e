"""What figures were measured on and with."""

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

# Taken when this is imported, before anything runs: what others did on the machine.
LOAD = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
PACKAGES = (
    "torch", "torchvision", "kornia", "opencv-python-headless", "opencv-python", "numba", "triton", "fuse-augmentations"
)  # fmt: skip


def machine_slug(device: str) -> str:
    """For example "cpu-2core" or "nvidia-h200"."""
    if device == "cuda":
        return re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name().lower()).strip("-")
    return f"cpu-{cores()}core"


def describe_machine(device: str) -> dict[str, str]:
    """Names and versions, as shown."""
    found = {
        "CPU": f"{cpu_name()}, {cores()} cores",
        "threads": str(torch.get_num_threads()),
        "load before": "unknown" if LOAD is None else f"{LOAD:.1f}",
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
    }
    if device == "cuda":
        found = {"GPU": torch.cuda.get_device_name(), **found, "CUDA": str(torch.version.cuda)}
    for package in PACKAGES:
        try:
            found[package] = version(package).split("+")[0]
        except PackageNotFoundError:
            continue
    return found


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()
