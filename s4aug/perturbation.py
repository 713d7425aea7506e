"""A motion and changes of light on top of it, as one perturbation."""

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .drawing import DrawnFrom
from .errors import ArgumentError
from .philox import derived
from .transform import AffineTransform
from .view import RandomAffine, View


class Perturbation(nn.Module):
    """A random affine view with Kornia's intensity augmentations on it; undoing takes back the motion alone.

    Nothing is kept between calls, and the global random state is neither read nor moved once a generator or
    seeds are given.

    Convention:
        The motion comes first, then the augmentations in their order, in the precision of the image also under
        autocast. They change real pixels only: where the view is not valid it keeps its fill, in place of which they
        see the mean of the image's real pixels (padding other than fill is changed along with the rest).

    Args:
        geometric: The motion.
        photometric: Augmentations that leave every pixel in its place, such as
            `kornia.augmentation.ColorJiggle`; each maps [B, C, H, W] to the same shape.

    Raises:
        ArgumentError: A photometric part that is no module, or that moves or mixes pixels.

    Example:
        >>> perturb = Perturbation(RandomAffine(degrees=15), nn.Identity())
        >>> view = perturb(torch.rand(2, 3, 8, 8), seed=torch.tensor([1, 2]))
        >>> view.image.shape
        torch.Size([2, 3, 8, 8])
    """

    def __init__(self, geometric: RandomAffine, *photometric: nn.Module) -> None:
        super().__init__()
        if not isinstance(geometric, RandomAffine):
            raise ArgumentError(f"geometric must be a RandomAffine, got {type(geometric).__name__}")
        for part in photometric:
            _check_photometric(part)
        self.geometric = geometric
        self.photometric = nn.ModuleList(photometric)

    def forward(
        self,
        images: Tensor,
        *,
        valid: Tensor | None = None,
        shared: AffineTransform | None = None,
        generator: torch.Generator | None = None,
        seed: Tensor | None = None,
    ) -> View:
        """Draw one motion and one change of light per image; arguments as in `RandomAffine`.

        With `seed` each image is changed on its own, so that its numbers do not depend on the batch; seeds on a
        device are then read back. With `generator` the batch is changed at once.
        """
        view = self.geometric(images, valid=valid, shared=shared, generator=generator, seed=seed)
        return self.relight(view, generator=generator, seed=seed)

    if TYPE_CHECKING:
        # To type checkers a call of a module is Any.
        __call__ = forward

    def relight(self, view: View, *, generator: torch.Generator | None = None, seed: Tensor | None = None) -> View:
        """The changes of light alone, on a view that is there, as one made by `View.of`; arguments as in a call."""
        if not self.photometric or not len(view.image):
            return view
        if self.geometric.padding == "fill":
            changed = self._changed(_evened(view.image, view.valid), generator, seed)
            changed = torch.where(view.valid, changed, view.image)
        else:
            # Some parts write into what they get.
            changed = self._changed(view.image.clone(), generator, seed)
        return View(changed, view.valid, view.transform, view.mode)

    def _changed(self, image: Tensor, generator: torch.Generator | None, seed: Tensor | None) -> Tensor:
        if seed is not None:
            alone = zip(image.split(1), derived(seed).tolist(), strict=True)
            return torch.cat([self._drawn(one, torch.Generator().manual_seed(number)) for one, number in alone])
        return self._applied(image) if generator is None else self._drawn(image, generator)

    def _drawn(self, image: Tensor, generator: torch.Generator) -> Tensor:
        with DrawnFrom(generator):
            return self._applied(image)

    def _applied(self, image: Tensor) -> Tensor:
        for part in self.photometric:
            # A blur is a convolution, which autocast would round to 8 bits.
            with _without_autocast(image.device.type):
                changed = part(image)
            if changed.shape != image.shape:
                raise ArgumentError(
                    f"photometric must keep shapes, {type(part).__name__} makes {list(changed.shape)} of "
                    f"{list(image.shape)}"
                )
            image = changed
        return image


def _without_autocast(device: str) -> AbstractContextManager[object]:
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def _evened(image: Tensor, valid: Tensor) -> Tensor:
    """A copy with the mean of its real pixels where they are not, so that a blur spreads no fill; 0 without any."""
    wide = torch.promote_types(image.dtype, torch.float32)
    counted = valid & image.isfinite()
    sums = torch.where(counted, image, 0).sum((-2, -1), keepdim=True, dtype=wide)  # [B, C, 1, 1]
    mean = sums / counted.sum((-2, -1), keepdim=True).clamp(min=1)
    return torch.where(valid, image, mean.to(image.dtype))


def _check_photometric(part: nn.Module) -> None:
    if not isinstance(part, nn.Module):
        raise ArgumentError(f"photometric must be modules, got {type(part).__name__}")
    # Who passes one of Kornia's has loaded it; to load it for the question would take a second.
    kornia = sys.modules.get("kornia.augmentation")
    if kornia is None:
        return
    for held in part.modules():
        augments = isinstance(held, kornia.base._BasicAugmentationBase)
        if augments and not isinstance(held, kornia.IntensityAugmentationBase2D):
            raise ArgumentError(
                f"photometric must leave pixels in their place, {type(held).__name__} moves or mixes them"
            )
