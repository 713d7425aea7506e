"""The consistency objective and its gradient, one sample after the other, so that what it reads stays in the cache."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ...checks import Size, order_of
from ...transform import settling
from . import difference, pages
from .difference import compare_rows, pack_pixels, pull_back_rows
from .threads import run

LOSSES = {"mse": difference.MSE, "kl": difference.KL}
LARGEST_GROUP = 16
ROWS_PER_CHUNK = 64


def consistency(
    pred1: Tensor,
    pred2: Tensor,
    places1: Tensor,
    places2: Tensor,
    valid1: Tensor,
    valid2: Tensor,
    *,
    loss: str,
    softmax: bool,
    detach: int,
    mask: bool,
    wanted: bool,
    size: Size,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Undo two predictions and compare them.

    Args:
        pred1: [B, K, h, w] of 16 or 32 bits.
        pred2: As `pred1`.
        places1: [B, 2, 3] int64, where pixels of the common frame sample `pred1`.
        places2: As `places1`.
        valid1: [B, 1, h, w] bool; where it is false `pred1` is not read.
        valid2: As `valid1`.
        loss: "mse" or "kl".
        softmax: Whether probabilities are made first, in float32.
        detach: 0, or the side that is a target.
        mask: Whether pixels count only where both sides are real.
        wanted: Whether anyone wants gradients.
        size: (H, W) of the common frame.

    Returns:
        Numerator (float32) and count (int64) of the loss, and what `consistency_gradient` gathers from, each
        `slopes_shape` or empty: for MSE the difference, and nothing; for KL how the numerator changes with each side,
        nothing for the target.
    """
    batch, classes, *shape = pred1.shape
    groups, lanes = groups_of(classes)
    numerators = torch.empty(batch, groups, size[0], dtype=torch.float64)
    counts = torch.empty(batch, size[0], dtype=torch.int64)
    kept = [
        pages.empty(slopes_shape(pred1.shape, size) if wanted and each else (0,), torch.float32)
        for each in (loss == "mse" or detach != 1, loss == "kl" and detach != 2)
    ]
    # One more plane of zeros is what lanes without a class are packed from.
    planar = pages.empty((classes + 1, *shape), torch.float32)
    planar[classes] = 0
    area = shape[0] * shape[1]
    packed = [pages.empty((groups, (area + shape[1] + 1) * lanes), torch.float32) for _ in range(2)]
    where = [places.contiguous().numpy() for places in (places1, places2)]
    masks = [valid[:, 0].contiguous().numpy() for valid in (valid1, valid2)]
    options = (mask, LOSSES[loss], detach)
    for b in range(batch):
        for prediction, side in zip((pred1, pred2), packed, strict=True):
            _activated(prediction[b], planar[:classes], softmax)
            run(pack_pixels, _packing(planar, side, lanes, area))

        def chunks(b: int = b) -> Iterator[tuple[object, ...]]:
            for group in range(groups):
                read = tuple(side[group].numpy() for side in packed), tuple(shape), tuple(w[b] for w in where)
                slopes = tuple(each[b, group].flatten().numpy() if len(each) else each.numpy() for each in kept)
                summed = numerators[b, group].numpy(), counts[b].numpy()
                given = (*read, settling(size), tuple(m[b] for m in masks), (0,) * lanes, *options, slopes, *summed)
                for first, last in _parts(size[0]):
                    yield (*given, size[1], first, last)

        run(compare_rows, chunks())
    return numerators.sum().float(), counts.sum(), kept[0], kept[1]


def consistency_gradient(
    prediction: Tensor, slopes: Tensor, places: Tensor, valid: Tensor | None, scale: Tensor, *, softmax: bool
) -> Tensor:
    """The gradient to one prediction, `scale` times what `slopes` say, in its dtype.

    Args:
        prediction: [B, K, h, w], as for `consistency`.
        slopes: As `consistency` returns them.
        places: [B, 2, 3] int64, of the prediction.
        valid: [B, 1, h, w] bool: pixels that read others get nothing; needed where `slopes` are not 0 there.
        scale: Scalar.
        softmax: As for `consistency`.
    """
    batch, classes, height, width = prediction.shape
    groups, *out_size, lanes = slopes.shape[1:]
    out = pages.empty(prediction.shape, prediction.dtype, order_of(prediction))
    in_place = out.dtype == torch.float32 and out.is_contiguous()
    spare = torch.empty(0 if in_place else classes, height, width)
    where, masks = places.contiguous().numpy(), None if valid is None else valid[:, 0].contiguous().numpy()
    planes = tuple(
        tuple(width * min(first + lane, classes - 1) for lane in range(lanes)) for first in _firsts(groups, lanes)
    )
    slack = settling((out_size[0], out_size[1]))
    for b in range(batch):
        made = out[b] if in_place else spare
        if softmax:
            _activated(prediction[b], made, True)
        mask = None if masks is None else masks[b]
        given = (slopes[b].flatten(1).numpy(), tuple(out_size), where[b], slack, mask)
        to = (float(scale), softmax, made.numpy(), planes)
        run(pull_back_rows, ((*given, *to, top, bottom) for top, bottom in _parts(height)))
        if not in_place:
            out[b] = spare
    return out


def groups_of(classes: int) -> tuple[int, int]:
    """Into how many groups classes are split, and the lanes of each: a multiple of 4."""
    groups = max(1, -(-classes // LARGEST_GROUP))
    return groups, 4 * max(1, -(-classes // (4 * groups)))


def slopes_shape(shape: torch.Size, size: Size) -> tuple[int, ...]:
    """Of what is kept for the gradient: [B, groups, H, W, lanes]."""
    groups, lanes = groups_of(shape[1])
    return (shape[0], groups, *size, lanes)


def _activated(prediction: Tensor, out: Tensor, softmax: bool) -> None:  # both [K, h, w]
    if softmax:
        torch.softmax(prediction, 0, dtype=torch.float32, out=out)
    else:
        out.copy_(prediction)


def _packing(planar: Tensor, packed: Tensor, lanes: int, area: int) -> Iterator[tuple[object, ...]]:
    classes, width = len(planar) - 1, planar.shape[2]
    for group, first in enumerate(_firsts(len(packed), lanes)):
        planes = tuple(area * min(first + lane, classes) for lane in range(lanes))
        for top, bottom in _parts(planar.shape[1]):
            yield planar.flatten().numpy(), planes, packed[group].numpy(), top * width, bottom * width


def _firsts(groups: int, lanes: int) -> range:
    return range(0, groups * lanes, lanes)


def _parts(rows: int) -> Iterator[tuple[int, int]]:
    """First row, one past the last row."""
    for first in range(0, rows, ROWS_PER_CHUNK):
        yield first, min(first + ROWS_PER_CHUNK, rows)
