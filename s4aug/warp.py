"""The warp: one call for every image type, mode and backend."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import NamedTuple

import torch
from torch import Tensor

from .backends.reference import warp_reference
from .checks import FLOATS, INTEGERS, check_choice, check_image, check_mask, check_number, check_type
from .errors import ArgumentError
from .kernels import choose, computes, refusal_of
from .linear import vector
from .operators import warp_by_kernel
from .transform import AffineTransform

MODES = ("bilinear", "nearest", "bicubic", "lifting")
# Modes that show each pixel as it is, one by one.
WHOLE_PIXEL_MODES = ("nearest", "lifting")
PADDINGS = ("fill", "border", "reflection")


class Warped(NamedTuple):
    """A warped batch and which of its pixels are real; unpacks as (image, valid).

    Attributes:
        image: [B, C, h, w].
        valid: [B, 1, h, w] bool.
    """

    image: Tensor  # [B, C, h, w]
    valid: Tensor  # [B, 1, h, w] bool


def warp(
    image: Tensor,
    transform: AffineTransform,
    *,
    valid: Tensor | None = None,
    mode: str = "bilinear",
    fill: float = 0.0,
    padding: str = "fill",
    normalize: tuple[Sequence[float] | Tensor, Sequence[float] | Tensor] | None = None,
    dtype: torch.dtype | None = None,
    backend: str = "auto",
) -> Warped:
    """Move a batch of images by affine transforms and tell which output pixels are real.

    Convention:
        `transform` leads from source to output pixels; output pixel p shows the source at
        `transform.inverse()(p)`; whole numbers are pixel centres. An output pixel is valid if and only if
        every source pixel that it reads with a weight other than zero lies inside and is itself valid.
        Where it is not valid it holds `fill`.

    Args:
        image: [B, C, H, W], any floating or integer type.
        transform: B motions from frames of (H, W).
        valid: [B, 1, H, W] bool; pixels where it is false are never read. All real by default.
        mode: "bilinear", "nearest" (ties upwards), "bicubic" (A = -0.75, as in torch), or "lifting": for
            transforms that keep area, a permutation of pixels within 1.5 px of the true map, which the same mode
            with `transform.inverse()` takes back to the bit.
        fill: Value where nothing real is shown, in units of the output (after `normalize`).
        padding: "fill", or "border" or "reflection" to show content from inside beyond the edge; these pixels
            are still not valid.
        normalize: (mean, std) per channel: the output is (value - mean) / std.
        dtype: Of the output; that of `image` by default, and torch's default dtype where an integer image is
            interpolated or normalised.
        backend: "torch", the reference; "numba" and "triton", kernels for images on the CPU and on CUDA; "auto", the
            fastest there is for the device.

    Returns:
        `Warped(image [B, C, h, w], valid [B, 1, h, w])`. Differentiable in `image`, and in `transform.matrix` where
        pixels are interpolated.

    Raises:
        ArgumentError: A shape, size, mode or dtype that does not fit; a transform on the CPU that lifting
            refuses (see `s4aug.lifting.Lifting`).
        BackendUnavailable: The named backend is not there.

    Example:
        >>> image = torch.arange(6.0).reshape(1, 1, 2, 3)
        >>> warp(image, AffineTransform.hflip(1, (2, 3))).image[0, 0, 0].tolist()
        [2.0, 1.0, 0.0]
    """
    check_choice(mode, MODES, "mode")
    check_choice(padding, PADDINGS, "padding")
    check_type(transform, AffineTransform, "transform")
    check_image(image, transform.size, len(transform), "image")
    transform.check_beside(image.device, "image")
    if valid is not None:
        check_mask(valid, image, "valid")
    dtype = _output_dtype(image, mode, normalize is not None, dtype)
    statistics = None if normalize is None else _statistics(normalize, image, dtype)
    chosen = choose(backend, image.device, _refusal(image, dtype, transform.matrix, statistics))
    apply = warp_reference if chosen == "torch" else warp_by_kernel
    warped, real = apply(
        image,
        transform,
        valid,
        mode=mode,
        padding=padding,
        fill=_checked_fill(fill, dtype),
        normalize=statistics,
        dtype=dtype,
    )
    return Warped(warped, real)


def _refusal(image: Tensor, dtype: torch.dtype, matrix: Tensor, statistics: tuple[Tensor, Tensor] | None) -> str | None:
    """Why kernels cannot do this warp."""
    if not (computes(image.dtype, image.device) and computes(dtype, image.device)):
        return "computes in float32, not in float64"
    if statistics is not None and torch.is_grad_enabled() and any(part.requires_grad for part in statistics):
        return "has no gradient to the statistics of normalize"
    return refusal_of(image, matrix)


def _output_dtype(image: Tensor, mode: str, normalized: bool, dtype: torch.dtype | None) -> torch.dtype:
    if dtype is not None and dtype not in FLOATS and dtype not in INTEGERS:
        raise ArgumentError(
            f"dtype must be a torch.dtype, an integer or a floating one of 16 to 64 bits, got {dtype!r}"
        )
    interpolated = mode not in WHOLE_PIXEL_MODES or normalized
    if dtype is None:
        return torch.get_default_dtype() if interpolated and not image.is_floating_point() else image.dtype
    if interpolated and not dtype.is_floating_point:
        raise ArgumentError(f"dtype must be floating for an interpolated or normalised image, got {dtype}")
    if not interpolated and not dtype.is_floating_point and dtype != image.dtype:
        raise ArgumentError(f"dtype must be {image.dtype} or floating for labels, got {dtype}")
    return dtype


def _checked_fill(fill: float, dtype: torch.dtype) -> float:
    check_number(fill, "fill")
    if dtype.is_floating_point:
        if math.isfinite(fill) and abs(fill) > torch.finfo(dtype).max:
            raise ArgumentError(f"fill must be in the range of {dtype}, got {fill}")
        return float(fill)
    low, high = (0, 1) if dtype == torch.bool else (torch.iinfo(dtype).min, torch.iinfo(dtype).max)
    if not low <= fill <= high or int(fill) != fill:
        raise ArgumentError(f"fill must be a whole number in the range of {dtype}, got {fill}")
    return int(fill)


def _statistics(
    normalize: tuple[Sequence[float] | Tensor, Sequence[float] | Tensor], image: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    kind = torch.promote_types(dtype, torch.float32)
    if not isinstance(normalize, tuple | list) or len(normalize) != 2 or any(isinstance(p, Real) for p in normalize):
        raise ArgumentError(f"normalize must be (mean, std), each one number per channel, got {normalize!r}")
    mean, std = normalize
    if not isinstance(std, Tensor) and 0 in std:
        raise ArgumentError(f"normalize std must not hold 0, got {std}")
    mean, std = _per_channel(mean, "normalize mean", image), _per_channel(std, "normalize std", image)
    return mean.to(kind).to(image.device), std.to(kind).to(image.device)


def _per_channel(numbers: Sequence[float] | Tensor, name: str, image: Tensor) -> Tensor:  # -> [C]
    count = image.shape[1]
    shape = list(numbers.shape) if isinstance(numbers, Tensor) else [len(numbers)]
    if shape != [count]:
        raise ArgumentError(f"{name} needs {count} numbers, got {shape}")
    if isinstance(numbers, Tensor):
        if numbers.device != image.device:
            raise ArgumentError(f"{name} is on {numbers.device}, the image on {image.device}; move one of them")
        return numbers
    if not all(isinstance(number, Real) and math.isfinite(number) for number in numbers):
        raise ArgumentError(f"{name} must hold finite numbers, got {numbers}")
    return vector(numbers, image.device) if count else torch.zeros(0, device=image.device)
