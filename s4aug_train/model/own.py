"""Networks of the user's: any that maps images to logits, at their size or a stride of it."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..imports import named_object
from .resolution import STRIDES
from .unet import STRIDE

PROBE = 64  # px, side of the blank image that a network is tried on


class OwnNetwork(nn.Module):
    """A network made to take images of any size, as windows at the edge of a tile have.

    Args:
        network: Maps [B, bands, H, W], sides multiples of 32, to logits [B, K, H / s, W / s].

    Attributes:
        stride: s, once it is known.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.stride = 1

    def forward(self, images: Tensor) -> Tensor:  # [B, bands, H, W] -> [B, K, ceil(H / s), ceil(W / s)]
        """Logits; sides that are no multiples of 32 are padded and cut back."""
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")
        logits: Tensor = self.network(padded)
        return logits[..., : math.ceil(height / self.stride), : math.ceil(width / self.stride)]


def own_network(network: nn.Module | str, classes: int, bands: int) -> OwnNetwork:
    """A network of the user's, tried on a blank image.

    Args:
        network: The module, or `package.module:function` of one that takes (classes, bands) and gives it.
        classes: Number of classes K.
        bands: Of the images.

    Raises:
        ConfigError: It cannot be had, or does not map images to logits.
    """
    named = network if isinstance(network, str) else None
    if named is not None:
        try:
            network = named_object(named, "--model")(classes, bands)
        except ConfigError:
            raise
        except Exception as error:  # whatever the user's function raises
            raise ConfigError(
                f"--model {named} failed: {type(error).__name__}: {error}; it is called with (classes={classes}, "
                f"bands={bands})"
            ) from error
    what = f"--model {named}" if named else "model"
    if not isinstance(network, nn.Module):
        raise ConfigError(f"{what} must be a torch.nn.Module, got {type(network).__name__}")
    own = OwnNetwork(network)
    _check(own, what, classes, bands)
    return own.to(memory_format=torch.channels_last)


@torch.no_grad()
def _check(own: OwnNetwork, what: str, classes: int, bands: int) -> None:
    parameter = next(own.parameters(), None)
    if parameter is None or not any(each.requires_grad for each in own.parameters()):
        raise ConfigError(f"{what} has no parameters to train")
    training = {module: module.training for module in own.modules()}
    try:
        made = own.eval().network(torch.zeros(1, bands, PROBE, PROBE, device=parameter.device))
    except Exception as error:  # whatever the user's network raises
        raise ConfigError(
            f"{what} fails on images [1, {bands}, {PROBE}, {PROBE}]: {type(error).__name__}: {error}"
        ) from error
    finally:
        for module, was in training.items():
            module.training = was
    if not isinstance(made, Tensor):
        raise ConfigError(f"{what} must return logits as one Tensor, got {type(made).__name__}; wrap it")
    shape = list(made.shape)
    square = len(shape) == 4 and shape[2] == shape[3] and shape[2] in (PROBE // stride for stride in STRIDES)
    if not square or shape[:2] != [1, classes] or not made.is_floating_point():
        raise ConfigError(
            f"{what} must map [1, {bands}, {PROBE}, {PROBE}] to logits [1, {classes}, {PROBE} / s, {PROBE} / s] of a "
            f"stride s of 1, 2, 4, 8, 16 or 32, got {shape} of {made.dtype}"
        )
    own.stride = PROBE // shape[2]
