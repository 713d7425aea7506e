"""Logits of a lower resolution than the images."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

STRIDES = (1, 2, 4, 8, 16, 32)


def at_size(logits: Tensor, size: tuple[int, int]) -> Tensor:  # [B, K, h', w'] -> [B, K, h, w]
    """Logits of a stride, interpolated to the pixels' size; a cell stands in the middle of its pixels.

    A last cell that is cut off by the edge keeps its place: what lies beyond is cut away after interpolation.
    """
    cells = tuple(logits.shape[-2:])
    if cells == size:
        return logits
    for stride in STRIDES:
        if cells == tuple(math.ceil(side / stride) for side in size):
            whole = F.interpolate(logits, scale_factor=float(stride), mode="bilinear", align_corners=False)
            return whole[..., : size[0], : size[1]]
    return F.interpolate(logits, torch.Size(size), mode="bilinear", align_corners=False)
