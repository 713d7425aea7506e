"""Warps that the fast backends are given."""

import torch

from s4aug import AffineTransform

MODES = ("bilinear", "nearest", "bicubic", "lifting")
SMOOTH = ("bilinear", "bicubic")
SIZE = (6, 7)


def turned(batch=2, size=SIZE):
    """Turns and shifts that keep area, off the lattice everywhere."""
    angle = torch.tensor([17.0, -110.0, 64.0])[:batch]
    translation = torch.tensor([[0.31, -0.83], [1.37, 0.41], [-0.7, 0.2]])[:batch]
    return AffineTransform.from_params(angle=angle, translation=translation, size=size)


def random(*shape, dtype=torch.float32, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def mask(batch=2, size=SIZE):
    return random(batch, 1, *size, seed=3) < 0.96
