"""The control: supervised training with S4Net's affine perturbations as plain augmentation."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from s4aug import AffineRanges, sample_affine

from ..data.cache import Tile
from ..data.normalization import Normalization
from .protocol import Batch, Losses
from .supervision import cross_entropy, labelled_views, random_flips


@dataclass(frozen=True)
class SupAffine:
    """Tells how much of S4Net's gain is augmentation: the same motions, on labelled crops, no consistency."""

    normalization: Normalization
    ranges: AffineRanges
    uses_unlabeled = False

    def labelled_tiles(self, labeled: Sequence[Tile], unlabeled: Sequence[Tile]) -> list[Tile]:
        """The labelled tiles."""
        return list(labeled)

    def losses(self, network: nn.Module, batch: Batch) -> Losses:
        """Cross entropy of crops that are flipped and moved in one resampling."""
        crops = batch.labeled
        count, size = len(crops.ids), (crops.images.shape[-2], crops.images.shape[-1])
        flips = random_flips(crops, batch.seeds("flip/labeled", count))
        device = crops.images.device
        motion = sample_affine(self.ranges, count, size, device=device, seed=batch.seeds("affine/labeled", count))
        images, labels = labelled_views(crops, motion @ flips, self.normalization, mode="bilinear")
        loss = cross_entropy(network(images), labels)
        nothing = loss.new_zeros(())
        return Losses(loss, loss.detach(), nothing, 0.0, nothing)
