"""Virtual adversarial training (Miyato et al. 2018): no small change of an image shall move its prediction."""

from typing import Any

import torch
from torch import Tensor, nn

from s4aug import View
from s4aug.philox import uniform

from ..config import MethodConfig
from .protocol import Batch, Losses, Method
from .s4net import S4Net, compared, forwarded, with_consistency
from .supervision import labelled_images, supervised_loss
from .teacher import Network, still
from .views import flipped_view, with_image

WORD_BITS = 32  # random bits of one of philox's numbers


class Vat(Method):
    """The divergence from the prediction of a crop to that of the crop and its adversarial perturbation."""

    uses_unlabeled = True

    def counts_ahead(self) -> bool:
        """Valid pixels follow from the crops."""
        return not self.setup.config.train.dice

    def losses(self, network: nn.Module, batch: Batch, partner: Any) -> Losses:
        """Predict, look for the worst perturbation, and hold its prediction to the first one."""
        assert batch.unlabeled is not None
        config = self.setup.config.method
        images, labels = labelled_images(self.setup, batch)
        view = flipped_view(self.setup, batch.unlabeled, batch)
        fixed, beside = still(network), [images] if config.forward == "joint" else []
        target = clean_prediction(fixed, view.image, beside)
        seeds = batch.seeds("vat", len(view.image))
        worst = adversarial_view(fixed, view, target, view, config=config, beside=beside, seeds=seeds)
        logits, pred = forwarded(network, [images, worst.image], config.forward)
        supervised = supervised_loss(self.setup, batch, logits, labels)
        terms = compared(config, target, view, pred.float(), worst, detach=1)
        return with_consistency(batch, supervised, terms)


class VatAffine(S4Net):
    """S4Net whose second view is changed so that its prediction contradicts the first view's most."""

    def partner(self, network: nn.Module) -> None:
        """None: an adversary of the network itself is looked for."""

    def losses(self, network: nn.Module, batch: Batch, partner: Any) -> Losses:
        """As S4Net, after a search that takes the first view's prediction for its target."""
        config = self.setup.config.method
        images, labels = labelled_images(self.setup, batch)
        view1, view2 = self.views(batch)
        fixed, beside = still(network), [images] if config.forward == "joint" else []
        with1, with2 = ([*beside, view.image] if beside else [] for view in (view1, view2))
        target = clean_prediction(fixed, view1.image, with2)
        seeds = batch.seeds("vat", len(view2.image))
        worst = adversarial_view(fixed, view2, target, view1, config=config, beside=with1, seeds=seeds)
        logits, pred1, pred2 = forwarded(network, [images, view1.image, worst.image], config.forward)
        supervised = supervised_loss(self.setup, batch, logits, labels)
        terms = compared(config, pred1, view1, pred2, worst, detach=config.detach)
        return with_consistency(batch, supervised, terms)


def adversarial_view(
    network: Network,
    view: View,
    target: Tensor,
    target_view: View,
    *,
    config: MethodConfig,
    beside: list[Tensor],
    seeds: Tensor,
) -> View:
    """The view and r_vadv: the perturbation of its size that moves the prediction furthest from a target.

    It is found by power iteration (Miyato et al., Sec. 3.3): a random direction d is replaced by the gradient of the
    divergence at image + d. A sample without gradient, as one without real pixels, is left as it is.

    Args:
        network: As `still` gives it.
        view: [B, C, h, w], what is perturbed, where it is real.
        target: [B, K, h', w'], without gradient.
        target_view: The view that `target` was predicted for.
        config: The divergence; root mean squares, over real elements, of d (`vat_probe`) and r (`vat_radius`).
        beside: Images that share the forward, which BatchNorm sees.
        seeds: [B] int64, of the random directions.
    """
    count = len(view.image)
    direction = scaled(signs_like(view.image, seeds), view.valid, config.vat_probe)
    for _ in range(config.vat_iterations):
        probed = torch.cat([*beside, view.image + direction]).requires_grad_()
        terms = compared(config, target, target_view, in_float32(network, probed)[-count:], view, detach=1)
        (gradient,) = torch.autograd.grad(terms.numerator, probed)
        direction = scaled(gradient[-count:], view.valid, config.vat_probe)
    return with_image(view, view.image + scaled(direction, view.valid, config.vat_radius))


def clean_prediction(network: Network, images: Tensor, beside: list[Tensor]) -> Tensor:  # [B, K, h', w']
    """What the search compares with: the prediction for the images alone, of a forward that others share."""
    with torch.no_grad():
        return in_float32(network, torch.cat([*beside, images]))[-len(images) :]


def in_float32(network: Network, images: Tensor) -> Tensor:
    """A prediction without autocast: in bfloat16 the differences that the search lives on would be rounding."""
    with torch.autocast(images.device.type, enabled=False):
        return network(images)


def scaled(direction: Tensor, valid: Tensor, rms: float) -> Tensor:  # [B, C, h, w], [B, 1, h, w] -> [B, C, h, w]
    """Each sample's direction, of this root mean square over its real elements; 0 elsewhere, and where it has none."""
    real = torch.where(valid, direction, 0.0)
    # Gradients are small: their squares would vanish in float32.
    peak = real.abs().amax((1, 2, 3), keepdim=True)
    unit = real / torch.where(peak > 0, peak, 1.0)
    elements = direction.shape[1] * valid.sum((1, 2, 3), keepdim=True)
    mean_square = (unit * unit).sum((1, 2, 3), keepdim=True) / elements.clamp_min(1)
    return unit * (rms / torch.where(mean_square > 0, mean_square, 1.0).sqrt())


def signs_like(images: Tensor, seeds: Tensor) -> Tensor:  # [B, C, h, w], [B] -> [B, C, h, w]
    """1 or -1 at random, made on the device from the seed of each sample.

    For a power iteration any random direction serves; normal numbers take 30 times as many random bits.
    """
    count = images[0].numel()
    words = (uniform(seeds, -(-count // WORD_BITS)) * 2**WORD_BITS).to(torch.int64)  # [B, n]
    bits = words[..., None] >> torch.arange(WORD_BITS, device=seeds.device) & 1
    return (2 * bits - 1).flatten(1)[:, :count].to(images.dtype).unflatten(1, images.shape[1:])
