"""The control: supervised training with S4Net's affine perturbations as plain augmentation."""

from torch import Tensor

from .protocol import Batch
from .supervised import Supervised
from .supervision import perturbed_images
from .views import margin


class SupAffine(Supervised):
    """Tells how much of S4Net's gain is augmentation: the same motions, on labelled crops, no consistency."""

    def margins(self) -> tuple[int, int]:
        """Labelled crops are seen as S4Net sees its unlabelled ones."""
        return margin(self.setup), 0

    def images(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The labelled crops, flipped and moved."""
        return perturbed_images(self.setup, batch)
