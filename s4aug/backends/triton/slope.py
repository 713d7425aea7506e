"""The gradient to the inverse matrix: how the output changes as the places move, summed over the output."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...transform import settling
from .launch import CONFIGS, as_bytes, check_there, kernel, launch
from .places import nothing, padded, places, tap_index, tap_slope, tap_used, tap_weight, within
from .sample import TAPS

INTERPOLATED = ("bilinear", "bicubic")


def matrix_gradient(
    image: Tensor,
    gradient: Tensor,
    coordinates: Tensor,
    valid: Tensor | None,
    std: Tensor | None,
    *,
    mode: str,
    padding: str,
) -> Tensor:
    """The gradient to rows x and y of the inverse matrix; the same bits in every run.

    Convention:
        Output pixel (x, y) adds its slope times (x, y, 1). On the lattice, where a neighbour has no weight, it still
        tells the slope if it is finite and not masked; else the pixel itself stands for it. Every tile of the
        output writes its sums in float64, then these are added.

    Args:
        image: [B, C, H, W], as for `forward`.
        gradient: [B, C, h, w] to the output.
        coordinates: [B, 2, 3] int64, as for `forward`.
        valid: [B, 1, H, W] bool, as for `forward`.
        std: [C] float32 of `normalize`.
        mode: As for `forward`; where pixels are shown as they are there is no slope.
        padding: As for `forward`.

    Returns:
        [B, 2, 3] float64.

    Raises:
        BackendUnavailable: float64 pixels, or no CUDA.
    """
    check_there(image, gradient.dtype)
    batch, channels, height, width = image.shape
    rows, columns = gradient.shape[2:]
    if mode not in INTERPOLATED or channels == 0:
        return torch.zeros(batch, 2, 3, dtype=torch.float64, device=image.device)
    # Fixed, for the order of the sums hangs on it.
    tile = CONFIGS[0].kwargs
    tiles = triton.cdiv(rows, tile["BLOCK_H"]) * triton.cdiv(columns, tile["BLOCK_W"])
    sums = torch.empty(batch, tiles, 6, dtype=torch.float64, device=image.device)

    def programs(_: dict[str, Any]) -> tuple[int]:
        return (batch * tiles,)

    launch(
        _kernel,
        programs,
        image.device,
        as_bytes(image) if image.dtype == torch.bool else image,
        gradient,
        coordinates if valid is None else as_bytes(valid),
        coordinates.contiguous(),
        coordinates if std is None else std.contiguous(),
        sums,
        settling((rows, columns)),
        *(channels, height, width, rows, columns),
        *image.stride(),
        *gradient.stride(),
        *((0, 0, 0) if valid is None else (valid.stride(0), valid.stride(2), valid.stride(3))),
        MODE=mode,
        PADDING=padding,
        MASKED=valid is not None,
        NORMALIZED=std is not None,
        TAPS=TAPS[mode],
        tunable=False,
    )
    return sums.sum(1).unflatten(1, (2, 3))


@kernel
def _kernel(
    p_image, p_gradient, p_valid, p_coordinates, p_std, p_sums,
    settling, channels, height, width, rows, columns,
    image_b, image_c, image_y, image_x, gradient_b, gradient_c, gradient_y, gradient_x, valid_b, valid_y, valid_x,
    MODE: tl.constexpr, PADDING: tl.constexpr, MASKED: tl.constexpr, NORMALIZED: tl.constexpr, TAPS: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """One tile of output pixels of one sample, all channels."""
    across, down = tl.cdiv(columns, BLOCK_W), tl.cdiv(rows, BLOCK_H)
    program = tl.program_id(0)
    tile, sample = program % (across * down), (program // (across * down)).to(tl.int64)
    column = (tile % across) * BLOCK_W + tl.arange(0, BLOCK_W)[None, :]
    row = (tile // across) * BLOCK_H + tl.arange(0, BLOCK_H)[:, None]
    m_out = (column < columns) & (row < rows)
    x, y = places(p_coordinates, sample, column, row, settling, MODE)
    p_image += sample * image_b
    p_valid += sample * valid_b

    b_readable = m_out
    if PADDING == "fill":
        b_readable = b_readable & within(x, width, MODE, TAPS) & within(y, height, MODE, TAPS)
    # [tap]: where it is in the plane, and whether it may be read where it has no weight.
    o_taps, m_taps = nothing(), nothing()
    b_real = b_readable
    for TAP_Y in tl.static_range(TAPS):
        for TAP_X in tl.static_range(TAPS):
            tap_y = padded(tap_index(y, TAP_Y, MODE), height, PADDING).to(tl.int64)
            tap_x = padded(tap_index(x, TAP_X, MODE), width, PADDING).to(tl.int64)
            o_taps = o_taps + (tap_y * image_y + tap_x * image_x,)
            m_tap = b_readable
            if MASKED:
                o_valid = tap_y * valid_y + tap_x * valid_x
                m_tap = m_tap & (tl.load(p_valid + o_valid, mask=b_readable, other=0) != 0)
                b_real = b_real & (m_tap | ~(tap_used(y, TAP_Y) & tap_used(x, TAP_X)))
            m_taps = m_taps + (m_tap,)
    b_readable = b_real

    b_slope_x = tl.zeros([BLOCK_H, BLOCK_W], tl.float32)
    b_slope_y = tl.zeros([BLOCK_H, BLOCK_W], tl.float32)
    for channel in range(channels):
        o_gradient = row.to(tl.int64) * gradient_y + column.to(tl.int64) * gradient_x
        p_plane = p_gradient + sample * gradient_b + tl.cast(channel, tl.int64) * gradient_c
        b_gradient = tl.load(p_plane + o_gradient, mask=b_readable, other=0.0).to(tl.float32)
        if NORMALIZED:
            b_gradient = b_gradient / tl.load(p_std + channel)
        p_plane = p_image + tl.cast(channel, tl.int64) * image_c
        b_base = tl.load(p_plane + o_taps[0], mask=b_readable, other=0).to(tl.float32)
        b_known = tl.where(_finite(b_base), b_base, 0.0)
        for TAP_Y in tl.static_range(TAPS):
            for TAP_X in tl.static_range(TAPS):
                b_value = b_base
                if TAP_X + TAP_Y > 0:
                    m_tap = m_taps[TAP_Y * TAPS + TAP_X] & b_readable
                    b_value = tl.load(p_plane + o_taps[TAP_Y * TAPS + TAP_X], mask=m_tap, other=0).to(tl.float32)
                    m_used = tap_used(y, TAP_Y) & tap_used(x, TAP_X)
                    b_value = tl.where(m_used | (m_tap & _finite(b_value)), b_value, b_known)
                b_share = b_gradient * b_value
                b_slope_x += b_share * tap_weight(y, TAP_Y, MODE) * tap_slope(x, TAP_X, MODE)
                b_slope_y += b_share * tap_weight(x, TAP_X, MODE) * tap_slope(y, TAP_Y, MODE)
    p_tile = p_sums + (sample * across * down + tile) * 6
    _store_sums(p_tile, b_slope_x, column, row)
    _store_sums(p_tile + 3, b_slope_y, column, row)


@triton.jit
def _store_sums(p_row, b_slope, column, row):
    """The sums of a slope times (x, y, 1)."""
    b_wide = b_slope.to(tl.float64)
    tl.store(p_row, tl.sum(b_wide * column))
    tl.store(p_row + 1, tl.sum(b_wide * row))
    tl.store(p_row + 2, tl.sum(b_wide))


@triton.jit
def _finite(value):
    return tl.abs(value) < float("inf")
