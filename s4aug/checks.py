"""Checks of arguments, each with an error that names the argument, what came and the cure."""

import math
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from .errors import ArgumentError

Size = tuple[int, int]
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    *(torch.int8, torch.int16, torch.int32, torch.int64, torch.bool),
)


def check_size(size: Size, name: str) -> Size:
    """Return `size` as a tuple of two whole numbers `(H, W)`, each at least 1."""
    if not isinstance(size, tuple | list) or len(size) != 2 or not all(_is_side(side) for side in size):
        raise ArgumentError(f"{name} must be (H, W) in whole pixels, each at least 1, got {size!r}")
    return int(size[0]), int(size[1])


def check_tensor(value: Tensor, name: str) -> None:
    """Hold `value` to a tensor."""
    if not isinstance(value, Tensor):
        raise ArgumentError(f"{name} must be a torch.Tensor, got {type(value).__name__}; torch.as_tensor makes one")


def check_pixels(image: Tensor, name: str) -> None:
    """Hold `image` to a tensor [B, C, H, W] of a type that pixels may have."""
    check_tensor(image, name)
    if image.ndim != 4:
        raise ArgumentError(f"{name} must have shape [B, C, H, W], got {list(image.shape)}")
    if image.dtype not in FLOATS and image.dtype not in INTEGERS:
        raise ArgumentError(f"{name} must hold integers or 16-, 32- or 64-bit floats, got {image.dtype}; convert it")


def check_image(image: Tensor, size: Size, batch: int, name: str) -> None:
    """Hold `image` to shape [B, C, H, W] with the batch and the size that the transform expects."""
    check_pixels(image, name)
    if tuple(image.shape[-2:]) != size:
        raise ArgumentError(
            f"{name} is {tuple(image.shape[-2:])} (H, W), the transform was made for {size}; "
            f"use transform.at(...) for a map of another resolution"
        )
    if image.shape[0] != batch:
        raise ArgumentError(f"{name} has batch {image.shape[0]}, the transform has {batch}")


def check_mask(mask: Tensor, image: Tensor, name: str) -> None:
    """Hold `mask` to bool of shape [B, 1, H, W], beside `image` [B, C, H, W] on the same device."""
    check_tensor(mask, name)
    expected = [image.shape[0], 1, *image.shape[-2:]]
    if mask.dtype != torch.bool or list(mask.shape) != expected:
        raise ArgumentError(f"{name} must be bool of shape {expected}, got {mask.dtype} of shape {list(mask.shape)}")
    if mask.device != image.device:
        raise ArgumentError(f"{name} is on {mask.device}, the image on {image.device}; move one of them")


def check_choice(value: str, choices: tuple[str, ...], name: str) -> None:
    """Hold `value` to one of `choices`."""
    if value not in choices:
        raise ArgumentError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def check_number(value: float, name: str) -> None:
    """Hold `value` to a real number."""
    if not isinstance(value, Real):
        raise ArgumentError(f"{name} must be a number, got {value!r}")


def check_type(value: Any, kind: type, name: str) -> None:
    """Hold `value` to an instance of one of our own types."""
    if not isinstance(value, kind):
        raise ArgumentError(f"{name} must be of type {kind.__name__}, got {type(value).__name__}")


def order_of(image: Tensor) -> torch.memory_format:
    """How the pixels of an image lie, which its warp keeps: channels last only where that says something."""
    last = image.is_contiguous(memory_format=torch.channels_last) and not image.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def _is_side(side: int) -> bool:
    return isinstance(side, Real) and 1 <= side < math.inf and int(side) == side
