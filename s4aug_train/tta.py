"""Test-time augmentation: predictions of moved views, undone and averaged where they are real."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from s4aug import AffineRanges, AffineTransform, View, sample_affine

from .config import MethodConfig
from .errors import ConfigError
from .methods import perturbation_ranges
from .segmenter import Segmenter

MOST = 64  # affine views


@dataclass(frozen=True)
class Averaging:
    """What a window is predicted in besides itself.

    A window itself always counts, so each pixel has at least one prediction. A view counts at the pixels whose way
    there and back saw real pixels alone; nothing beyond a window's edge enters.

    Args:
        flips: Left-right, top-bottom and both.
        affine: So many random affine views.
        ranges: Of their motions.
    """

    flips: bool = False
    affine: int = 0
    ranges: AffineRanges = field(default_factory=AffineRanges)

    @classmethod
    def named(cls, text: str, config: MethodConfig) -> "Averaging":
        """Of `flips` or `affine:K`, with the motions that a method was trained with.

        Raises:
            ConfigError: It is neither.
        """
        kind, _, number = text.partition(":")
        if text == "flips":
            return cls(flips=True)
        if kind == "affine" and number.isdecimal() and 1 <= int(number) <= MOST:
            return cls(affine=int(number), ranges=perturbation_ranges(config))
        raise ConfigError(f"--tta must be flips or affine:K with K from 1 to {MOST}, got {text!r}")

    def probabilities(
        self,
        segmenter: Segmenter,
        inputs: Tensor,  # [B, bands, H, W]
        valid: Tensor | None,  # [B, 1, H, W] bool
        seeds: Tensor,  # [B] int64
    ) -> Tensor:  # [B, K, H, W]
        """Mean probabilities of normalised images over all views.

        Args:
            segmenter: The network.
            inputs: Normalised images.
            valid: Which pixels are real; None where all are.
            seeds: Of the motions, one for each image.
        """
        total = segmenter.probabilities(inputs)
        count = torch.ones_like(total[:, :1])
        real = None if valid is None else valid.to(inputs.device)
        for motion in self._motions(inputs, seeds):
            view = View.of(inputs, motion, valid=real)
            undone = view.restore(segmenter.probabilities(view.image))
            total = total + torch.where(undone.valid, undone.image, 0)
            count = count + undone.valid
        return total / count

    def _motions(self, inputs: Tensor, seeds: Tensor) -> list[AffineTransform]:
        batch, size = len(inputs), (inputs.shape[-2], inputs.shape[-1])
        motions = []
        if self.flips:
            across, down = AffineTransform.hflip(batch, size), AffineTransform.vflip(batch, size)
            motions += [motion.to(inputs.device) for motion in (across, down, across @ down)]
        for number in range(self.affine):
            motions.append(sample_affine(self.ranges, batch, size, device=inputs.device, seed=seeds * MOST + number))
        return motions
