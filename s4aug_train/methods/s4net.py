"""S4Net: supervised loss plus lambda times the consistency of two undone predictions (Algorithm 1)."""

from typing import Any

import torch
from torch import Tensor, nn

from s4aug import ConsistencyTerms, View, consistency_terms

from ..config import MethodConfig
from .protocol import Batch, Losses, Method
from .supervision import labelled_images, supervised_loss
from .teacher import Teacher, averaged
from .views import flipped_view, margin, perturbed_view


class S4Net(Method):
    """Eq. 2 with Eq. 4 as the unsupervised term. With `method.ema` the second prediction is theta-bar's, Eq. 3."""

    uses_unlabeled = True

    def margins(self) -> tuple[int, int]:
        """Views may show what lies around the crop."""
        return 0, margin(self.setup)

    def partner(self, network: nn.Module) -> Teacher | None:
        """theta-bar, where it is not theta."""
        return averaged(network, self.setup.config.method.ema)

    def losses(self, network: nn.Module, batch: Batch, partner: Any) -> Losses:
        """One step of Algorithm 1."""
        config = self.setup.config.method
        images, labels = labelled_images(self.setup, batch)
        view1, view2 = self.views(batch)
        if partner is None:
            logits, pred1, pred2 = forwarded(network, [images, view1.image, view2.image], config.forward)
        else:
            logits, pred1 = forwarded(network, [images, view1.image], config.forward)
            pred2 = partner.predict(view2.image)
        supervised = supervised_loss(self.setup, batch, logits, labels)
        terms = compared(config, pred1, view1, pred2, view2, detach=config.detach if partner is None else 2)
        return with_consistency(batch, supervised, terms)

    def counts_ahead(self) -> bool:
        """Valid pixels follow from the views."""
        return not self.setup.config.train.dice

    def views(self, batch: Batch) -> tuple[View, View]:
        """Two views of the crops, phi_1 and phi_2 drawn apart, after flips that they share."""
        assert batch.unlabeled is not None
        first = perturbed_view(self.setup, batch.unlabeled, batch, "1")
        if self.setup.config.method.views == "one":
            return first, flipped_view(self.setup, batch.unlabeled, batch)
        return first, perturbed_view(self.setup, batch.unlabeled, batch, "2")


def with_consistency(batch: Batch, supervised: Tensor, terms: ConsistencyTerms) -> Losses:
    """Eq. 2."""
    unsupervised = batch.over(terms.numerator, terms.count)
    total = supervised + batch.weight * unsupervised
    return Losses(total, supervised.detach(), unsupervised.detach(), terms.valid_fraction.detach())


def compared(
    config: MethodConfig, pred1: Tensor, view1: View, pred2: Tensor, view2: View, *, detach: int
) -> ConsistencyTerms:
    """Eq. 4, as the settings read it; `detach` is 1 or 2 for a side that is a target, or 0."""
    return consistency_terms(
        pred1,
        view1,
        pred2,
        view2,
        loss=config.loss,
        activation=None if config.activation == "none" else config.activation,
        classes=config.classes,
        detach=detach or None,
        mask=config.mask,
    )


def forwarded(network: nn.Module, parts: list[Tensor], forward: str) -> list[Tensor]:
    """Predictions of several batches, by one forward ("joint") or each by its own ("separate")."""
    if forward == "separate":
        return [network(part) for part in parts]
    return list(network(torch.cat(parts)).split([len(part) for part in parts]))
