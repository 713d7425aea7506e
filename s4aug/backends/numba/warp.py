"""The functions that every fast backend offers, over tensors on the CPU."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...checks import Size, order_of
from ...transform import settling
from . import bilinear, pages, rows
from .adjoint import scatter_copies, scatter_weighted, slope_rows
from .arrays import READ_AS_THEY_ARE, flat, masks, parts
from .forward import copy_rows, weighted_rows
from .threads import run

WEIGHTED = {"bilinear": rows.BILINEAR, "bicubic": rows.BICUBIC}
PADDINGS = {"fill": rows.FILL, "border": rows.BORDER, "reflection": rows.REFLECTION}
# Pixels that are only copied travel as integers of the same width.
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def forward(
    image: Tensor,  # [B, C, H, W]
    coordinates: Tensor,  # [B, 2, 3] int64 or float64; [B, 18] int64 for lifting
    valid: Tensor | None,  # [B, 1, H, W] bool
    normalize: tuple[Tensor, Tensor] | None,  # mean, std, both [C]
    *,
    mode: str,
    padding: str,
    fill: float,
    dtype: torch.dtype,
    out_size: Size,
) -> tuple[Tensor, Tensor]:
    """Values [B, C, h, w] in `dtype` and validity [B, 1, h, w], as `warp_reference` gives them."""
    batch, channels, *frame = image.shape
    if bilinear.is_quick(mode, padding, coordinates, (frame[0], frame[1])):
        options: dict[str, Any] = {"fill": fill, "dtype": dtype, "out_size": out_size}
        return bilinear.forward(image, coordinates, valid, normalize, **options)
    copied = mode not in WEIGHTED
    if copied and (normalize is not None or dtype != image.dtype):
        return _converted(image, coordinates, valid, normalize, mode, padding, fill, dtype, out_size)
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    real = torch.empty(batch, 1, *out_size, dtype=torch.bool)
    if copied:
        source, kind, blank = image.view(BITS[image.element_size()]), BITS[image.element_size()], _bits(fill, dtype)
    else:
        source = image if image.dtype in (*READ_AS_THEY_ARE, torch.float64) else image.to(compute)
        kind, blank = compute, np.float64(fill) if compute == torch.float64 else np.float32(fill)
    out = _like(source, out_size, kind)
    pixels, steps = flat(source)
    places, out_steps = flat(out)
    where, given, reals = coordinates.contiguous().numpy(), masks(valid), real[:, 0].numpy()
    statistics = (None, None) if normalize is None else tuple(part.to(compute).numpy() for part in normalize)
    size, slack = (channels, *frame), settling(out_size)
    common = (PADDINGS[padding], blank) if copied else (WEIGHTED[mode], PADDINGS[padding], blank)

    def chunks() -> Iterator[tuple[object, ...]]:
        for b, first, last in parts(batch, out_size[0]):
            read = (pixels[b], steps, size, where[b], slack, None if given is None else given[b])
            written = (places[b], out_steps, reals[b])
            yield (*read, *(() if copied else statistics), *written, *common, first, last)

    run(copy_rows if copied else weighted_rows, chunks())
    return out.view(dtype) if copied else out.to(dtype), real


def _converted(
    image: Tensor,
    coordinates: Tensor,
    valid: Tensor | None,
    normalize: tuple[Tensor, Tensor] | None,
    mode: str,
    padding: str,
    fill: float,
    dtype: torch.dtype,
    out_size: Size,
) -> tuple[Tensor, Tensor]:
    """Whole pixels moved first and changed after; border and reflection are changed along, `fill` is not."""
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    value = image.to(compute)
    if normalize is not None:
        value = (value - normalize[0].to(compute)[:, None, None]) / normalize[1].to(compute)[:, None, None]
    moved, real = forward(
        value, coordinates, valid, None, mode=mode, padding=padding, fill=fill, dtype=compute, out_size=out_size
    )
    return moved.to(dtype), real


def image_gradient(
    gradient: Tensor,  # [B, C, h, w]
    coordinates: Tensor,
    valid: Tensor | None,  # [B, 1, H, W] bool
    std: Tensor | None,  # [C]
    *,
    mode: str,
    padding: str,
    dtype: torch.dtype,
    size: Size,
) -> Tensor:
    """The gradient [B, C, H, W] to the image in `dtype`, lying as `gradient` does; summed in at least float32."""
    if bilinear.is_quick(mode, padding, coordinates, size):
        return bilinear.image_gradient(gradient, coordinates, valid, std, dtype=dtype, size=size)
    batch, channels, *shape = gradient.shape
    compute = torch.float64 if gradient.dtype == torch.float64 else torch.float32
    copied = mode not in WEIGHTED
    given, steps = flat(gradient.to(compute))
    out = pages.empty((batch, channels, *size), compute, order_of(gradient))
    written, where, covered = out.numpy(), coordinates.contiguous().numpy(), masks(valid)
    spread = None if std is None else std.to(compute).numpy()
    if copied and std is not None:
        given, steps = flat((gradient / std[:, None, None]).to(compute))
    slack = settling((shape[0], shape[1]))
    kind = (PADDINGS[padding],) if copied else (WEIGHTED[mode], PADDINGS[padding])

    def chunks() -> Iterator[tuple[object, ...]]:
        for b, top, bottom in parts(batch, size[0]):
            mask = None if covered is None else covered[b]
            read = (given[b], steps, tuple(shape), where[b], slack, mask, *(() if copied else (spread,)))
            yield (*read, written[b], (channels, *size), *kind, top, bottom)

    run(scatter_copies if copied else scatter_weighted, chunks())
    return out.to(dtype)


def matrix_gradient(
    image: Tensor,  # [B, C, H, W]
    gradient: Tensor,  # [B, C, h, w]
    coordinates: Tensor,
    valid: Tensor | None,  # [B, 1, H, W] bool
    std: Tensor | None,  # [C]
    *,
    mode: str,
    padding: str,
) -> Tensor:
    """The gradient [B, 2, 3] float64 to the inverse matrix."""
    batch, channels, *shape = gradient.shape
    compute = torch.float64 if gradient.dtype == torch.float64 else torch.float32
    pixels, steps = flat(image if image.dtype in (*READ_AS_THEY_ARE, torch.float64) else image.to(compute))
    given, given_steps = flat(gradient.to(compute))
    sums = torch.empty(batch, shape[0], 6, dtype=torch.float64)
    written, where, covered = sums.numpy(), coordinates.contiguous().numpy(), masks(valid)
    spread = None if std is None else std.to(compute).numpy()
    kind = torch.empty(0, dtype=compute).numpy()
    size, slack = (channels, *image.shape[-2:]), settling((shape[0], shape[1]))

    def chunks() -> Iterator[tuple[object, ...]]:
        for b, first, last in parts(batch, shape[0]):
            mask = None if covered is None else covered[b]
            read = (pixels[b], steps, size, given[b], given_steps, tuple(shape), where[b], slack, mask, spread)
            yield (*read, written[b], kind, WEIGHTED[mode], PADDINGS[padding], first, last)

    run(slope_rows, chunks())
    return sums.sum(1).unflatten(1, (2, 3))


def _like(image: Tensor, out_size: Size, kind: torch.dtype) -> Tensor:
    return pages.empty((*image.shape[:2], *out_size), kind, order_of(image))


def _bits(fill: float, dtype: torch.dtype) -> np.generic:
    """A number in some type, as the integer that its bits make."""
    return torch.tensor([fill], dtype=dtype).view(BITS[dtype.itemsize]).numpy()[0]
