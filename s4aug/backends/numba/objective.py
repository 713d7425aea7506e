"""The consistency objective and its gradient; one sample after the other, so that what it reads stays in the cache."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ...checks import Size, order_of
from ...transform import settling
from . import difference, pages
from .arrays import flat, masks, readable, row_chunks
from .difference import compare_rows, pack_rows, pull_back_rows
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
    slopes = [each.flatten(2) if each.ndim > 1 else each.new_empty(batch, groups, 0) for each in kept]
    packed = pages.empty((2, groups, (shape[0] * shape[1] + shape[1] + 1) * lanes), torch.float32).numpy()
    logits, steps = zip(*(flat(readable(prediction)) for prediction in (pred1, pred2)), strict=True)
    where = [places.contiguous().numpy() for places in (places1, places2)]
    covered = [valid[:, 0].contiguous().numpy() for valid in (valid1, valid2)]
    planes = _planes(groups, lanes, shape[1], classes)
    for b in range(batch):
        run(
            pack_rows,
            [
                (logits[side][b], steps[side], classes, shape[1], softmax, planes, packed[side], *rows)
                for side in range(2)
                for rows in row_chunks(shape[0], ROWS_PER_CHUNK)
            ],
        )
        read = tuple(shape), tuple(each[b] for each in where), settling(size), tuple(each[b] for each in covered)
        run(
            compare_rows,
            [
                (
                    *((packed[0, group], packed[1, group]), *read, (0,) * lanes, mask, LOSSES[loss], detach),
                    tuple(each[b, group].numpy() for each in slopes),
                    *(numerators[b, group].numpy(), counts[b].numpy(), size[1], *rows),
                )
                for group in range(groups)
                for rows in row_chunks(size[0], ROWS_PER_CHUNK)
            ],
        )
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
    batch, *shape = prediction.shape
    groups, *out_size, lanes = slopes.shape[1:]
    pixels = readable(prediction)
    out = pages.empty(prediction.shape, pixels.dtype, order_of(prediction))
    (logits, steps), (written, out_steps) = flat(pixels), flat(out)
    where, covered = places.contiguous().numpy(), masks(valid)
    planes = _planes(groups, lanes, shape[2], shape[0] - 1)
    slack, factor = settling((out_size[0], out_size[1])), float(scale)

    def chunks() -> Iterator[tuple[object, ...]]:
        for b in range(batch):
            mask = None if covered is None else covered[b]
            read = (slopes[b].flatten(1).numpy(), tuple(out_size), where[b], slack, mask, factor, softmax)
            for rows in row_chunks(shape[1], ROWS_PER_CHUNK):
                yield (*read, logits[b], steps, tuple(shape), written[b], out_steps, planes, *rows)

    run(pull_back_rows, chunks())
    return out.to(prediction.dtype)


def groups_of(classes: int) -> tuple[int, int]:
    """Into how many groups classes are split, and the lanes of each: a multiple of 4."""
    groups = max(1, -(-classes // LARGEST_GROUP))
    return groups, 4 * max(1, -(-classes // (4 * groups)))


def slopes_shape(shape: torch.Size, size: Size) -> tuple[int, ...]:
    """Of what is kept for the gradient: [B, groups, H, W, lanes]."""
    groups, lanes = groups_of(shape[1])
    return (shape[0], groups, *size, lanes)


def _planes(groups: int, lanes: int, width: int, last: int) -> tuple[tuple[int, ...], ...]:
    """Where each lane's class begins in rows of all classes; lanes beyond the last class take that."""
    firsts = range(0, groups * lanes, lanes)
    return tuple(tuple(width * min(first + lane, last) for lane in range(lanes)) for first in firsts)
