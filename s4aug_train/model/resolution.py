"""Logits of a lower resolution than the images."""

import torch
import torch.nn.functional as F
from torch import Tensor


def at_size(logits: Tensor, size: tuple[int, int]) -> Tensor:  # [B, K, h', w'] -> [B, K, h, w]
    """Logits of a stride, interpolated to the pixels' size; a cell stands in the middle of its pixels."""
    if logits.shape[-2:] == torch.Size(size):
        return logits
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)
