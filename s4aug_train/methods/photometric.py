"""Changes of light on top of a view: Kornia's intensity augmentations, drawn by (seed, step, stream)."""

from functools import lru_cache

import kornia.augmentation as K
import torch
from torch import Tensor, nn

from s4aug import Perturbation, RandomAffine, View

from ..data.normalization import Normalization
from ..rng import stream_seed
from .protocol import Batch, Setup

# Where pixels have no range of their own they are taken to lie so many standard deviations around the mean.
DEVIATIONS = 4.0
BYTE = 255.0


def relit(setup: Setup, view: View, batch: Batch, stream: str) -> View:
    """A view in another light; the view itself where none is asked for."""
    config = setup.config.method
    if not (config.jitter or config.blur or config.noise):
        return view
    light = _light(setup.normalization, config.jitter, config.blur, config.noise)
    generator = torch.Generator().manual_seed(stream_seed(batch.seed, batch.step, f"light/{stream}/{batch.part}"))
    return light.relight(view, generator=generator)


@lru_cache(maxsize=8)
def _light(normalization: Normalization, jitter: float, blur: float, noise: float) -> Perturbation:
    parts: list[nn.Module] = []
    if jitter and _is_rgb(normalization):
        parts.append(K.ColorJiggle(jitter, jitter, jitter, jitter / 4, p=0.8))
    elif jitter:
        low, high = 1 - jitter, 1 + jitter
        parts += [K.RandomBrightness((low, high), p=0.8), K.RandomContrast((low, high), p=0.8)]
    if blur:
        parts.append(K.RandomGaussianBlur((7, 7), (0.1, 2.0), p=blur))
    if noise:
        parts.append(K.RandomGaussianNoise(0.0, noise, p=1.0))
    return Perturbation(RandomAffine(), InUnits(normalization, *parts))


class InUnits(nn.Module):
    """Augmentations that take pixels from 0 to 1, applied to normalised ones.

    Args:
        normalization: Of the images.
        parts: The augmentations.
    """

    def __init__(self, normalization: Normalization, *parts: nn.Module) -> None:
        super().__init__()
        self.normalization = normalization
        self.parts = nn.ModuleList(parts)

    def forward(self, image: Tensor) -> Tensor:  # [B, C, h, w]
        """From normalised to normalised."""
        low, span = self._range(image.device)  # each [C, 1, 1]
        unit = ((image - low) / span).clamp(0, 1)
        for part in self.parts:
            unit = part(unit)
        return unit * span + low

    def _range(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The least value and the range, in standard deviations."""
        mean, std = (
            torch.tensor(numbers, dtype=torch.float32, device=device)[:, None, None]
            for numbers in (self.normalization.mean, self.normalization.std)
        )
        if _is_rgb(self.normalization):
            return -mean / std, BYTE / std
        return torch.full_like(mean, -DEVIATIONS), torch.full_like(mean, 2 * DEVIATIONS)


def _is_rgb(normalization: Normalization) -> bool:
    """Whether the images are 8-bit RGB: those have ImageNet's statistics."""
    return normalization.source == "imagenet"
