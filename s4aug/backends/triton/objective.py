"""The consistency objective in one pass over the restored frame: activated, undone, compared and summed."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...checks import Size
from ...transform import settling
from .launch import CONFIGS, as_bytes, check_there, kernel, launch
from .places import nothing, places, tap_offset, tap_used, tap_weight, within
from .softmax import LOWEST, grown, normalizer

# As in `s4aug.consistency`: what a logarithm is taken of is at least this.
TINY = tl.constexpr(torch.finfo(torch.float32).tiny)
MODE = tl.constexpr("bilinear")
TAPS = tl.constexpr(2)


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
    """How far two predictions are apart once they are undone, and its slopes; the same bits in every run.

    Convention:
        Softmax in float32, then bilinear undoing to 0 where a tap lies outside or is masked, then the difference.
        "mse" adds up (r1 - r2)^2; its one slope is r1 - r2, half the derivative in r1. "kl" adds up the divergence
        of `s4aug.consistency`; its slopes are the derivatives in r1 and r2. Slopes are 0 where nothing is compared.
        Every tile of the restored frame writes its sum in float64, then these are added.

    Args:
        pred1: [B, K, h, w] float32, float16 or bfloat16; any strides are read as they are.
        pred2: As `pred1`.
        places1: [B, 2, 3] int64 of `fixed_point`: where restored pixels lie in `pred1`.
        places2: As `places1`, in `pred2`.
        valid1: [B, 1, h, w] bool; pixels where it is false are never read.
        valid2: As `valid1`, of `pred2`.
        loss: "mse" or "kl".
        softmax: Whether the predictions are logits.
        detach: 1 or 2: that side is a target without gradient; 0: none is.
        mask: Whether only pixels valid on both sides are compared, or all.
        wanted: Whether there are to be slopes.
        size: (H, W) of the restored frame.

    Returns:
        The sum, a float32 scalar; the number of pixels compared, an int64 scalar; slopes [B, K, H, W] float32, of
        "kl" one per side. Slopes that are not wanted, or of the detached side, have shape [0].

    Raises:
        BackendUnavailable: float64 predictions, or no CUDA.
    """
    check_there(pred1, pred2.dtype)
    batch, channels, height, width = pred1.shape
    rows, columns = size
    # Fixed, for the order of the sums hangs on it.
    tile = CONFIGS[0].kwargs
    tiles = triton.cdiv(rows, tile["BLOCK_H"]) * triton.cdiv(columns, tile["BLOCK_W"])
    sums = torch.empty(batch, tiles, dtype=torch.float64, device=pred1.device)
    counts = torch.empty(batch, tiles, dtype=torch.int32, device=pred1.device)
    held1 = wanted and (loss == "mse" or detach != 1)
    held2 = wanted and loss == "kl" and detach != 2
    shape = slopes_shape(pred1.shape, size)
    slopes1, slopes2 = (
        torch.empty(shape if held else (0,), dtype=torch.float32, device=pred1.device) for held in (held1, held2)
    )

    def programs(_: dict[str, Any]) -> tuple[int]:
        return (batch * tiles,)

    launch(
        _kernel,
        programs,
        pred1.device,
        *(pred1, pred2),
        *(places1.contiguous(), places2.contiguous()),
        *(as_bytes(valid1), as_bytes(valid2)),
        *(slopes1, slopes2),
        *(sums, counts),
        settling(size),
        *(channels, height, width, rows, columns),
        *pred1.stride(),
        *pred2.stride(),
        *(valid1.stride(0), valid1.stride(2), valid1.stride(3)),
        *(valid2.stride(0), valid2.stride(2), valid2.stride(3)),
        LOSS=loss,
        SOFTMAX=softmax,
        DETACH=detach,
        MASKED=mask,
        HELD1=held1,
        HELD2=held2,
        tunable=False,
        wide=True,
    )
    return sums.sum().float(), counts.sum(), slopes1, slopes2


def slopes_shape(shape: torch.Size | tuple[int, ...], size: Size) -> tuple[int, int, int, int]:
    """The shape [B, K, H, W] of slopes, from that of a prediction and the size of the restored frame."""
    return shape[0], shape[1], size[0], size[1]


@kernel
def _kernel(
    p_pred1, p_pred2, p_places1, p_places2, p_valid1, p_valid2, p_slopes1, p_slopes2, p_sums, p_counts,
    settling, channels, height, width, rows, columns,
    pred1_b, pred1_c, pred1_y, pred1_x, pred2_b, pred2_c, pred2_y, pred2_x,
    valid1_b, valid1_y, valid1_x, valid2_b, valid2_y, valid2_x,
    LOSS: tl.constexpr, SOFTMAX: tl.constexpr, DETACH: tl.constexpr, MASKED: tl.constexpr,
    HELD1: tl.constexpr, HELD2: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """One tile of restored pixels of one sample, all classes."""
    across, down = tl.cdiv(columns, BLOCK_W), tl.cdiv(rows, BLOCK_H)
    program = tl.program_id(0)
    tile, sample = program % (across * down), (program // (across * down)).to(tl.int64)
    column = (tile % across) * BLOCK_W + tl.arange(0, BLOCK_W)[None, :]
    row = (tile // across) * BLOCK_H + tl.arange(0, BLOCK_H)[:, None]
    m_out = (column < columns) & (row < rows)
    x1, y1 = places(p_places1, sample, column, row, settling, MODE)
    x2, y2 = places(p_places2, sample, column, row, settling, MODE)
    m_shown1 = _shown(p_valid1 + sample * valid1_b, x1, y1, m_out, height, width, valid1_y, valid1_x)
    m_shown2 = _shown(p_valid2 + sample * valid2_b, x2, y2, m_out, height, width, valid2_y, valid2_x)
    m_compared = m_out
    if MASKED:
        m_compared = m_shown1 & m_shown2
        m_shown1, m_shown2 = m_compared, m_compared
    # Where nothing is shown both sides are 0: no class differs.
    shows = tl.max((m_shown1 | m_shown2).to(tl.int32)) > 0
    classes = tl.where(shows, channels, 0)

    p_pred1 += sample * pred1_b
    p_pred2 += sample * pred2_b
    o_first1, o_first2 = _first(x1, y1, pred1_y, pred1_x), _first(x2, y2, pred2_y, pred2_x)
    m_taps1, m_taps2 = _taps(x1, y1, m_shown1), _taps(x2, y2, m_shown2)
    b_weights1, b_weights2 = _weights(x1, y1, m_shown1), _weights(x2, y2, m_shown2)
    b_peaks1, b_peaks2 = b_weights1, b_weights2
    if SOFTMAX:
        b_peaks1, b_weights1 = _normalized(
            b_weights1, p_pred1, o_first1, m_taps1, classes, pred1_c, pred1_y, pred1_x
        )  # fmt: skip
        b_peaks2, b_weights2 = _normalized(
            b_weights2, p_pred2, o_first2, m_taps2, classes, pred2_c, pred2_y, pred2_x
        )  # fmt: skip

    o_slope = row.to(tl.int64) * columns + column
    b_sum = tl.zeros([BLOCK_H, BLOCK_W], tl.float32)
    for k in range(classes):
        p_class1 = p_pred1 + tl.cast(k, tl.int64) * pred1_c
        p_class2 = p_pred2 + tl.cast(k, tl.int64) * pred2_c
        b_first = _restored(p_class1 + o_first1, m_taps1, b_weights1, b_peaks1, pred1_y, pred1_x, SOFTMAX)
        b_second = _restored(p_class2 + o_first2, m_taps2, b_weights2, b_peaks2, pred2_y, pred2_x, SOFTMAX)
        b_term, b_slope1, b_slope2 = _compared(b_first, b_second, LOSS, DETACH)
        b_sum += b_term
        o_plane = (sample * channels + k) * rows * columns
        if HELD1:
            tl.store(p_slopes1 + o_plane + o_slope, b_slope1, mask=m_out)
        if HELD2:
            tl.store(p_slopes2 + o_plane + o_slope, b_slope2, mask=m_out)
    if HELD1 or HELD2:
        b_none = tl.zeros([BLOCK_H, BLOCK_W], tl.float32)
        for k in range(classes, channels):
            o_plane = (sample * channels + k) * rows * columns
            if HELD1:
                tl.store(p_slopes1 + o_plane + o_slope, b_none, mask=m_out)
            if HELD2:
                tl.store(p_slopes2 + o_plane + o_slope, b_none, mask=m_out)
    tl.store(p_sums + program, tl.sum(b_sum.to(tl.float64)))
    tl.store(p_counts + program, tl.sum(m_compared.to(tl.int32)))


@triton.jit
def _shown(p_valid, x, y, m_out, height, width, valid_y, valid_x):
    """Where every used tap lies inside and is valid."""
    m_shown = m_out & within(x, width, MODE, TAPS) & within(y, height, MODE, TAPS)
    b_real = m_shown
    o_first = _first(x, y, valid_y, valid_x)
    for TAP in tl.static_range(4):
        m_tap = m_shown & tap_used(y, TAP // 2) & tap_used(x, TAP % 2)
        p_tap = p_valid + o_first + _beside(TAP, valid_y, valid_x)
        b_real = b_real & (tl.load(p_tap, mask=m_tap, other=1) != 0)
    return b_real


@triton.jit
def _first(x, y, stride_y, stride_x):
    """Where the tap that is always read is in a plane."""
    return tap_offset(y, 0, 0, stride_y, MODE, "fill") + tap_offset(x, 0, 0, stride_x, MODE, "fill")


@triton.jit
def _beside(TAP: tl.constexpr, stride_y, stride_x):
    """Where a tap is from the first one: the same for all pixels."""
    return (TAP // 2) * stride_y + (TAP % 2) * stride_x


@triton.jit
def _taps(x, y, m_shown):
    """[tap]: where it is read."""
    m_taps = nothing()
    for TAP in tl.static_range(4):
        m_taps = m_taps + (m_shown & tap_used(y, TAP // 2) & tap_used(x, TAP % 2),)
    return m_taps


@triton.jit
def _weights(x, y, m_shown):
    """[tap]: its weight; 0 where nothing is shown."""
    b_weights = nothing()
    for TAP in tl.static_range(4):
        b_weight = tap_weight(x, TAP % 2, MODE) * tap_weight(y, TAP // 2, MODE)
        b_weights = b_weights + (tl.where(m_shown, b_weight, 0.0),)
    return b_weights


@triton.jit
def _normalized(b_weights, p_pred, o_first, m_taps, classes, stride_c, stride_y, stride_x):
    """[tap]: the peak over its classes, and its weight by the sum of exponentials below the peak."""
    b_peaks, b_sums = nothing(), nothing()
    for _ in tl.static_range(4):
        b_peaks = b_peaks + (tl.full(o_first.shape, LOWEST, tl.float32),)
        b_sums = b_sums + (tl.zeros(o_first.shape, tl.float32),)
    for k in range(classes):
        p_first = p_pred + tl.cast(k, tl.int64) * stride_c + o_first
        b_higher, b_more = nothing(), nothing()
        for TAP in tl.static_range(4):
            p_tap = p_first + _beside(TAP, stride_y, stride_x)
            b_logit = tl.load(p_tap, mask=m_taps[TAP], other=0.0).to(tl.float32)
            b_peak, b_shrink, b_new = grown(b_peaks[TAP], b_logit)
            b_higher = b_higher + (b_peak,)
            b_more = b_more + (b_sums[TAP] * b_shrink + b_new,)
        b_peaks, b_sums = b_higher, b_more
    b_scaled = nothing()
    for TAP in tl.static_range(4):
        # What is not read weighs nothing, and what sums it has is made of zeros.
        b_scaled = b_scaled + (b_weights[TAP] / normalizer(b_peaks[TAP], b_sums[TAP]),)
    return b_peaks, b_scaled


@triton.jit
def _restored(p_first, m_taps, b_weights, b_peaks, stride_y, stride_x, SOFTMAX: tl.constexpr):
    """One class, undone: 0 where nothing is shown, for there all that is read is 0 and weighs nothing."""
    b_total = tl.zeros(p_first.shape, tl.float32)
    for TAP in tl.static_range(4):
        p_tap = p_first + _beside(TAP, stride_y, stride_x)
        b_value = tl.load(p_tap, mask=m_taps[TAP], other=0.0).to(tl.float32)
        if SOFTMAX:
            b_value = tl.exp(b_value - b_peaks[TAP])
        b_total += b_value * b_weights[TAP]
    return b_total


@triton.jit
def _compared(b_first, b_second, LOSS: tl.constexpr, DETACH: tl.constexpr):
    """What a class adds to the sum, and the slopes in both sides."""
    b_difference = b_first - b_second
    if LOSS == "mse":
        return b_difference * b_difference, b_difference, b_difference
    b_ratio = tl.log(_lifted(b_first)) - tl.log(_lifted(b_second))
    if DETACH == 1:
        return b_first * b_ratio, b_ratio, -b_first * _log_slope(b_second)
    if DETACH == 2:
        return -b_second * b_ratio, -b_second * _log_slope(b_first), -b_ratio
    b_slope1 = b_ratio + b_difference * _log_slope(b_first)
    b_slope2 = -b_ratio - b_difference * _log_slope(b_second)
    return b_difference * b_ratio * 0.5, b_slope1 * 0.5, b_slope2 * 0.5


@triton.jit
def _lifted(b_value):
    """The value, at least tiny; NaN stays."""
    return tl.maximum(b_value, TINY, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _log_slope(b_value):
    """The derivative of the logarithm of the value lifted."""
    return tl.where(b_value >= TINY, 1.0 / _lifted(b_value), 0.0)
