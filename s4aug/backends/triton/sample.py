"""The warp: values and validity in one pass over the output."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...checks import Size, order_of
from ...transform import settling
from .launch import as_bytes, channel_groups, check_there, kernel, launch
from .places import nothing, places, tap_offset, tap_used, tap_weight, within

TAPS = {"nearest": 1, "lifting": 1, "bilinear": 2, "bicubic": 4}
# Channels whose taps one thread reads together.
GROUP = {"nearest": 4, "lifting": 4, "bilinear": 4, "bicubic": 2}
# What moves pixels as they are, by their width in bytes.
CARRIERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def forward(
    image: Tensor,
    coordinates: Tensor,
    valid: Tensor | None,
    normalize: tuple[Tensor, Tensor] | None,
    *,
    mode: str,
    padding: str,
    fill: float,
    dtype: torch.dtype,
    out_size: Size,
) -> tuple[Tensor, Tensor]:
    """Sample `image` at fixed-point coordinates.

    Convention:
        As `s4aug.warp`; computed in float32. Any strides are read as they are; the output is channels_last where
        the image is.

    Args:
        image: [B, C, H, W], any type but float64.
        coordinates: int64 on the image's device: [B, 2, 3] of `fixed_point`, or for lifting [B, 18]: the fields
            `before`, `slopes`, `offsets`, `shifts`, `after` of the inverse's `Lifting`, and 1 where it fits.
        valid: [B, 1, H, W] bool; pixels where it is false are never read.
        normalize: (mean, std), both [C] float32.
        mode: "bilinear", "nearest", "bicubic" or "lifting".
        padding: "fill", "border" or "reflection".
        fill: Value where nothing can be read, in units of the output.
        dtype: Of the output.
        out_size: (H, W) of the output.

    Returns:
        The image [B, C, h, w] in `dtype`, and its validity [B, 1, h, w] bool.

    Raises:
        BackendUnavailable: float64 pixels, or no CUDA.
    """
    check_there(image, dtype)
    batch, channels = image.shape[:2]
    kept = image.dtype == dtype and TAPS[mode] == 1 and normalize is None
    if kept:
        blank: float = torch.full((), fill, dtype=dtype).view(CARRIERS[dtype.itemsize]).item()
    else:
        blank = float(fill)
    warped = torch.empty((batch, channels, *out_size), dtype=dtype, device=image.device, memory_format=order_of(image))
    real = torch.empty((batch, 1, *out_size), dtype=torch.bool, device=image.device)
    source = image.view(CARRIERS[image.dtype.itemsize]) if kept or image.dtype == torch.bool else image
    _launch(
        source,
        coordinates,
        valid,
        normalize,
        warped.view(CARRIERS[dtype.itemsize]) if kept else warped,
        real,
        blank,
        MODE=mode,
        PADDING=padding,
        KEPT=kept,
        READABLE=False,
    )
    return warped, real


def readable(coordinates: Tensor, valid: Tensor, *, mode: str, padding: str, out_size: Size) -> Tensor:
    """Which output pixels show something, for the gradients: [B, 1, h, w] bool.

    Args:
        coordinates: As for `forward`.
        valid: [B, 1, H, W] bool.
        mode: As for `forward`.
        padding: As for `forward`; beyond a padded edge a pixel is readable, though not valid.
        out_size: (H, W) of the output.
    """
    batch = len(valid)
    nothing = torch.empty((batch, 0, *valid.shape[2:]), dtype=torch.uint8, device=valid.device)
    warped = torch.empty((batch, 0, *out_size), dtype=torch.uint8, device=valid.device)
    shown = torch.empty((batch, 1, *out_size), dtype=torch.bool, device=valid.device)
    _launch(nothing, coordinates, valid, None, warped, shown, 0, MODE=mode, PADDING=padding, KEPT=True, READABLE=True)
    return shown


def _launch(
    source: Tensor,  # [B, C, H, W]
    coordinates: Tensor,
    valid: Tensor | None,
    normalize: tuple[Tensor, Tensor] | None,
    warped: Tensor,  # [B, C, h, w]
    real: Tensor,  # [B, 1, h, w]
    fill: float,
    **constants: Any,
) -> None:
    batch, channels, height, width = source.shape
    rows, columns = warped.shape[2:]
    mask = real if valid is None else valid
    mean, std = (coordinates, coordinates) if normalize is None else normalize
    group, groups = channel_groups(channels, GROUP[constants["MODE"]])

    def programs(meta: dict[str, Any]) -> tuple[int]:
        return (batch * groups * triton.cdiv(rows, meta["BLOCK_H"]) * triton.cdiv(columns, meta["BLOCK_W"]),)

    launch(
        _kernel,
        programs,
        source.device,
        source,
        as_bytes(mask),
        coordinates.contiguous(),
        mean.contiguous(),
        std.contiguous(),
        warped,
        as_bytes(real),
        fill,
        settling((rows, columns)),
        *(channels, groups, height, width, rows, columns),
        *source.stride(),
        *(mask.stride(0), mask.stride(2), mask.stride(3)),
        *warped.stride(),
        MASKED=valid is not None,
        NORMALIZED=normalize is not None,
        TAPS=TAPS[constants["MODE"]],
        GROUP=group,
        RAGGED=group * groups != channels,
        **constants,
    )


@kernel
def _kernel(
    p_image, p_valid, p_coordinates, p_mean, p_std, p_out, p_real,
    fill, settling, channels, groups, height, width, rows, columns,
    image_b, image_c, image_y, image_x, valid_b, valid_y, valid_x, out_b, out_c, out_y, out_x,
    MODE: tl.constexpr, PADDING: tl.constexpr, KEPT: tl.constexpr, READABLE: tl.constexpr, MASKED: tl.constexpr,
    NORMALIZED: tl.constexpr, TAPS: tl.constexpr, GROUP: tl.constexpr,
    RAGGED: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """One tile of output pixels of one sample, for one group of channels."""
    across, down = tl.cdiv(columns, BLOCK_W), tl.cdiv(rows, BLOCK_H)
    program = tl.program_id(0)
    tile, rest = program % (across * down), program // (across * down)
    group, sample = rest % groups, (rest // groups).to(tl.int64)
    column = (tile % across) * BLOCK_W + tl.arange(0, BLOCK_W)[None, :]
    row = (tile // across) * BLOCK_H + tl.arange(0, BLOCK_H)[:, None]
    m_out = (column < columns) & (row < rows)  # [BLOCK_H, BLOCK_W]
    x, y = places(p_coordinates, sample, column, row, settling, MODE)

    b_inside = within(x, width, MODE, TAPS) & within(y, height, MODE, TAPS) & m_out
    b_readable = b_inside if PADDING == "fill" else m_out
    if MASKED:
        b_real = b_readable
        for TAP_Y in tl.static_range(TAPS):
            for TAP_X in tl.static_range(TAPS):
                o_y = tap_offset(y, TAP_Y, height, valid_y, MODE, PADDING)
                o_x = tap_offset(x, TAP_X, width, valid_x, MODE, PADDING)
                m_tap = b_readable & tap_used(y, TAP_Y) & tap_used(x, TAP_X)
                b_real = b_real & (tl.load(p_valid + sample * valid_b + o_y + o_x, mask=m_tap, other=1) != 0)
        b_readable = b_real
    if group == 0:
        o_real = (sample * rows + row) * columns + column
        b_shown = b_readable if READABLE else b_inside & b_readable
        tl.store(p_real + o_real, b_shown.to(tl.uint8), mask=m_out)

    # All are read before any is written, so that the loads are under way together.
    b_values = nothing()
    for i in tl.static_range(GROUP):
        channel = tl.full([1, 1], i, tl.int64) + group * GROUP
        m_read = b_readable
        if RAGGED:
            m_read = m_read & (channel < channels)
        p_plane = p_image + sample * image_b + channel * image_c
        b_total = tl.zeros([BLOCK_H, BLOCK_W], tl.float32)
        for TAP_Y in tl.static_range(TAPS):
            for TAP_X in tl.static_range(TAPS):
                o_y = tap_offset(y, TAP_Y, height, image_y, MODE, PADDING)
                o_x = tap_offset(x, TAP_X, width, image_x, MODE, PADDING)
                m_tap = m_read & tap_used(y, TAP_Y) & tap_used(x, TAP_X)
                # What is not read is not used either, whatever it holds.
                b_value = tl.load(p_plane + o_y + o_x, mask=m_tap)
                if TAPS == 1:
                    b_total = b_value
                else:
                    b_weight = tap_weight(x, TAP_X, MODE) * tap_weight(y, TAP_Y, MODE)
                    b_part = b_value.to(tl.float32) * b_weight
                    # Adding even a zero would turn -0.0 into 0.0.
                    b_total = b_part if TAP_X + TAP_Y == 0 else tl.where(m_tap, b_total + b_part, b_total)
        if not KEPT:
            b_total = b_total.to(tl.float32)
        if NORMALIZED:
            mean = tl.load(p_mean + channel, mask=channel < channels, other=0.0)
            std = tl.load(p_std + channel, mask=channel < channels, other=1.0)
            b_total = (b_total - mean) / std
        b_values = b_values + (tl.where(b_readable, b_total, fill),)
    for i in tl.static_range(GROUP):
        channel = tl.full([1, 1], i, tl.int64) + group * GROUP
        o_out = sample * out_b + channel * out_c + row.to(tl.int64) * out_y + column.to(tl.int64) * out_x
        m_store = m_out
        if RAGGED:
            m_store = m_store & (channel < channels)
        tl.store(p_out + o_out, b_values[i].to(p_out.dtype.element_ty), mask=m_store)
