"""Consistency of two predictions for two views of the same images."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .checks import check_choice, check_pixels, check_type
from .errors import ArgumentError
from .kernels import choose, refusal_of
from .objective import compare_by_kernel, fits
from .view import View, WayBack
from .warp import Warped, warp

LOSSES = ("mse", "kl")


@dataclass(frozen=True, eq=False)
class ConsistencyTerms:
    """A loss as numerator and count, so that ranks and accumulation steps add up to the joint batch.

    Args:
        numerator: Scalar, the sum over the pixels compared.
        count: Scalar, the pixels compared.
        pixels: The pixels there are.
    """

    numerator: Tensor  # scalar
    count: Tensor  # scalar: pixels compared
    pixels: int  # pixels there are

    @property
    def loss(self) -> Tensor:
        """Numerator by count; 0 with zero gradient where nothing is compared."""
        return self.numerator / self.count.clamp_min(1)

    @property
    def valid_fraction(self) -> Tensor:
        """Share of pixels compared."""
        return self.count / max(self.pixels, 1)


def consistency_loss(
    pred1: Tensor,
    view1: View,
    pred2: Tensor,
    view2: View,
    *,
    loss: str = "mse",
    activation: str | None = "softmax",
    classes: str = "mean",
    detach: int | None = None,
    mask: bool = True,
    backend: str = "auto",
) -> Tensor:
    """Eq. 4 of S4Net: how far two predictions are apart once their views are undone.

    Convention:
        Activation first, then undo, then the difference over the pixels that are valid in both, divided by
        their number. What is compared are undone probabilities, in at least float32.

    Args:
        pred1: [B, K, h, w], the network's output for `view1.image`, at its resolution or a stride of it.
        view1: First view; phi_1.
        pred2: As `pred1`, for the second view.
        view2: Second view of the same images; phi_2.
        loss: "mse", or "kl": KL(1, 2) and KL(2, 1) averaged, or from the detached side alone.
        activation: "softmax" over classes, or None to compare the predictions as they are.
        classes: "mean" or "sum" over the K classes.
        detach: 1 or 2: that side is a target without gradient.
        mask: False compares all pixels, those without content too (for ablation).
        backend: As in `warp`. Predictions of 16 and 32 bits that are undone bilinearly take one fused pass of the
            kernels, differentiable once; other calls, and all with "torch", are composed of warps.

    Returns:
        Scalar. 0 with zero gradient where no pixel is valid in both.

    Raises:
        ArgumentError: Predictions of different shape, or an unknown choice.
        BackendUnavailable: The named backend is not there.

    Example:
        >>> from s4aug import RandomAffine
        >>> images, perturb = torch.rand(2, 3, 32, 32), RandomAffine(degrees=15)
        >>> v1, v2 = perturb(images), perturb(images)
        >>> consistency_loss(v1.image, v1, v2.image, v2).shape
        torch.Size([])
    """
    options = {"loss": loss, "activation": activation, "classes": classes, "detach": detach, "mask": mask}
    return consistency_terms(pred1, view1, pred2, view2, **options, backend=backend).loss  # type: ignore[arg-type]


def consistency_terms(
    pred1: Tensor,
    view1: View,
    pred2: Tensor,
    view2: View,
    *,
    loss: str = "mse",
    activation: str | None = "softmax",
    classes: str = "mean",
    detach: int | None = None,
    mask: bool = True,
    backend: str = "auto",
) -> ConsistencyTerms:
    """`consistency_loss` as numerator and count; arguments as there."""
    _check_arguments(pred1, view1, pred2, view2, loss=loss, activation=activation, classes=classes, detach=detach)
    predictions = pred1.detach() if detach == 1 else pred1, pred2.detach() if detach == 2 else pred2
    ways = tuple(view.way_back(side) for view, side in zip((view1, view2), predictions, strict=True))
    options: dict[str, Any] = {"loss": loss, "detach": detach, "mask": mask}
    if _is_fused(predictions, ways, backend):
        numerator, count = compare_by_kernel(predictions, ways, softmax=activation is not None, **options)
    else:
        first, second = (
            warp(_activated(side, way, activation), way.transform, valid=way.valid, mode=way.mode, backend=backend)
            for side, way in zip(predictions, ways, strict=True)
        )
        numerator, count = _compared(first, second, **options)
    if classes == "mean":
        numerator = numerator / max(pred1.shape[1], 1)
    return ConsistencyTerms(numerator, count, len(pred1) * math.prod(ways[0].transform.out_size))


def _check_arguments(
    pred1: Tensor,
    view1: View,
    pred2: Tensor,
    view2: View,
    *,
    loss: str,
    activation: str | None,
    classes: str,
    detach: int | None,
) -> None:
    check_choice(loss, LOSSES, "loss")
    check_choice(classes, ("mean", "sum"), "classes")
    if activation not in ("softmax", None):
        raise ArgumentError(f"activation must be 'softmax' or None, got {activation!r}")
    if detach not in (None, 1, 2) or isinstance(detach, bool):
        raise ArgumentError(f"detach must be None, 1 or 2, got {detach!r}")
    for name, prediction in (("pred1", pred1), ("pred2", pred2)):
        check_pixels(prediction, name)
    for name, view in (("view1", view1), ("view2", view2)):
        check_type(view, View, name)
    if view1.transform.size != view2.transform.size:
        raise ArgumentError(
            f"view1 and view2 must be of the same images, theirs are {view1.transform.size} and "
            f"{view2.transform.size} (H, W)"
        )
    if pred1.shape != pred2.shape:
        raise ArgumentError(f"pred1 and pred2 must have one shape, got {list(pred1.shape)}, {list(pred2.shape)}")


def _is_fused(predictions: tuple[Tensor, ...], ways: tuple[WayBack, ...], backend: str) -> bool:
    """Whether one pass of the device's kernels does it all.

    Raises:
        BackendUnavailable: The named backend is not there.
    """
    matrices = [way.transform.matrix for way in ways]
    if choose(backend, predictions[0].device, refusal_of(*predictions, *matrices)) == "torch":
        return False
    learnt = torch.is_grad_enabled() and any(matrix.requires_grad for matrix in matrices)
    alike = predictions[0].dtype == predictions[1].dtype and predictions[0].device == predictions[1].device
    return alike and not learnt and fits(predictions[0]) and all(way.mode == "bilinear" for way in ways)


def _compared(first: Warped, second: Warped, *, loss: str, detach: int | None, mask: bool) -> tuple[Tensor, Tensor]:
    """Numerator, summed over classes, and count, composed: the definition of right for the kernels."""
    compared = first.valid & second.valid if mask else torch.ones_like(first.valid)  # [B, 1, h, w]
    # Pixels left out become equal before they are compared, so that neither value nor gradient leaks.
    if loss == "mse":
        difference = torch.where(compared, first.image - second.image, 0)
        return (difference * difference).sum(), compared.sum()
    one, other = (torch.where(compared, side.image, 0) for side in (first, second))
    return _divergence(one, other, detach).sum(), compared.sum()


def _activated(prediction: Tensor, way: WayBack, activation: str | None) -> Tensor:
    wide = prediction if prediction.dtype == torch.float64 else prediction.float()
    # A masked NaN would come back through the softmax's gradient: 0 * NaN.
    return wide if activation is None else torch.where(way.valid, wide, 0).softmax(1)


def _divergence(first: Tensor, second: Tensor, detach: int | None) -> Tensor:
    # One floor for every type, so that pixels without content (mask=False) weigh the same in each.
    tiny = torch.finfo(torch.float32).tiny
    ratio = first.clamp_min(tiny).log() - second.clamp_min(tiny).log()
    if detach == 1:
        return first * ratio
    return -second * ratio if detach == 2 else (first - second) * ratio / 2
