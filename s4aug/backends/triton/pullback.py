"""The gradient of the consistency objective to a prediction: gathered, scaled, and led through the softmax."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...checks import order_of
from .footprint import gather
from .launch import check_there, kernel, launch
from .sample import readable
from .softmax import LOWEST, grown, normalizer

# Up to so many classes one thread holds the sums of all, and the softmax is led through before they are written.
MOST_HELD = 16


def consistency_gradient(
    pred: Tensor,
    slopes: Tensor,
    places: Tensor,
    valid: Tensor | None,
    scale: Tensor,
    *,
    softmax: bool,
) -> Tensor:
    """The gradient to a prediction from slopes of `consistency`; the same bits in every run.

    Convention:
        The slopes are gathered as `image_gradient` gathers, bilinear with padding fill, and multiplied by `scale`.
        A pixel that no slope but 0 reaches gets exactly 0, whatever its logits are.

    Args:
        pred: [B, K, h, w] float32, float16 or bfloat16; any strides are read as they are.
        slopes: [B, K, H, W] float32.
        places: [B, 2, 3] int64 of `fixed_point`: where restored pixels lie in `pred`.
        valid: [B, 1, h, w] bool; restored pixels that read one where it is false contribute nothing. By default
            slopes are 0 there.
        scale: float32 scalar on the device.
        softmax: Whether the prediction is made of logits.

    Returns:
        [B, K, h, w] in the dtype of `pred`, channels_last where that is.

    Raises:
        BackendUnavailable: A float64 prediction, or no CUDA.
    """
    check_there(pred, slopes.dtype)
    options: dict[str, Any] = {"mode": "bilinear", "padding": "fill"}
    rows, columns = slopes.shape[2:]
    shown = None if valid is None else readable(places, valid, out_size=(rows, columns), **options)
    apart = softmax and pred.shape[1] > MOST_HELD
    summed = torch.empty(
        pred.shape,
        dtype=torch.float32 if apart else pred.dtype,
        device=pred.device,
        memory_format=order_of(pred),
    )
    logits = pred if softmax and not apart else None
    gather(slopes, places, shown, None, summed, scale=scale, logits=logits, **options)
    return _led_through(pred, summed) if apart else summed


def _led_through(
    pred: Tensor,  # [B, K, h, w]
    gradient: Tensor,  # [B, K, h, w] float32, to the probabilities
) -> Tensor:  # [B, K, h, w]
    """The gradient to logits."""
    batch, channels, height, width = pred.shape
    made = torch.empty(pred.shape, dtype=pred.dtype, device=pred.device, memory_format=order_of(pred))

    def programs(meta: dict[str, Any]) -> tuple[int]:
        return (batch * triton.cdiv(height, meta["BLOCK_H"]) * triton.cdiv(width, meta["BLOCK_W"]),)

    launch(
        _kernel,
        programs,
        pred.device,
        *(pred, gradient, made),
        *(channels, height, width),
        *pred.stride(),
        *gradient.stride(),
        *made.stride(),
    )
    return made


@kernel
def _kernel(
    p_pred, p_gradient, p_out, channels, height, width,
    pred_b, pred_c, pred_y, pred_x, gradient_b, gradient_c, gradient_y, gradient_x, out_b, out_c, out_y, out_x,
    BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """One tile of pixels of one sample, all classes."""
    across, down = tl.cdiv(width, BLOCK_W), tl.cdiv(height, BLOCK_H)
    program = tl.program_id(0)
    tile, sample = program % (across * down), (program // (across * down)).to(tl.int64)
    x = (tile % across) * BLOCK_W + tl.arange(0, BLOCK_W)[None, :].to(tl.int64)
    y = (tile // across) * BLOCK_H + tl.arange(0, BLOCK_H)[:, None].to(tl.int64)
    m_pixel = (x < width) & (y < height)
    p_pred += sample * pred_b + y * pred_y + x * pred_x
    p_gradient += sample * gradient_b + y * gradient_y + x * gradient_x
    p_out += sample * out_b + y * out_y + x * out_x

    m_live = m_pixel & (x < 0)
    b_peak = tl.full([BLOCK_H, BLOCK_W], LOWEST, tl.float32)
    b_sum = tl.zeros([BLOCK_H, BLOCK_W], tl.float32)
    b_mean = tl.zeros([BLOCK_H, BLOCK_W], tl.float32)
    for k in range(channels):
        channel = tl.cast(k, tl.int64)
        b_logit = tl.load(p_pred + channel * pred_c, mask=m_pixel, other=0.0).to(tl.float32)
        b_gradient = tl.load(p_gradient + channel * gradient_c, mask=m_pixel, other=0.0)
        m_live = m_live | (b_gradient != 0)
        b_peak, b_shrink, b_new = grown(b_peak, b_logit)
        b_sum = b_sum * b_shrink + b_new
        b_mean = b_mean * b_shrink + b_new * b_gradient
    b_sum = normalizer(b_peak, b_sum)
    b_mean = b_mean / b_sum
    for k in range(channels):
        channel = tl.cast(k, tl.int64)
        b_logit = tl.load(p_pred + channel * pred_c, mask=m_pixel, other=0.0).to(tl.float32)
        b_gradient = tl.load(p_gradient + channel * gradient_c, mask=m_pixel, other=0.0)
        b_slope = tl.exp(b_logit - b_peak) / b_sum * (b_gradient - b_mean)
        b_slope = tl.where(m_live, b_slope, 0.0)
        tl.store(p_out + channel * out_c, b_slope.to(p_out.dtype.element_ty), mask=m_pixel)
