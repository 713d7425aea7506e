"""The warp by kernels as an operator of torch: compiled whole, captured in graphs, differentiated by kernels."""

from typing import Any

import torch
from torch import Tensor
from torch.types import Number

from .checks import order_of
from .kernels import kernels_for
from .lifting import Lifting
from .transform import AffineTransform, coordinates


def warp_by_kernel(
    image: Tensor,  # [B, C, H, W]
    transform: AffineTransform,
    valid: Tensor | None,  # [B, 1, H, W] bool
    *,
    mode: str,
    padding: str,
    fill: float,
    normalize: tuple[Tensor, Tensor] | None,  # mean, std, both [C]
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """`warp_reference` by the kernels for the image's device; arguments and result as there."""
    inverse = transform.inverse()
    if mode == "lifting":
        places = Lifting.of(inverse).packed()
    else:
        places = coordinates(inverse, dtype if dtype.is_floating_point else torch.float32)
    mean, std = (None, None) if normalize is None else normalize
    slopes = inverse.matrix[:, :2] if mode in ("bilinear", "bicubic") else None
    return _warp(image, slopes, places, valid, mean, std, mode, padding, fill, dtype, *transform.out_size)


@torch.library.custom_op("s4aug::warp", mutates_args=())
def _warp(
    image: Tensor,
    inverse: Tensor | None,  # [B, 2, 3] float64: what the gradient to the matrix is for; places tell the rest
    places: Tensor,  # [B, 2, 3] int64 or float64, or [B, 18] int64
    valid: Tensor | None,
    mean: Tensor | None,
    std: Tensor | None,
    mode: str,
    padding: str,
    fill: Number,
    dtype: torch.dtype,
    height: int,
    width: int,
) -> tuple[Tensor, Tensor]:
    normalize = None if mean is None or std is None else (mean, std)
    return kernels_for(image.device).forward(  # type: ignore[no-any-return]
        *(image, places, valid, normalize),
        mode=mode,
        padding=padding,
        fill=fill,
        dtype=dtype,
        out_size=(height, width),
    )


@_warp.register_fake
def _(image: Tensor, *given: Any) -> tuple[Tensor, Tensor]:
    dtype, height, width = given[-3:]
    shown = torch.empty(
        *(image.shape[0], image.shape[1], height, width),
        dtype=dtype,
        device=image.device,
        memory_format=order_of(image),
    )
    return shown, image.new_empty((image.shape[0], 1, height, width), dtype=torch.bool)


@torch.library.custom_op("s4aug::warp_image_gradient", mutates_args=())
def _image_gradient(
    gradient: Tensor,  # [B, C, h, w]
    inverse: Tensor | None,  # as in `_warp`
    places: Tensor,
    valid: Tensor | None,
    std: Tensor | None,
    mode: str,
    padding: str,
    dtype: torch.dtype,
    height: int,
    width: int,
) -> Tensor:
    backend = kernels_for(gradient.device)
    size = (height, width)
    options: dict[str, Any] = {"mode": mode, "padding": padding, "dtype": dtype, "size": size}
    return backend.image_gradient(gradient, places, valid, std, **options)  # type: ignore[no-any-return]


@_image_gradient.register_fake
def _(gradient: Tensor, *given: Any) -> Tensor:
    dtype, height, width = given[-3:]
    shape = (gradient.shape[0], gradient.shape[1], height, width)
    return torch.empty(shape, dtype=dtype, device=gradient.device, memory_format=order_of(gradient))


@torch.library.custom_op("s4aug::warp_matrix_gradient", mutates_args=())
def _matrix_gradient(
    image: Tensor, gradient: Tensor, places: Tensor, valid: Tensor | None, std: Tensor | None, mode: str, padding: str
) -> Tensor:
    backend = kernels_for(image.device)
    return backend.matrix_gradient(image, gradient, places, valid, std, mode=mode, padding=padding)  # type: ignore[no-any-return]


@_matrix_gradient.register_fake
def _(image: Tensor, *given: Any) -> Tensor:
    return image.new_empty((image.shape[0], 2, 3), dtype=torch.float64)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    image, inverse, places, valid, _, std, mode, padding, *_ = inputs
    # The image is kept for the gradient to the matrix alone.
    kept = image if inverse is not None and inverse.requires_grad else None
    ctx.save_for_backward(kept, inverse, places, valid, std)
    ctx.of = mode, padding, image.dtype, tuple(image.shape[-2:])
    # Validity has no gradient, and no zeros are made for one.
    ctx.set_materialize_grads(False)


def _warp_backward(ctx: Any, gradient: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
    if gradient is None:
        return (None,) * 12
    image, inverse, places, valid, std = ctx.saved_tensors
    mode, padding, dtype, size = ctx.of
    to_image = to_inverse = None
    if ctx.needs_input_grad[0]:
        to_image = _image_gradient(gradient, inverse, places, valid, std, mode, padding, dtype, *size)
    if ctx.needs_input_grad[1]:
        to_inverse = _matrix_gradient(image, gradient, places, valid, std, mode, padding)
    return to_image, to_inverse, *[None] * 10


_warp.register_autograd(_warp_backward, setup_context=_keep)


def _keep_gradient(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    gradient, inverse, places, valid, std, mode, padding, *_ = inputs
    kept = gradient if inverse is not None and inverse.requires_grad else None
    ctx.save_for_backward(kept, inverse, places, valid, std)
    ctx.of = mode, padding, gradient.dtype, tuple(gradient.shape[-2:])


def _image_gradient_backward(ctx: Any, second: Tensor) -> tuple[Tensor | None, ...]:
    """The gradient g of a gradient: <second, A^T g> = <A second, g>, with A the warp without fill and mean."""
    gradient, inverse, places, valid, std = ctx.saved_tensors
    mode, padding, dtype, size = ctx.of
    moved = to_inverse = None
    if ctx.needs_input_grad[0]:
        mean = None if std is None else torch.zeros_like(std)
        moved, _ = _warp(second, inverse, places, valid, mean, std, mode, padding, 0.0, dtype, *size)
    if ctx.needs_input_grad[1]:
        to_inverse = _matrix_gradient(second, gradient, places, valid, std, mode, padding)
    return moved, to_inverse, *[None] * 8


_image_gradient.register_autograd(_image_gradient_backward, setup_context=_keep_gradient)
