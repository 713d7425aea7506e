"""The baseline: labelled crops alone, flipped at random."""

from typing import Any

from torch import Tensor, nn

from .protocol import Batch, Losses, Method
from .supervision import labelled_images, supervised_loss


class Supervised(Method):
    """Minimise Eq. 1."""

    def images(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The labelled crops as the network sees them, and their labels."""
        return labelled_images(self.setup, batch)

    def losses(self, network: nn.Module, batch: Batch, partner: Any) -> Losses:
        """Loss of the labelled crops."""
        images, labels = self.images(batch)
        loss = supervised_loss(self.setup, batch, network(images), labels)
        nothing = loss.new_zeros(())
        return Losses(loss, loss.detach(), nothing, nothing)

    def counts_ahead(self) -> bool:
        """Labelled pixels follow from the crops."""
        return not self.setup.config.train.dice
