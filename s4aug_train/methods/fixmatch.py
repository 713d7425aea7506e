"""FixMatch (Sohn et al. 2020): confident pseudo-labels of flipped crops teach their perturbed views, undone."""

from typing import Any

import torch
from torch import Tensor, nn

from s4aug import View

from .joint import divided
from .protocol import Batch, Losses, Method
from .s4net import forwarded
from .supervision import labelled_images, supervised_loss
from .teacher import Teacher, averaged, target_of
from .views import flipped_view, margin, perturbed_view


class FixMatch(Method):
    """Cross entropy with the labels that the weak view is sure of, in the crop's frame."""

    uses_unlabeled = True

    def margins(self) -> tuple[int, int]:
        """Views may show what lies around the crop."""
        return 0, margin(self.setup)

    def partner(self, network: nn.Module) -> Teacher | None:
        """An average of the network that labels in its place, where one is asked for."""
        return averaged(network, self.setup.config.method.ema)

    def losses(self, network: nn.Module, batch: Batch, partner: Any) -> Losses:
        """Label the weak view, and hold the strong one to it where it is confident."""
        config = self.setup.config.method
        images, labels = labelled_images(self.setup, batch)
        weak, strong = self.views(batch)
        if partner is None and config.forward == "joint":
            logits, target, pred = forwarded(network, [images, weak.image, strong.image], "joint")
        else:
            target = target_of(network if partner is None else partner.network, weak.image)
            logits, pred = forwarded(network, [images, strong.image], config.forward)
        taught, confident, real = pseudo_labelled(target.detach(), weak, pred, strong, config.threshold)
        count = batch.joint(real.sum())
        unsupervised = divided(taught, count)
        supervised = supervised_loss(self.setup, batch, logits, labels)
        total = supervised + batch.weight * unsupervised
        extra = {"confident": divided(confident, count)}
        return Losses(total, supervised.detach(), unsupervised.detach(), real.float().mean(), extra=extra)

    def counts_ahead(self) -> bool:
        """Real pixels follow from the views."""
        return not self.setup.config.train.dice

    def views(self, batch: Batch) -> tuple[View, View]:
        """A weak view, of flips alone, and a strong one of the same crops."""
        assert batch.unlabeled is not None
        weak = flipped_view(self.setup, batch.unlabeled, batch)
        return weak, perturbed_view(self.setup, batch.unlabeled, batch, "1")


def pseudo_labelled(
    target: Tensor,  # [B, K, h', w']
    weak: View,
    pred: Tensor,  # [B, K, h', w']
    strong: View,
    threshold: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Eq. 4 of FixMatch for pixels, in the frame of the crops: the sum over confident pixels.

    Convention:
        Softmax first, then undo. It is to be divided by the number of pixels that are real in both views, confident
        or not.

    Args:
        target: Logits for the weak view, without gradient.
        weak: Its motion is undone.
        pred: Logits for the strong view.
        strong: Its motion is undone.
        threshold: Least probability of a pseudo-label.

    Returns:
        The sum of the cross entropies, how many pixels are confident, and which are real, [B, 1, h', w'].
    """
    sure, known = weak.restore(target.float().softmax(1))
    shown, real = strong.restore(pred.float().softmax(1))
    real = real & known  # [B, 1, h', w']
    confidence, label = sure.max(1, keepdim=True)
    taught = real & (confidence >= threshold)
    # Where nothing is taught the probability is taken for 1, so that neither value nor gradient leaks.
    probability = torch.where(taught, shown.gather(1, label), 1.0)
    tiny = torch.finfo(probability.dtype).tiny
    return -probability.clamp_min(tiny).log().sum(), taught.sum(), real
