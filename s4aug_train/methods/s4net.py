"""S4Net: supervised loss plus lambda times the consistency of two undone predictions (Algorithm 1)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from s4aug import AffineRanges, AffineTransform, View, consistency_terms, sample_affine

from ..config import MethodConfig
from ..data.cache import Tile
from ..data.normalization import Normalization
from ..data.pool import Crops
from .protocol import Batch, Losses
from .supervision import cross_entropy, labelled_views, random_flips


@dataclass(frozen=True)
class S4Net:
    """Eq. 2 with Eq. 4 as the unsupervised term.

    Args:
        normalization: Of the images.
        ranges: What the perturbations phi are drawn from, Sec. 3.2.
        config: Loss, lambda and the choices that the paper leaves open.
        steps: Of the whole run, for the ramp.
    """

    normalization: Normalization
    ranges: AffineRanges
    config: MethodConfig
    steps: int
    uses_unlabeled = True

    def labelled_tiles(self, labeled: Sequence[Tile], unlabeled: Sequence[Tile]) -> list[Tile]:
        """The labelled tiles."""
        return list(labeled)

    def losses(self, network: nn.Module, batch: Batch) -> Losses:
        """One step of Algorithm 1."""
        assert batch.unlabeled is not None
        flips = random_flips(batch.labeled, batch.seeds("flip/labeled", len(batch.labeled.ids)))
        images, labels = labelled_views(batch.labeled, flips, self.normalization, mode="nearest")
        view1, view2 = self.views(batch.unlabeled, batch)
        logits, pred1, pred2 = self._forward(network, [images, view1.image, view2.image])
        supervised = cross_entropy(logits, labels)
        terms = consistency_terms(
            pred1,
            view1,
            pred2,
            view2,
            loss=self.config.loss,
            activation=None if self.config.activation == "none" else self.config.activation,
            classes=self.config.classes,
            detach=self.config.detach or None,
            mask=self.config.mask,
        )
        weight = self.weight(batch.step)
        total = supervised + weight * terms.loss
        return Losses(total, supervised.detach(), terms.loss.detach(), weight, terms.valid_fraction.detach())

    def views(self, crops: Crops, batch: Batch) -> tuple[View, View]:
        """Two views of the crops, phi_1 and phi_2 drawn apart, after flips that they share.

        Flip, perturbation and normalisation are one resampling; undoing a view leads back to the crop as it
        lies in the tile, which is the same for both.
        """
        flips = random_flips(crops, batch.seeds("flip/unlabeled", len(crops.ids)))
        first = self._motion(crops, batch.seeds("affine/1", len(crops.ids))) @ flips
        second = self._motion(crops, batch.seeds("affine/2", len(crops.ids))) @ flips
        return self._view(crops, first), self._view(crops, second)

    def weight(self, step: int) -> float:
        """lambda: a sigmoid-shaped ramp exp(-5 (1 - x)^2), then constant (Sec. 4.2)."""
        ramp = self.config.ramp * self.steps
        done = min(step / ramp, 1.0) if ramp > 0 else 1.0
        return self.config.weight * math.exp(-5 * (1 - done) ** 2)

    def _motion(self, crops: Crops, seeds: Tensor) -> AffineTransform:
        batch, _, height, width = crops.images.shape
        return sample_affine(self.ranges, batch, (height, width), device=crops.images.device, seed=seeds)

    def _view(self, crops: Crops, motion: AffineTransform) -> View:
        statistics = (self.normalization.mean, self.normalization.std)
        return View.of(crops.images, motion, valid=crops.valid, normalize=statistics, dtype=torch.float32)

    def _forward(self, network: nn.Module, parts: list[Tensor]) -> list[Tensor]:
        if self.config.forward == "separate":
            return [network(part) for part in parts]
        return list(network(torch.cat(parts)).split([len(part) for part in parts]))
