"""Views of crops: flips, perturbations and what lies around a crop, each one resampling of the pool's pixels."""

import math

import torch
from torch import Tensor

from s4aug import AffineRanges, AffineTransform, View, sample_affine

from ..config import MethodConfig
from ..data.pool import Crops
from .photometric import relit
from .protocol import Batch, Setup

FLIPS = AffineRanges(hflip=0.5, vflip=0.5)


def perturbation_ranges(config: MethodConfig) -> AffineRanges:
    """The ranges of the random perturbations (Sec. 3.2: 15 degrees, 0.2, 0.75 to 1.25)."""
    scale = (config.scale_min, config.scale_max)
    return AffineRanges(
        degrees=config.degrees,
        translate=(config.translate, config.translate),
        scale=scale if config.isotropic else (*scale, *scale),
        shear=config.shear,
    )


def statistics(setup: Setup) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation, as `warp` takes them."""
    return setup.normalization.mean, setup.normalization.std


def margin(setup: Setup) -> int:
    """How far a perturbed view can look beyond its crop, px; 0 where the views show the crop alone."""
    if setup.config.method.source == "crop":
        return 0
    side = setup.config.train.crop
    return math.ceil(perturbation_ranges(setup.config.method).reach((side, side)))


def flips_of(setup: Setup, crops: Crops, batch: Batch, stream: str) -> AffineTransform:
    """Left-right and top-bottom flips, each with probability one half (Sec. 4.2), in the crop's frame."""
    ranges = FLIPS if setup.config.train.flips else AffineRanges()
    seeds = batch.seeds(f"flip/{stream}", len(crops.ids))
    return sample_affine(ranges, len(crops.ids), crops.size, device=crops.images.device, seed=seeds)


def moved(setup: Setup, crops: Crops, batch: Batch, stream: str) -> AffineTransform:
    """A random affine perturbation phi per crop, or one for all."""
    config = setup.config.method
    count = len(crops.ids)
    draw = batch.common_seeds if config.draw == "batch" else batch.seeds
    seeds = draw(f"affine/{stream}", count)
    ranges = perturbation_ranges(config)
    return sample_affine(ranges, count, crops.size, device=crops.images.device, seed=seeds)


def flipped_view(setup: Setup, crops: Crops, batch: Batch) -> View:
    """The unlabelled crops with nothing but flips: what a weak view shows."""
    return shown(setup, crops, flips_of(setup, crops, batch, "unlabeled"), mode="nearest")


def perturbed_view(setup: Setup, crops: Crops, batch: Batch, stream: str) -> View:
    """The unlabelled crops, flipped as in `flipped_view`, perturbed, and in another light where that is asked for."""
    flips = flips_of(setup, crops, batch, "unlabeled")
    view = shown(setup, crops, moved(setup, crops, batch, stream) @ flips, mode="bilinear")
    return relit(setup, view, batch, stream)


def shown(setup: Setup, crops: Crops, motion: AffineTransform, *, mode: str) -> View:
    """The view of a motion of the crop's frame: crop, motion and normalisation are one resampling.

    Undoing leads back to the crop as it lies in the tile, where all views of it can be compared.
    """
    whole = motion if not crops.margin else motion @ crops.frame()
    view = View.of(crops.images, whole, valid=crops.valid, mode=mode, normalize=statistics(setup), dtype=torch.float32)
    # Predictions are undone bilinearly; on flips alone that is exact.
    return View(view.image, view.valid, motion)


def with_image(view: View, image: Tensor) -> View:
    """The same view of changed pixels."""
    return View(image, view.valid, view.transform, view.mode)
