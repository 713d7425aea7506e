"""How far an exported network is from the one that was trained, measured on images."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .segmenter import Segmenter

# Batches and sides: one that needs no padding, odd ones, one below the deepest stride.
RANDOM = ((1, 64, 64), (3, 97, 65), (2, 31, 130))
HOLE_PX = 9


class Sample(NamedTuple):
    """Images to compare on."""

    images: Tensor  # [B, bands, H, W], as stored
    valid: Tensor | None  # [B, 1, H, W] bool

    def pixels(self) -> Tensor:  # [B, bands, H, W] float32
        """As an exported graph takes them: NaN where not real."""
        images = self.images.to(torch.float32)
        return images if self.valid is None else torch.where(self.valid, images, torch.nan)


@dataclass(frozen=True)
class Parity:
    """A comparison of probabilities.

    Args:
        what: "random" or "real" images.
        images: How many.
        pixels: Of all of them.
        largest: Difference of a probability; infinite where one is not finite.
        differing: Pixels whose most probable class differs.
    """

    what: str
    images: int
    pixels: int
    largest: float
    differing: int


def compare(
    what: str, segmenter: Segmenter, run: Callable[[Sample], Tensor], samples: Iterable[Sample]
) -> Parity | None:
    """Compare the probabilities of a trained network with those of its export; None where there is no sample.

    Args:
        what: As in `Parity`.
        segmenter: The trained network.
        run: The exported one: probabilities [B, K, H, W] of a sample.
        samples: What both see.
    """
    images, pixels, largest, differing = 0, 0, 0.0, 0
    for sample in samples:
        expected = segmenter.probabilities(segmenter.inputs(*sample))
        found = run(sample)
        difference = float((found - expected).abs().max()) if found.shape == expected.shape else float("nan")
        largest = max(largest, difference) if np.isfinite(difference) else float("inf")
        if found.shape == expected.shape:
            differing += int((found.argmax(1) != expected.argmax(1)).sum())
        images += len(expected)
        pixels += expected[:, 0].numel()
    return Parity(what, images, pixels, largest, differing) if images else None


def random_samples(segmenter: Segmenter, seed: int = 0) -> Iterator[Sample]:
    """Noise with the mean and standard deviation of the training images, a corner of each not real."""
    generator = np.random.default_rng(seed)
    mean, std = (np.array(part)[:, None, None] for part in (segmenter.normalization.mean, segmenter.normalization.std))
    for batch, height, width in RANDOM:
        noise = mean + std * generator.standard_normal((batch, segmenter.bands, height, width))
        if segmenter.dtype != "float32":
            noise = noise.round().clip(0, np.iinfo(segmenter.dtype).max)
        valid = torch.ones(batch, 1, height, width, dtype=torch.bool)
        valid[..., :HOLE_PX, :HOLE_PX] = False
        yield Sample(torch.from_numpy(noise.astype(segmenter.dtype)), valid)
