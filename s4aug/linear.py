"""Rotation, scale and shear as 2 x 2 matrices, and how their parameters become batches."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .errors import ArgumentError

Numbers = Tensor | float | Sequence[float]


def vector(values: Sequence[float], device: torch.device | str) -> Tensor:  # [N] float64
    """Numbers on a device, written there by fills: a copy from the host would wait for the device."""
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
    device = next((v.device for v, _ in named.values() if isinstance(v, Tensor)), torch.device("cpu"))
    columns = {}
    for name, (value, width) in named.items():
        tensor = torch.as_tensor(value, dtype=torch.float64, device=device)
        per_sample = tensor.ndim == 1 and (width == 1 or (name == "scale" and isinstance(value, Tensor)))
        tensor = tensor[:, None] if per_sample else tensor
        tensor = tensor.reshape(1, -1) if tensor.ndim < 2 else tensor
        if tensor.ndim != 2 or tensor.shape[1] not in (1, width):
            raise ArgumentError(f"{name} must have shape [B, {width}] or [B], got {list(tensor.shape)}")
        columns[name] = tensor.expand(-1, width)
    batch = next((tensor.shape[0] for tensor in columns.values() if tensor.shape[0] != 1), 1)
    for name, tensor in columns.items():
        if tensor.shape[0] not in (1, batch):
            raise ArgumentError(f"{name} has batch {tensor.shape[0]}, another parameter has {batch}")
    return {name: tensor.expand(batch, -1) for name, tensor in columns.items()}


def _cos_sin(angle: Tensor) -> tuple[Tensor, Tensor]:  # degrees, float64
    quarter = torch.round(angle.detach() / 90)
    rest = torch.deg2rad(angle - 90 * quarter)
    cos, sin = torch.cos(rest), torch.sin(rest)
    k = quarter.remainder(4)
    turned_cos = torch.where(k == 0, cos, torch.where(k == 1, -sin, torch.where(k == 2, -cos, sin)))
    turned_sin = torch.where(k == 0, sin, torch.where(k == 1, cos, torch.where(k == 2, -sin, -cos)))
    return turned_cos, turned_sin
