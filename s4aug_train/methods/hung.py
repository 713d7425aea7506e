"""Hung et al., Adversarial Learning for Semi-Supervised Semantic Segmentation (BMVC 2018)."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.palette import IGNORE
from ..model import at_size
from ..rng import stream_seed
from .discriminator import Discriminator
from .joint import Joint, alone, divided
from .protocol import Batch, Losses, Method
from .s4net import forwarded
from .supervision import cross_entropy, labelled_images, supervised_loss
from .views import flipped_view


class Hung(Method):
    """Predictions should pass for truth, and those of unlabelled images that do become labels.

    A discriminator D is trained on labelled images to tell predictions from one-hot truth. The network minimises the
    supervised loss, `adversarial` times the loss of not passing for truth, `adversarial_unlabeled` times the same of
    unlabelled images, and lambda_semi (`weight`) times the cross entropy with its own labels, where D's confidence is
    above `threshold`. The last two begin after `semi_start` of the steps.

    All is judged at the pixels' size, in float32; ignored pixels are 0 in all maps, so that D cannot go by them.
    """

    uses_unlabeled = True
    valid_by_geometry = False

    def weight(self, step: int) -> float:
        """lambda_semi; 0 before the start."""
        return super().weight(step) if step >= self.start() else 0.0

    def start(self) -> int:
        """The first step on which unlabelled images count."""
        config = self.setup.config
        # Rounded: 0.07 * 100 is more than 7.
        return math.ceil(round(config.method.semi_start * config.train.steps, 6))

    def partner(self, network: nn.Module) -> Discriminator:
        """D; its beginning follows from the run's seed alone."""
        config = self.setup.config
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(stream_seed(config.train.seed, 0, "discriminator"))
            return Discriminator(self.setup.classes, rate=config.method.discriminator_lr, steps=config.train.steps)

    def losses(self, network: nn.Module, batch: Batch, partner: Any) -> Losses:
        """What the network minimises, and D in `partner`; `valid_fraction`: unlabelled pixels that D trusts."""
        assert batch.unlabeled is not None
        config = self.setup.config.method
        images, labels = labelled_images(self.setup, batch)
        view = flipped_view(self.setup, batch.unlabeled, batch)
        logits, guess = forwarded(network, [images, view.image], config.forward)
        supervised = supervised_loss(self.setup, batch, logits, labels)
        with torch.autocast(images.device.type, enabled=False):
            logits, guess = (at_size(part.float(), (labels.shape[-2], labels.shape[-1])) for part in (logits, guess))
            known = (labels != IGNORE)[:, None]
            maps = class_maps(logits, known)
            seen, confidence = _judged(partner, maps, class_maps(guess, view.valid))
            passing, passing_unlabeled = (
                told(judged, counted, truth=True, joint=batch.joint)
                for judged, counted in ((seen, known), (confidence, view.valid))
            )
            trusted = view.valid & (confidence.detach().sigmoid() > config.threshold)  # [B, 1, h, w]
            taught = self_taught(guess, trusted, joint=batch.joint)
            of_partner = discriminator_loss(partner, maps.detach(), labels, joint=batch.joint)
        begun = config.adversarial_unlabeled * self.started(batch, partner)
        total = supervised + config.adversarial * passing + begun * passing_unlabeled + batch.weight * taught
        return Losses(
            total,
            supervised.detach(),
            taught.detach(),
            trusted.float().mean(),
            partner=of_partner,
            extra={"loss_discriminator": of_partner.detach(), "loss_adversarial": passing.detach()},
        )

    def started(self, batch: Batch, partner: Discriminator) -> Tensor:
        """Whether unlabelled images count; on the device, since a recorded step takes no branches."""
        # With lambda_semi = 0 the weight does not tell; D has counted the steps of the run.
        return batch.weight > 0 if self.setup.config.method.weight else partner.done >= self.start()


def class_maps(logits: Tensor, counted: Tensor) -> Tensor:  # [B, K, h, w]
    """What D sees of a prediction: probabilities, 0 on pixels that do not count."""
    return torch.where(counted, logits.softmax(1), 0.0)


def truth_maps(labels: Tensor, classes: int) -> Tensor:  # [B, K, h, w]
    """What D sees of labels [B, h, w]: one-hot vectors, 0 on ignored pixels."""
    return (labels[:, None] == torch.arange(classes, device=labels.device)[:, None, None]).float()


def told(judgement: Tensor, counted: Tensor, *, truth: bool, joint: Joint = alone) -> Tensor:
    """Binary cross entropy of being told as truth, or as a prediction; the mean over pixels that count, 0 without any.

    Args:
        judgement: [B, 1, h, w], D's logits.
        counted: [B, 1, h, w] bool.
        truth: What the pixels should be told as.
        joint: As of a batch.
    """
    loss = F.softplus(-judgement if truth else judgement)
    return divided(torch.where(counted, loss, 0.0).sum(), joint(counted.sum()))


def self_taught(logits: Tensor, trusted: Tensor, *, joint: Joint = alone) -> Tensor:
    """Cross entropy of a prediction [B, K, h, w] with its own labels; the mean over trusted pixels [B, 1, h, w]."""
    labels = torch.where(trusted[:, 0], logits.detach().argmax(1), IGNORE)
    return cross_entropy(logits, labels, joint=joint)


def discriminator_loss(discriminator: Discriminator, maps: Tensor, labels: Tensor, *, joint: Joint = alone) -> Tensor:
    """What D minimises: to tell predictions and truth apart, both halves alike; ln 2 when it guesses.

    Args:
        discriminator: D.
        maps: [B, K, h, w], of predictions, without gradient.
        labels: [B, h, w] int64, 255 is ignored.
        joint: As of a batch.
    """
    known = (labels != IGNORE)[:, None]
    both = discriminator(torch.cat([maps, truth_maps(labels, maps.shape[1])]))
    predicted, true = both.chunk(2)
    return (told(predicted, known, truth=False, joint=joint) + told(true, known, truth=True, joint=joint)) / 2


def _judged(discriminator: Discriminator, *maps: Tensor) -> list[Tensor]:
    """D's logits for several batches of maps, by one forward."""
    return list(discriminator.judge(torch.cat(maps)).split([len(part) for part in maps]))
