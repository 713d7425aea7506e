"""CutMix (French et al. 2020): a rectangle of one crop pasted into another, and the teacher's predictions alike."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from s4aug import AffineTransform, View
from s4aug.philox import uniform

from ..errors import ConfigError
from .joint import divided
from .protocol import Batch, Losses, Method
from .s4net import compared, forwarded
from .supervision import labelled_images, supervised_loss
from .teacher import Teacher, averaged, target_of
from .views import flipped_view

AREA = 0.5  # of the rectangle, as a share of the crop


@dataclass(frozen=True)
class CutMix(Method):
    """The network on mixed crops against its average on the crops, weighted by how many pixels that is sure of."""

    uses_unlabeled = True

    def __post_init__(self) -> None:
        count = self.setup.config.train.batch_unlabeled
        if count < 2:
            raise ConfigError(f"cutmix mixes two crops: train.batch_unlabeled must be at least 2, got {count}")

    def partner(self, network: nn.Module) -> Teacher | None:
        """The teacher, where it is not the network itself."""
        return averaged(network, self.setup.config.method.ema)

    def losses(self, network: nn.Module, batch: Batch, partner: Any) -> Losses:
        """Mix crops, predict, and compare with the mixed targets."""
        assert batch.unlabeled is not None
        config = self.setup.config.method
        images, labels = labelled_images(self.setup, batch)
        crops = flipped_view(self.setup, batch.unlabeled, batch)
        target = target_of(network if partner is None else partner.network, crops.image).float()
        inside = rectangles(batch.seeds("cutmix", len(crops.image)), crops.transform.out_size)
        mixed = mix(crops, inside)
        logits, pred = forwarded(network, [images, mixed.image], config.forward)
        target, valid = mixed_target(target, mixed, inside)
        # What is compared are cells of the prediction, as they lie.
        shown, wanted = (as_view(prediction, valid) for prediction in (pred.float(), target))
        terms = compared(config, shown.image, shown, wanted.image, wanted, detach=2)
        # Both are divided by the cells compared.
        count = batch.joint(terms.count)
        confident = divided(batch.joint(confident_cells(target, valid, config.threshold)), count)
        supervised = supervised_loss(self.setup, batch, logits, labels)
        unsupervised = confident * divided(terms.numerator, count)
        total = supervised + batch.weight * unsupervised
        extra = {"confident": confident}
        return Losses(total, supervised.detach(), unsupervised.detach(), terms.valid_fraction.detach(), extra=extra)


def rectangles(seeds: Tensor, size: tuple[int, int]) -> Tensor:  # [B] -> [B, 1, h, w] bool
    """One rectangle of half the area per sample, of random aspect, anywhere in the frame.

    The share of the height is 0.5^u with u uniform in (0, 1), that of the width what is left, both in whole pixels.
    """
    height, width = size
    numbers = uniform(seeds, 3)  # [B, 3]
    tall = (height * AREA ** numbers[:, :1]).round()  # [B, 1]
    wide = (AREA * height * width / tall).round().clamp_max(width)
    top = (numbers[:, 1:2] * (height - tall + 1)).floor()
    left = (numbers[:, 2:] * (width - wide + 1)).floor()
    row, column = (torch.arange(side, device=seeds.device) for side in size)
    rows = (row >= top) & (row < top + tall)  # [B, h]
    columns = (column >= left) & (column < left + wide)  # [B, w]
    return rows[:, None, :, None] & columns[:, None, None, :]


def mix(crops: View, inside: Tensor) -> View:
    """Each crop with its rectangle taken from the next one of the batch; undoing does nothing."""
    image, valid = (torch.where(inside, part.roll(-1, 0), part) for part in (crops.image, crops.valid))
    return View(image, valid, AffineTransform.identity(len(image), crops.transform.out_size, device=image.device))


def mixed_target(
    target: Tensor,  # [B, K, h', w']
    mixed: View,
    inside: Tensor,  # [B, 1, h, w] bool
) -> tuple[Tensor, Tensor]:
    """Predictions for the crops, mixed as these were, and which of their cells to compare.

    A cell that shows pixels of both crops has no target.
    """
    within, without, real = (
        View(mixed.image, mask, mixed.transform).way_back(target).valid for mask in (inside, ~inside, mixed.valid)
    )  # [B, 1, h', w']
    return torch.where(within, target.roll(-1, 0), target), real & (within | without)


def as_view(prediction: Tensor, valid: Tensor) -> View:  # [B, K, h', w'], [B, 1, h', w']
    """A prediction as a view of itself, with nothing to undo."""
    size = (prediction.shape[-2], prediction.shape[-1])
    return View(prediction, valid, AffineTransform.identity(len(prediction), size, device=prediction.device))


def confident_cells(target: Tensor, valid: Tensor, threshold: float) -> Tensor:  # [B, K, h', w'], [B, 1, h', w']
    """How many of the cells compared have a probability that reaches the threshold."""
    confident = target.softmax(1).amax(1, keepdim=True) >= threshold
    return (confident & valid).sum()
