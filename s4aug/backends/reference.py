"""The reference warp: plain PyTorch, every device, the definition of right for all other backends."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..lifting import source_pixels
from ..transform import AffineTransform, Axis, source_axes

BICUBIC_A = -0.75  # as in torch and OpenCV
# Integers that torch cannot gather travel as signed integers of the same width.
CARRIERS = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}


class Tap(NamedTuple):
    """A source pixel that an output pixel reads; along one axis, or (flattened) in the image."""

    place: Tensor  # [B, h, w] int64
    weight: Tensor | None  # [B, h, w]; None: the value is taken as it is
    used: Tensor | None  # [B, h, w] bool: the weight is not zero; None: always


def warp_reference(
    image: Tensor,  # [B, C, H, W]
    transform: AffineTransform,
    valid: Tensor | None,  # [B, 1, H, W] bool
    *,
    mode: str,
    padding: str,
    fill: float,
    normalize: tuple[Tensor, Tensor] | None,  # mean, std, both [C]
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Sample `image` at the inverse of `transform`.

    Returns:
        The image [B, C, h, w] in `dtype`, and its validity [B, 1, h, w].
    """
    compute = _compute_dtype(dtype) if dtype.is_floating_point else torch.float32
    if mode == "lifting":
        taps_x, taps_y = ([Tap(place, None, None)] for place in source_pixels(transform, image.device))
    else:
        taps_x, taps_y = (_taps(axis, mode) for axis in source_axes(transform, compute, image.device))
    height, width = image.shape[-2:]
    inside = _all_inside(taps_x, width) & _all_inside(taps_y, height)
    readable = inside if padding == "fill" else torch.ones_like(inside)
    taps = [_crossed(x, width, y, height, padding) for y in taps_y for x in taps_x]
    if valid is not None:
        readable = readable & _all_real(taps, valid)
    kept = image.dtype == dtype and mode in ("nearest", "lifting") and normalize is None
    source = _reinterpreted(image, CARRIERS.get(image.dtype, image.dtype)) if kept else image.to(compute)
    total = _weighted_sum(source, taps, readable, valid)
    if normalize is not None:
        total = (total - normalize[0][:, None, None]) / normalize[1][:, None, None]
    real = (inside & readable)[:, None]
    readable = readable[:, None]
    if not kept:
        return torch.where(readable, total, fill).to(dtype), real
    blank = _reinterpreted(torch.full((), fill, dtype=dtype, device=image.device), total.dtype)
    return _reinterpreted(torch.where(readable, total, blank), dtype), real


def _reinterpreted(values: Tensor, dtype: torch.dtype) -> Tensor:
    # A view as the same type would cut the gradient.
    return values if values.dtype == dtype else values.view(dtype)


def _compute_dtype(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype in (torch.float32, torch.float64) else torch.float32


def _taps(axis: Axis, mode: str) -> list[Tap]:
    if mode == "nearest":
        return [Tap(axis.nearest, None, None)]
    off_lattice = axis.fraction.detach() > 0
    if mode == "bilinear":
        return [Tap(axis.whole, axis.remainder, None), Tap(axis.whole + 1, axis.fraction, off_lattice)]
    near, far = axis.fraction, axis.remainder
    # The tap that is always read comes first: a sum begun with 0 would turn -0.0 into 0.0.
    return [
        Tap(axis.whole, _cubic_inner(near), None),
        Tap(axis.whole - 1, _cubic_outer(1 + near), off_lattice),
        Tap(axis.whole + 1, _cubic_inner(far), off_lattice),
        Tap(axis.whole + 2, _cubic_outer(1 + far), off_lattice),
    ]


def _cubic_inner(distance: Tensor) -> Tensor:
    return ((BICUBIC_A + 2) * distance - (BICUBIC_A + 3)) * distance * distance + 1


def _cubic_outer(distance: Tensor) -> Tensor:
    return BICUBIC_A * (((distance - 5) * distance + 8) * distance - 4)


def _crossed(tap_x: Tap, width: int, tap_y: Tap, height: int, padding: str) -> Tap:
    """The tap of the image where a column tap meets a row tap."""
    place = _padded(tap_y.place, height, padding) * width + _padded(tap_x.place, width, padding)
    if tap_x.weight is None or tap_y.weight is None:
        return Tap(place, None, None)
    used = tap_x.used if tap_y.used is None else tap_y.used
    if tap_x.used is not None and tap_y.used is not None:
        used = tap_x.used & tap_y.used
    return Tap(place, tap_x.weight * tap_y.weight, used)


def _all_real(taps: list[Tap], valid: Tensor) -> Tensor:  # [B, h, w] bool
    """Where no used tap reads a pixel that `valid` masks."""
    real = [_gathered(valid, tap.place)[:, 0] for tap in taps]
    return torch.stack([r if t.used is None else r | ~t.used for r, t in zip(real, taps, strict=True)]).all(0)


def _weighted_sum(source: Tensor, taps: list[Tap], readable: Tensor, valid: Tensor | None) -> Tensor:
    """The taps' values by their weights, [B, C, h, w]; the first tap is always read."""
    total = base = _gathered(source, taps[0].place)
    if taps[0].weight is not None:
        base = torch.where(readable[:, None], base, 0)
        total = base * taps[0].weight[:, None]
    for place, weight, used in taps[1:]:
        assert weight is not None
        assert used is not None
        read = (readable & used)[:, None]
        value = _gathered(source, place)
        if weight.requires_grad:
            # On the lattice a neighbour has weight 0 but tells the slope; the output keeps its value.
            known = readable[:, None] & value.isfinite()
            known = known if valid is None else known & _gathered(valid, place)
            hint = torch.where(known, value, torch.where(base.isfinite(), base, 0)).detach()
            total = total + torch.where(read, 0, hint) * weight[:, None]
        # Unread values become 0 before they meet a weight: 0 * inf would be NaN, in gradients too.
        # Adding even a zero would turn -0.0 into 0.0, so an unread tap leaves the sum alone.
        total = torch.where(read, total + torch.where(read, value, 0) * weight[:, None], total)
    return total


def _gathered(source: Tensor, place: Tensor) -> Tensor:  # [B, C, H, W], [B, h, w] -> [B, C, h, w]
    index = place.flatten(1)[:, None].expand(-1, source.shape[1], -1)
    return source.flatten(2).gather(2, index).unflatten(2, place.shape[1:])


def _padded(index: Tensor, length: int, padding: str) -> Tensor:
    if padding == "reflection":
        # Mirrored at the outer edge of the border pixels: ... 1 0 | 0 1 2 ... n-1 | n-1 n-2 ...
        period = index.remainder(2 * length)
        return torch.minimum(period, 2 * length - 1 - period)
    return index.clamp(0, length - 1)


def _all_inside(taps: list[Tap], length: int) -> Tensor:
    inside = torch.ones_like(taps[0].place, dtype=torch.bool)
    for tap in taps:
        within = (tap.place >= 0) & (tap.place < length)
        inside = inside & (within if tap.used is None else within | ~tap.used)
    return inside
