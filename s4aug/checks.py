"""Checks of arguments, each with an error that names the argument, what came and the cure."""

import torch
from torch import Tensor

from .errors import ArgumentError

Size = tuple[int, int]


def check_size(size: Size, name: str) -> Size:
    """Return `size` as a tuple of two whole numbers `(H, W)`, each at least 1."""
    if isinstance(size, int) or len(size) != 2 or any(int(side) != side or side < 1 for side in size):
        raise ArgumentError(f"{name} must be (H, W) in whole pixels, each at least 1, got {size!r}")
    return int(size[0]), int(size[1])


def check_image(image: Tensor, size: Size, batch: int, name: str) -> None:
    """Hold `image` to shape [B, C, H, W] with the batch and the size that the transform expects."""
    if image.ndim != 4:
        raise ArgumentError(f"{name} must have shape [B, C, H, W], got {list(image.shape)}")
    if tuple(image.shape[-2:]) != size:
        raise ArgumentError(
            f"{name} is {tuple(image.shape[-2:])} (H, W), the transform was made for {size}; "
            f"use transform.at(...) for a map of another resolution"
        )
    if image.shape[0] != batch:
        raise ArgumentError(f"{name} has batch {image.shape[0]}, the transform has {batch}")


def check_mask(mask: Tensor, image: Tensor, name: str) -> None:
    """Hold `mask` to bool of shape [B, 1, H, W], beside `image` [B, C, H, W] on the same device."""
    expected = [image.shape[0], 1, *image.shape[-2:]]
    if mask.dtype != torch.bool or list(mask.shape) != expected:
        raise ArgumentError(f"{name} must be bool of shape {expected}, got {mask.dtype} of shape {list(mask.shape)}")
    if mask.device != image.device:
        raise ArgumentError(f"{name} is on {mask.device}, the image on {image.device}; move one of them")


def check_choice(value: str, choices: tuple[str, ...], name: str) -> None:
    """Hold `value` to one of `choices`."""
    if value not in choices:
        raise ArgumentError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
