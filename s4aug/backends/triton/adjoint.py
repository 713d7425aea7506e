"""The gradient to the image, gathered: each source pixel looks up the output pixels that read it."""

from typing import Any

import torch
from torch import Tensor

from ...checks import Size, order_of
from .edges import collect
from .footprint import gather
from .launch import check_there
from .sample import readable

# A reflected frame narrower than this has too many images of itself to go through one by one.
NARROW_PX = 8


def image_gradient(
    gradient: Tensor,
    coordinates: Tensor,
    valid: Tensor | None,
    std: Tensor | None,
    *,
    mode: str,
    padding: str,
    size: Size,
    dtype: torch.dtype,
) -> Tensor:
    """The gradient to the image of `forward`; the same bits in every run: no atomics, sums in a fixed order.

    Convention:
        A source pixel is read by the output pixels in a parallelogram; these are looked up row by row and weighed
        by the very places of the forward pass. Reflection looks up every image of the pixel. Beyond a border the
        pixels at the edge are read by many more: each of them is summed over the output on its own, which is
        slower.

    Args:
        gradient: [B, C, h, w] to the output.
        coordinates: As for `forward`.
        valid: [B, 1, H, W] bool, as for `forward`.
        std: [C] float32 of `normalize`.
        mode: As for `forward`.
        padding: As for `forward`.
        size: (H, W) of the image.
        dtype: Of the result; sums are float32.

    Returns:
        [B, C, H, W] in `dtype`.

    Raises:
        BackendUnavailable: float64 pixels, or no CUDA.
    """
    check_there(gradient, dtype)
    batch, channels, rows, columns = gradient.shape
    layout = order_of(gradient)
    summed = torch.empty((batch, channels, *size), dtype=dtype, device=gradient.device, memory_format=layout)
    options: dict[str, Any] = {"mode": mode, "padding": padding}
    shown = None if valid is None else readable(coordinates, valid, out_size=(rows, columns), **options)
    given = (gradient, coordinates, shown, std, summed)
    if padding == "reflection" and min(size) < NARROW_PX:
        collect(*given, **options, pixels=size[0] * size[1], along_edges=False)
        return summed
    gather(*given, **options)
    if padding == "border":
        collect(*given, **options, pixels=2 * size[1] + 2 * max(size[0] - 2, 0), along_edges=True)
    elif padding == "reflection" and mode == "lifting":
        # Samples that the permutation is refused for show their first pixel everywhere.
        collect(*given, **options, pixels=1, along_edges=False)
    return summed
