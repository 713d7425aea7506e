"""The functions that every fast backend offers, over tensors on the CPU."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ...checks import Size, order_of
from ...transform import settling
from . import pages, rows
from .adjoint import scatter_copies, scatter_weighted, slope_rows
from .collect import scatter_bilinear
from .forward import copy_rows, weighted_rows
from .quick import bilinear_rows
from .threads import run

WEIGHTED = {"bilinear": rows.BILINEAR, "bicubic": rows.BICUBIC}
PADDINGS = {"fill": rows.FILL, "border": rows.BORDER, "reflection": rows.REFLECTION}
# Pixels that are only copied travel as integers of the same width.
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
READ_AS_THEY_ARE = (torch.uint8, torch.uint16, torch.float32, torch.float64)
ROWS_PER_CHUNK = 128


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
    batch, channels = image.shape[:2]
    copied = mode not in WEIGHTED
    if copied and (normalize is not None or dtype != image.dtype):
        return _converted(image, coordinates, valid, normalize, mode, padding, fill, dtype, out_size)
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    real = torch.empty(batch, 1, *out_size, dtype=torch.bool)
    if copied:
        source, kind, blank = image.view(BITS[image.element_size()]), BITS[image.element_size()], _bits(fill, dtype)
    else:
        source = image if image.dtype in READ_AS_THEY_ARE else image.to(compute)
        kind, blank = compute, np.float64(fill) if compute == torch.float64 else np.float32(fill)
    out = _like(source, out_size, kind)
    pixels, steps = _flat(source)
    places, out_steps = _flat(out)
    where, masks, reals = coordinates.contiguous().numpy(), _masks(valid), real[:, 0].numpy()
    statistics = (None, None) if normalize is None else tuple(part.to(compute).numpy() for part in normalize)
    size, slack = (channels, *image.shape[-2:]), settling(out_size)
    quick = _quick(mode, padding, coordinates, (image.shape[-2], image.shape[-1]))
    kind_of = () if copied or quick else (WEIGHTED[mode],)
    common = (blank,) if quick else (*kind_of, PADDINGS[padding], blank)

    def chunks() -> Iterator[tuple[object, ...]]:
        for b, first, last in _parts(batch, out_size[0]):
            given = (pixels[b], steps, size, where[b], slack, None if masks is None else masks[b])
            written = (places[b], out_steps, reals[b])
            extra = () if copied else statistics
            yield (*given, *extra, *written, *common, first, last)

    run(copy_rows if copied else bilinear_rows if quick else weighted_rows, chunks())
    return out.view(dtype) if copied else out.to(dtype), real


def _quick(mode: str, padding: str, coordinates: Tensor, size: Size) -> bool:
    counted = size[0] * size[1] < 2**31  # pixels in 32 bits
    return mode == "bilinear" and padding == "fill" and coordinates.dtype == torch.int64 and counted


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
    batch, channels, *shape = gradient.shape
    compute = torch.float64 if gradient.dtype == torch.float64 else torch.float32
    copied = mode not in WEIGHTED
    given, steps = _flat(gradient.to(compute))
    out = pages.empty((batch, channels, *size), compute, order_of(gradient))
    written, where, masks = out.numpy(), coordinates.contiguous().numpy(), _masks(valid)
    spread = None if std is None else std.to(compute).numpy()
    if copied and std is not None:
        given, steps = _flat((gradient / std[:, None, None]).to(compute))
    slack = settling((shape[0], shape[1]))
    quick = _quick(mode, padding, coordinates, size)
    kernel = scatter_copies if copied else scatter_bilinear if quick else scatter_weighted
    kind = (PADDINGS[padding],) if copied else (WEIGHTED[mode], PADDINGS[padding])

    def chunks() -> Iterator[tuple[object, ...]]:
        for b, top, bottom in _parts(batch, size[0]):
            mask = None if masks is None else masks[b]
            moved = (given[b], steps, tuple(shape), where[b], slack, mask)
            to = (written[b], (channels, *size))
            if quick:
                for first, count, lanes in lane_groups(channels):
                    planes = tuple(steps[0] * min(first + lane, channels - 1) for lane in range(lanes))
                    yield (*moved, spread, *to, planes, count, first, top, bottom)
            else:
                yield (*moved, *(() if copied else (spread,)), *to, *kind, top, bottom)

    run(kernel, chunks())
    return out.to(dtype)


def lane_groups(channels: int) -> Iterator[tuple[int, int, int]]:
    """First channel, channels and lanes of each group that a kernel does at once."""
    lanes = 4 if channels <= 4 else 8
    for first in range(0, channels, lanes):
        yield first, min(lanes, channels - first), lanes


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
    pixels, steps = _flat(image if image.dtype in READ_AS_THEY_ARE else image.to(compute))
    given, given_steps = _flat(gradient.to(compute))
    sums = torch.empty(batch, shape[0], 6, dtype=torch.float64)
    written, where, masks = sums.numpy(), coordinates.contiguous().numpy(), _masks(valid)
    spread = None if std is None else std.to(compute).numpy()
    kind = torch.empty(0, dtype=compute).numpy()
    size, slack = (channels, *image.shape[-2:]), settling((shape[0], shape[1]))

    def chunks() -> Iterator[tuple[object, ...]]:
        for b, first, last in _parts(batch, shape[0]):
            mask = None if masks is None else masks[b]
            read = (pixels[b], steps, size, given[b], given_steps, tuple(shape), where[b], slack, mask, spread)
            yield (*read, written[b], kind, WEIGHTED[mode], PADDINGS[padding], first, last)

    run(slope_rows, chunks())
    return sums.sum(1).unflatten(1, (2, 3))


def _parts(batch: int, rows_: int) -> Iterator[tuple[int, int, int]]:
    """Sample, first row, one past the last row."""
    for b in range(batch):
        for first in range(0, rows_, ROWS_PER_CHUNK):
            yield b, first, min(first + ROWS_PER_CHUNK, rows_)


def _masks(valid: Tensor | None) -> np.ndarray | None:  # [B, 1, H, W] -> [B, H, W]
    return None if valid is None else valid[:, 0].contiguous().numpy()


def _flat(image: Tensor) -> tuple[np.ndarray, tuple[int, int, int]]:  # [B, C, H, W] -> [B, C * H * W]
    """Pixels of each sample as they lie, and the steps to the next channel, row and column."""
    batch, channels, height, width = image.shape
    if order_of(image) == torch.channels_last:
        flat = image.permute(0, 2, 3, 1).reshape(batch, channels * height * width)
        return flat.numpy(), (1, width * channels, channels)
    flat = image.contiguous().reshape(batch, channels * height * width)
    return flat.numpy(), (height * width, width, 1)


def _like(image: Tensor, out_size: Size, kind: torch.dtype) -> Tensor:
    return pages.empty((*image.shape[:2], *out_size), kind, order_of(image))


def _bits(fill: float, dtype: torch.dtype) -> np.generic:
    """A number in some type, as the integer that its bits make."""
    return torch.tensor([fill], dtype=dtype).view(BITS[dtype.itemsize]).numpy()[0]
