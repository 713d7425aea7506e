"""The consistency objective by kernels, as an operator of torch: undone, masked, compared in one pass each way."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .checks import order_of
from .kernels import kernels_for
from .transform import coordinates
from .view import WayBack

# Kernels sample fixed-point places and sum in float32; sides of more bits are composed.
DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def fits(prediction: Tensor) -> bool:
    """Whether the kernels can take a prediction [B, K, h, w]."""
    _, classes, height, width = prediction.shape
    # Pixels are counted in 32 bits.
    return prediction.dtype in DTYPES and classes > 0 and height * width < 2**31


def compare_by_kernel(
    predictions: Sequence[Tensor],  # two, each [B, K, h, w]
    ways: Sequence[WayBack],
    *,
    loss: str,
    softmax: bool,
    detach: int | None,
    mask: bool,
) -> tuple[Tensor, Tensor]:
    """Numerator, summed over classes, and count of `consistency_terms`, by the kernels for the predictions' device.

    Kept for the gradient: the predictions, and in their common frame what it gathers from; for "mse" that is one map,
    for "kl" one for each side that is not detached.
    """
    wanted = torch.is_grad_enabled() and any(prediction.requires_grad for prediction in predictions)
    places = [coordinates(way.transform.inverse(), torch.float32) for way in ways]
    valid = [way.valid for way in ways]
    height, width = ways[0].transform.out_size
    numerator, count, *_ = _consistency(
        *predictions, *places, *valid, loss, softmax, detach or 0, mask, wanted, height, width
    )
    return numerator, count


@torch.library.custom_op("s4aug::consistency", mutates_args=())
def _consistency(
    pred1: Tensor,
    pred2: Tensor,
    places1: Tensor,  # [B, 2, 3] int64
    places2: Tensor,
    valid1: Tensor,
    valid2: Tensor,
    loss: str,
    softmax: bool,
    detach: int,
    mask: bool,
    wanted: bool,
    height: int,
    width: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return kernels_for(pred1.device).consistency(  # type: ignore[no-any-return]
        *(pred1, pred2, places1, places2, valid1, valid2),
        loss=loss,
        softmax=softmax,
        detach=detach,
        mask=mask,
        wanted=wanted,
        size=(height, width),
    )


@_consistency.register_fake
def _(pred1: Tensor, *given: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    loss, _, detach, _, wanted, *size = given[5:]
    shape = kernels_for(pred1.device).slopes_shape(pred1.shape, tuple(size))
    kept = (loss == "mse" or detach != 1, loss == "kl" and detach != 2)
    slopes = [pred1.new_empty(shape if wanted and each else (0,), dtype=torch.float32) for each in kept]
    return pred1.new_empty((), dtype=torch.float32), pred1.new_empty((), dtype=torch.int64), slopes[0], slopes[1]


@torch.library.custom_op("s4aug::consistency_gradient", mutates_args=())
def _gradient(
    prediction: Tensor, slopes: Tensor, places: Tensor, valid: Tensor | None, scale: Tensor, softmax: bool
) -> Tensor:
    kernels = kernels_for(prediction.device)
    return kernels.consistency_gradient(prediction, slopes, places, valid, scale, softmax=softmax)  # type: ignore[no-any-return]


@_gradient.register_fake
def _(prediction: Tensor, *given: Any) -> Tensor:
    shape, dtype, device = prediction.shape, prediction.dtype, prediction.device
    return torch.empty(shape, dtype=dtype, device=device, memory_format=order_of(prediction))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    loss, softmax, _, mask, *_ = inputs[6:]
    # Where pixels count only if both sides are real, the slopes of all others are 0.
    masks = (None, None) if mask else inputs[4:6]
    ctx.save_for_backward(*inputs[:4], *masks, *output[2:])
    ctx.of = loss, softmax
    # What is kept is an output that nobody has a gradient for.
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, upstream: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    predictions, places, valid, slopes = (ctx.saved_tensors[i : i + 2] for i in range(0, 8, 2))
    loss, softmax = ctx.of
    gradients: list[Tensor | None] = [None, None]
    for side in range(2):
        if ctx.needs_input_grad[side] and upstream is not None:
            # The square of a difference: one map tells both slopes.
            kept, factor = (slopes[0], 2 - 4 * side) if loss == "mse" else (slopes[side], 1)
            scale = factor * upstream
            gradients[side] = _gradient(predictions[side], kept, places[side], valid[side], scale, softmax)
    return *gradients, *[None] * 11


_consistency.register_autograd(_backward, setup_context=_keep)


def _refuse(ctx: Any, *gradients: Any) -> None:
    raise RuntimeError('the fused consistency objective is differentiated once; pass backend="torch" for more')


_gradient.register_autograd(_refuse)
