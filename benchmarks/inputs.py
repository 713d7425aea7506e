"""Pixels and motions that cases are made of, seeded."""

from dataclasses import dataclass

import torch
from torch import Tensor

from s4aug import AffineTransform

from .cases import DTYPES, Case, Size

# The paper's ranges, Sec. 3.2.
DEGREES, TRANSLATE, SCALE = 15.0, 0.2, (0.75, 1.25)
MEAN = tuple(255 * value for value in (0.485, 0.456, 0.406))
STD = tuple(255 * value for value in (0.229, 0.224, 0.225))


@dataclass(frozen=True, eq=False)
class Motion:
    """Rotation, scale and shift as drawn, for peers that take them as numbers, and the transform that they make."""

    angle_deg: Tensor  # [B]
    shift_px: Tensor  # [B, 2]
    scale: Tensor  # [B]
    transform: AffineTransform


def make_motion(batch: int, size: Size, device: str, seed: int = 0) -> Motion:
    """Draws from the paper's ranges."""
    unit = torch.rand(batch, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1
    angle = DEGREES * unit[:, 0]
    shift = TRANSLATE * unit[:, 1:3] * torch.tensor([size[1], size[0]])
    scale = sum(SCALE) / 2 + (SCALE[1] - SCALE[0]) / 2 * unit[:, 3]
    transform = AffineTransform.from_params(angle=angle, translation=shift, scale=scale, size=size)
    return Motion(angle, shift, scale, transform.to(device))


def make_image(case: Case, size: Size | None = None, seed: int = 1) -> Tensor:  # [B, C, H, W]
    """Noise, the hardest image for an error of position: in [0, 1], or 0..255 as uint8."""
    shape = (case.batch, case.channels, *(size or case.size))
    generator = torch.Generator().manual_seed(seed)
    if case.dtype == "uint8":
        return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8).to(case.device)
    return torch.rand(shape, generator=generator).to(DTYPES[case.dtype]).to(case.device)
