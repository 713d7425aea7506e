"""The baseline: labelled crops alone, flipped at random."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from s4aug import AffineTransform

from ..data.cache import Tile
from ..data.normalization import Normalization
from .protocol import Batch, Losses
from .supervision import cross_entropy, labelled_views, random_flips


@dataclass(frozen=True)
class Supervised:
    """Minimise Eq. 1.

    Args:
        normalization: Of the images.
    """

    normalization: Normalization
    uses_unlabeled = False
    mode = "nearest"  # flips fall on pixels

    def labelled_tiles(self, labeled: Sequence[Tile], unlabeled: Sequence[Tile]) -> list[Tile]:
        """The labelled tiles."""
        return list(labeled)

    def motion(self, batch: Batch) -> AffineTransform:
        """How the labelled crops are moved: flips."""
        return random_flips(batch.labeled, batch.seeds("flip/labeled", len(batch.labeled.ids)))

    def losses(self, network: nn.Module, batch: Batch) -> Losses:
        """Cross entropy of the moved crops."""
        images, labels = labelled_views(batch.labeled, self.motion(batch), self.normalization, mode=self.mode)
        loss = cross_entropy(network(images), labels)
        nothing = loss.new_zeros(())
        return Losses(loss, loss.detach(), nothing, 0.0, nothing)
