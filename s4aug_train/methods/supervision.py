"""The supervised side that all methods share: labelled crops, moved, and their loss (Eq. 1)."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from s4aug import AffineTransform, warp

from ..data.palette import IGNORE
from ..model import at_size
from .joint import Joint, alone, divided
from .protocol import Batch, Setup
from .views import flips_of, moved, statistics


def labelled_images(setup: Setup, batch: Batch) -> tuple[Tensor, Tensor]:
    """The labelled crops, flipped at random, and their labels; shapes as in `labelled_views`."""
    return labelled_views(setup, batch, flips_of(setup, batch.labeled, batch, "labeled"), mode="nearest")


def perturbed_images(setup: Setup, batch: Batch) -> tuple[Tensor, Tensor]:
    """The labelled crops, flipped and moved as the unlabelled ones are."""
    flips = flips_of(setup, batch.labeled, batch, "labeled")
    return labelled_views(setup, batch, moved(setup, batch.labeled, batch, "labeled") @ flips, mode="bilinear")


def labelled_views(setup: Setup, batch: Batch, motion: AffineTransform, *, mode: str) -> tuple[Tensor, Tensor]:
    """Labelled crops as the network sees them.

    Args:
        setup: Its normalisation is applied in the same resampling.
        batch: Its labelled crops are shown.
        motion: One transform per crop, of the crop's frame.
        mode: Of the image; "nearest" suffices for flips, which fall on pixels. Labels are always "nearest".

    Returns:
        Images [B, C, h, w] float32, 0 where not real, and labels [B, h, w] int64, 255 where unknown or not real.
    """
    crops = batch.labeled
    assert crops.labels is not None
    whole = motion if not crops.margin else motion @ crops.frame()
    images = warp(crops.images, whole, valid=crops.valid, mode=mode, normalize=statistics(setup), dtype=torch.float32)
    labels = warp(crops.labels, whole, valid=crops.valid, mode="nearest", fill=IGNORE)
    # Where interpolation reached out of the frame there is no image to go with the label.
    known = torch.where(images.valid, labels.image, IGNORE)
    return images.image, known[:, 0].long()


def supervised_loss(setup: Setup, batch: Batch, logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy, and Dice where it is asked for; 0 (with zero gradient) for a batch without labelled pixels.

    Args:
        setup: Class weights and the weight of Dice.
        batch: Means go over the joint batch that it is part of.
        logits: [B, K, h', w'], at the labels' size or a stride of it.
        labels: [B, h, w] int64, 255 is ignored.
    """
    logits = at_size(logits.float(), (labels.shape[-2], labels.shape[-1]))
    loss = cross_entropy(logits, labels, setup.class_weights, joint=batch.joint)
    dice = setup.config.train.dice
    return loss if not dice else loss + dice * dice_loss(logits, labels, joint=batch.joint)


def cross_entropy(
    logits: Tensor, labels: Tensor, weights: tuple[float, ...] | None = None, *, joint: Joint = alone
) -> Tensor:
    """Mean over labelled pixels, each counted with the weight of its class; 0 for a batch without any.

    Args:
        logits: [B, K, h, w].
        labels: [B, h, w] int64, 255 is ignored.
        weights: One per class.
        joint: As of a batch.
    """
    if weights is None:
        total = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="sum")
        return divided(total, joint((labels != IGNORE).sum()))
    weight = _on_device(weights, logits.device)
    total = F.cross_entropy(logits.float(), labels, weight, ignore_index=IGNORE, reduction="sum")
    count = torch.where(labels == IGNORE, 0.0, weight[labels.clamp_max(len(weights) - 1)]).sum()
    # 0 too where a batch holds classes of weight 0 alone.
    return divided(total, joint(count))


@lru_cache(maxsize=8)
def _on_device(weights: tuple[float, ...], device: torch.device) -> Tensor:  # [K]
    """Copied once: a copy from the host in each step would wait for the device."""
    return torch.tensor(weights, dtype=torch.float32, device=device)


def dice_loss(logits: Tensor, labels: Tensor, *, joint: Joint = alone) -> Tensor:
    """1 - the mean Dice coefficient of the classes that the batch's truth holds (Milletari et al. 2016).

    Sums go over the whole joint batch; ignored pixels count nowhere.

    Args:
        logits: [B, K, h, w].
        labels: [B, h, w] int64, 255 is ignored.
        joint: As of a batch.
    """
    known = (labels != IGNORE)[:, None]
    classes = torch.arange(logits.shape[1], device=labels.device)[:, None, None]
    truth = (labels[:, None] == classes).float()  # [B, K, h, w]
    shown = torch.where(known, torch.where(known, logits.float(), 0.0).softmax(1), 0.0)
    held, hit, guessed = (joint(part.sum((0, 2, 3))) for part in (truth, shown * truth, shown))  # each [K]
    coefficient = 2 * hit / (guessed + held).clamp_min(1e-6)
    present = held > 0
    loss = torch.where(present, 1 - coefficient, 0.0).sum()
    return loss / present.sum().clamp_min(1)
