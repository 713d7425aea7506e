"""Rotation, scale and shear as 2 x 2 matrices, and how their parameters become batches."""

from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor

from .errors import ArgumentError

Numbers = Tensor | float | Sequence[float]
# Devices without float64: matrices for their images live on the CPU.
NARROW_DEVICES = ("mps",)


def matrix_device(device: torch.device | str) -> torch.device:
    """Where matrices for images on `device` live: beside them, or on the CPU where float64 is missing."""
    device = torch.device(device)
    return torch.device("cpu") if device.type in NARROW_DEVICES else device


def widened(numbers: Tensor) -> Tensor:
    """In float64, where matrices for images on that device live; fetched first, for there it may be unknown."""
    return numbers.to(matrix_device(numbers.device)).to(torch.float64)


def vector(values: Sequence[float], device: torch.device | str) -> Tensor:  # [N] float64
    """Numbers on a device, written there by fills: a copy from the host would wait for the device."""
    device = matrix_device(device)
    return torch.stack([torch.full((), value, dtype=torch.float64, device=device) for value in values])


def linear_part(angle: Tensor, scale: Tensor, shear: Tensor) -> Tensor:
    """Rotation x scale x shear.

    Args:
        angle: [B], degrees, counter-clockwise as displayed; float64.
        scale: [B, 2], (x, y).
        shear: [B, 2], (x, y), degrees.

    Returns:
        [B, 2, 2] float64.
    """
    cos, sin = _cos_sin(angle)
    rotation = torch.stack([cos, sin, -sin, cos], -1).reshape(-1, 2, 2)
    tan_x, tan_y = torch.tan(torch.deg2rad(shear)).unbind(-1)
    one = torch.ones_like(tan_x)
    slant = torch.stack([one, -tan_x, -tan_y, 1 + tan_x * tan_y], -1).reshape(-1, 2, 2)
    return rotation @ (scale[..., None] * slant)


def broadcast(named: dict[str, tuple[Numbers, int]]) -> dict[str, Tensor]:
    """Bring parameters to [B, width] float64 on one device.

    Args:
        named: Name, value and width of each.

    Raises:
        ArgumentError: Shapes that do not go together.
    """
    tensors = {name: value for name, (value, _) in named.items() if isinstance(value, Tensor)}
    devices = {value.device: name for name, value in tensors.items() if value.ndim}
    if len(devices) > 1:
        (one, first), (other, second), *_ = devices.items()
        raise ArgumentError(f"{first} is on {one}, {second} on {other}; move one of them")
    device = matrix_device(next(iter(devices), torch.device("cpu")))
    columns = {}
    for name, (value, width) in named.items():
        tensor = widened(value.to(device)) if isinstance(value, Tensor) else _written(value, device, name)
        per_sample = tensor.ndim == 1 and (width == 1 or (name == "scale" and name in tensors))
        tensor = tensor[:, None] if per_sample else tensor
        tensor = tensor.reshape(1, -1) if tensor.ndim < 2 else tensor
        if tensor.ndim != 2 or tensor.shape[1] not in (1, width):
            raise ArgumentError(f"{name} must have shape [B, {width}] or [B], got {list(tensor.shape)}")
        columns[name] = tensor.expand(-1, width)
    batch = next((tensor.shape[0] for tensor in columns.values() if tensor.shape[0] != 1), 1)
    for name, tensor in columns.items():
        if tensor.shape[0] not in (1, batch):
            raise ArgumentError(f"{name} has batch {tensor.shape[0]}, another parameter has {batch}")
    columns = {name: tensor.expand(batch, -1) for name, tensor in columns.items()}
    if device.type == "cpu" and not torch.compiler.is_compiling():
        for name, tensor in columns.items():
            check_finite(tensor, name)
    return columns


def check_finite(values: Tensor, name: str) -> None:  # [B, ...] on the CPU
    """Hold numbers to finite ones; the error names the sample."""
    faults = ~values.isfinite().flatten(1).all(1)
    if faults.any():
        sample = int(faults.nonzero()[0])
        raise ArgumentError(f"{name} of sample {sample} is not finite: {values[sample].tolist()}")


def _written(value: float | Sequence[float], device: torch.device, name: str) -> Tensor:
    if isinstance(value, int | float | Real):
        return vector([float(value)], device)
    if isinstance(value, list | tuple) and all(isinstance(part, Real) for part in value):
        return vector(value, device)
    try:
        return torch.as_tensor(value, dtype=torch.float64, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(f"{name} must be numbers or a tensor of them, got {value!r}") from error


def _cos_sin(angle: Tensor) -> tuple[Tensor, Tensor]:  # degrees, float64
    quarter = torch.round(angle.detach() / 90)
    rest = torch.deg2rad(angle - 90 * quarter)
    cos, sin = torch.cos(rest), torch.sin(rest)
    k = quarter.remainder(4)
    turned_cos = torch.where(k == 0, cos, torch.where(k == 1, -sin, torch.where(k == 2, -cos, sin)))
    turned_sin = torch.where(k == 0, sin, torch.where(k == 1, cos, torch.where(k == 2, -sin, -cos)))
    return turned_cos, turned_sin
