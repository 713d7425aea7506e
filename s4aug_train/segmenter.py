"""A trained network with all that using it takes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .data.normalization import Normalization
from .data.palette import ClassTable
from .model import at_size


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A network that is ready for images as they are stored.

    Args:
        network: Maps normalised [B, bands, H, W] to logits [B, K, H, W], or at a stride; in evaluation mode, on
            `device`.
        classes: The K classes, in the order of the logits.
        bands: Of the images.
        dtype: Of the images: "uint8", "uint16" or "float32".
        normalization: As in training.
        device: Where the network is.
        autocast: Lower precision of the forward; None for the parameters' own.
        weights: A hash of the weights, which tells what one network made from what another made.
    """

    network: nn.Module
    classes: ClassTable
    bands: int
    dtype: str
    normalization: Normalization
    device: torch.device
    autocast: torch.dtype | None = None
    weights: str = ""

    def inputs(self, images: Tensor, valid: Tensor | None) -> Tensor:  # [B, bands, H, W] -> the same, float32
        """Images as stored, and which of their pixels [B, 1, H, W] are real, normalised on the device."""
        return self.normalization.apply(images.to(self.device), None if valid is None else valid.to(self.device))

    @torch.inference_mode()
    def probabilities(self, inputs: Tensor) -> Tensor:  # [B, bands, H, W] -> [B, K, H, W] float32
        """Of each class at each pixel of normalised images."""
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            logits = self.network(inputs)
        return at_size(logits.float(), (inputs.shape[-2], inputs.shape[-1])).softmax(1)


def weights_hash(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) of names, types, shapes and values of weights, however they lie in memory."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
