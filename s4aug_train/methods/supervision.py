"""The supervised side that all methods share: labelled crops, moved, and their cross entropy (Eq. 1)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from s4aug import AffineRanges, AffineTransform, sample_affine, warp

from ..data.normalization import Normalization
from ..data.palette import IGNORE
from ..data.pool import Crops

FLIPS = AffineRanges(hflip=0.5, vflip=0.5)


def random_flips(crops: Crops, seeds: Tensor) -> AffineTransform:
    """Left-right and top-bottom flips, each with probability one half (Sec. 4.2)."""
    batch, _, height, width = crops.images.shape
    return sample_affine(FLIPS, batch, (height, width), device=crops.images.device, seed=seeds)


def labelled_views(
    crops: Crops, motion: AffineTransform, normalization: Normalization, *, mode: str
) -> tuple[Tensor, Tensor]:
    """Labelled crops as the network sees them.

    Args:
        crops: With labels.
        motion: One transform per crop.
        normalization: Applied in the same resampling.
        mode: Of the image; "nearest" suffices for flips, which fall on pixels. Labels are always "nearest".

    Returns:
        Images [B, C, h, w] float32, 0 where not real, and labels [B, h, w] int64, 255 where unknown or not real.
    """
    assert crops.labels is not None
    statistics = (normalization.mean, normalization.std)
    images = warp(crops.images, motion, valid=crops.valid, mode=mode, normalize=statistics, dtype=torch.float32)
    labels = warp(crops.labels, motion, valid=crops.valid, mode="nearest", fill=IGNORE)
    # Where interpolation reached out of the frame there is no image to go with the label.
    known = torch.where(images.valid, labels.image, IGNORE)
    return images.image, known[:, 0].long()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over labelled pixels; 0 (with zero gradient) for a batch without any.

    Args:
        logits: [B, K, h, w].
        labels: [B, h, w] int64, 255 is ignored.
    """
    total = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp_min(1)
