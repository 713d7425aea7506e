"""The control: supervised training with S4Net's affine perturbations as plain augmentation."""

from dataclasses import dataclass

from s4aug import AffineRanges, AffineTransform, sample_affine

from .protocol import Batch
from .supervised import Supervised


@dataclass(frozen=True)
class SupAffine(Supervised):
    """Tells how much of S4Net's gain is augmentation: the same motions, on labelled crops, no consistency.

    Args:
        ranges: What the motions are drawn from.
    """

    ranges: AffineRanges
    mode = "bilinear"

    def motion(self, batch: Batch) -> AffineTransform:
        """Flips, then a random affine transform, as one motion."""
        flips = super().motion(batch)
        seeds = batch.seeds("affine/labeled", len(flips))
        return sample_affine(self.ranges, len(flips), flips.size, device=flips.matrix.device, seed=seeds) @ flips
