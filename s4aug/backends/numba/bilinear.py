"""The warp and its image gradient as most calls want them: bilinear, fixed point, padding fill."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ...checks import Size, order_of
from ...transform import settling
from . import pages
from .arrays import CONVERTED, flat, masks, parts, readable
from .collect import scatter_bilinear
from .quick import bilinear_rows
from .threads import run


def is_quick(mode: str, padding: str, coordinates: Tensor, size: Size) -> bool:
    """Whether these kernels serve a warp from frames of `size`; they count pixels in 32 bits."""
    fixed = coordinates.dtype == torch.int64
    return mode == "bilinear" and padding == "fill" and fixed and size[0] * size[1] < 2**31


def forward(
    image: Tensor,
    coordinates: Tensor,
    valid: Tensor | None,
    normalize: tuple[Tensor, Tensor] | None,
    *,
    fill: float,
    dtype: torch.dtype,
    out_size: Size,
) -> tuple[Tensor, Tensor]:
    """`warp.forward` for such a call; arguments and result as there."""
    batch, channels, *size = image.shape
    real = torch.empty(batch, 1, *out_size, dtype=torch.bool)
    kind = dtype if dtype in CONVERTED else torch.float32
    out = pages.empty((batch, channels, *out_size), kind, order_of(image))
    pixels, steps = flat(readable(image))
    places, out_steps = flat(out)
    where, given, shown = coordinates.contiguous().numpy(), masks(valid), real[:, 0].numpy()
    statistics = (None, None) if normalize is None else tuple(part.float().numpy() for part in normalize)
    blank = np.float32(fill)

    def chunks() -> Iterator[tuple[object, ...]]:
        for b, first, last in parts(batch, out_size[0]):
            mask = None if given is None else given[b]
            read = (pixels[b], steps, (channels, *size), where[b], settling(out_size), mask)
            yield (*read, *statistics, places[b], out_steps, shown[b], blank, first, last)

    run(bilinear_rows, chunks())
    return out.to(dtype), real


def image_gradient(
    gradient: Tensor,
    coordinates: Tensor,
    valid: Tensor | None,
    std: Tensor | None,
    *,
    dtype: torch.dtype,
    size: Size,
) -> Tensor:
    """`warp.image_gradient` for such a call; arguments and result as there."""
    batch, channels, *shape = gradient.shape
    kind = dtype if dtype in CONVERTED else torch.float32
    out = pages.empty((batch, channels, *size), kind, order_of(gradient))
    given, steps = flat(readable(gradient))
    places, out_steps = flat(out)
    where, covered = coordinates.contiguous().numpy(), masks(valid)
    spread, slack = None if std is None else std.float().numpy(), settling((shape[0], shape[1]))

    def chunks() -> Iterator[tuple[object, ...]]:
        for b, top, bottom in parts(batch, size[0]):
            mask = None if covered is None else covered[b]
            read = (given[b], steps, tuple(shape), where[b], slack, mask, spread)
            for first, count, lanes in lane_groups(channels):
                planes = tuple(steps[0] * min(first + lane, channels - 1) for lane in range(lanes))
                yield (*read, places[b], out_steps, (channels, *size), planes, count, first, top, bottom)

    run(scatter_bilinear, chunks())
    return out.to(dtype)


def lane_groups(channels: int) -> Iterator[tuple[int, int, int]]:
    """First channel, channels and lanes of each group that a kernel does at once."""
    lanes = 4 if channels <= 4 else 8
    for first in range(0, channels, lanes):
        yield first, min(lanes, channels - first), lanes
