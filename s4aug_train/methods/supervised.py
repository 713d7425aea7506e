"""The baseline: labelled crops alone, flipped at random."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from ..data.cache import Tile
from ..data.normalization import Normalization
from .protocol import Batch, Losses
from .supervision import cross_entropy, labelled_views, random_flips


@dataclass(frozen=True)
class Supervised:
    """Minimise Eq. 1."""

    normalization: Normalization
    uses_unlabeled = False

    def labelled_tiles(self, labeled: Sequence[Tile], unlabeled: Sequence[Tile]) -> list[Tile]:
        """The labelled tiles."""
        return list(labeled)

    def losses(self, network: nn.Module, batch: Batch) -> Losses:
        """Cross entropy of the flipped crops."""
        flips = random_flips(batch.labeled, batch.seeds("flip/labeled", len(batch.labeled.ids)))
        images, labels = labelled_views(batch.labeled, flips, self.normalization, mode="nearest")
        loss = cross_entropy(network(images), labels)
        nothing = loss.new_zeros(())
        return Losses(loss, loss.detach(), nothing, 0.0, nothing)
