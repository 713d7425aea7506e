"""The warp as a Kornia augmentation."""

from collections.abc import Sequence
from typing import Any

import torch
from kornia.augmentation import GeometricAugmentationBase2D
from kornia.augmentation.random_generator import AffineGenerator
from kornia.constants import Resample, SamplePadding
from kornia.geometry.boxes import Boxes
from kornia.geometry.keypoints import Keypoints
from torch import Tensor

from ..checks import Size
from ..errors import ArgumentError
from ..transform import AffineTransform
from ..warp import warp

Params = dict[str, Tensor]
Flags = dict[str, Any]
Range = tuple[float, float]
Fill = float | Sequence[float] | Tensor

MODES = {Resample.NEAREST: "nearest", Resample.BILINEAR: "bilinear", Resample.BICUBIC: "bicubic"}
PADDINGS = {
    SamplePadding.ZEROS: "fill",
    SamplePadding.BORDER: "border",
    SamplePadding.REFLECTION: "reflection",
    SamplePadding.FILL: "fill",
}
DRAWN = ("angle", "translations", "scale", "shear_x", "shear_y", "center")


class RandomAffine(GeometricAugmentationBase2D):
    """Drop-in for `kornia.augmentation.RandomAffine` that samples at exact coordinates.

    Convention:
        - The arguments, the params of a draw and the rotation sense are Kornia's: a positive angle turns
          clockwise as displayed, unlike everywhere else in `s4aug`. `transform_matrix` leads from input to
          output pixels and has the dtype of the image, as Kornia's.
        - Images, masks, boxes and keypoints are not moved by that rounded matrix but by `motion(params)`, made in
          float64 from the params, also under autocast. A `transform=` that Kornia's containers hand on is not read.
        - A pixel that reaches beyond the edge is padding as a whole, where Kornia blends it with the padding.
          Reflection is about the outer edges of the border pixels.
        - Numbers are drawn by Kornia's generator from torch's global state, on the CPU in float32 by default. A
          keyword that no Kornia augmentation knows (`generator=`) is dropped by Kornia's `forward`.
        - `inverse(image)` undoes the latest draw, as everywhere in Kornia; `inverse(image, params=...)` undoes
          the draw of these params, and leaves the latest as it was.

    Args:
        degrees: Rotation in [-degrees, degrees], or in (low, high), degrees.
        translate: Largest shift as fractions (of the width, of the height).
        scale: (low, high) for both axes alike, or (low x, high x, low y, high y).
        shear: Along x in [-shear, shear], (low, high), or (low x, high x, low y, high y), degrees.
        resample: "nearest", "bilinear" or "bicubic", for images; masks are "nearest" by default.
        same_on_batch: One draw for the whole batch.
        align_corners: Without effect on the coordinates, in Kornia too; True with padding_mode="reflection", which
            would reflect about the pixels' centres, is an error.
        padding_mode: "zeros", "border", "reflection" or "fill".
        fill_value: Value of the padding where padding_mode="fill": a number, or one per channel; 0 by default.
        p: Probability that a sample is moved.
        keepdim: Whether the output has the rank of the input; else it is [B, C, H, W].
        p_batch: Probability that the batch is moved at all.
        mask_fill: Value of the padding in masks, 255 for example; in range of the mask's dtype. By default masks
            are padded as images are, which writes class 0; with 0 where `fill_value` is one per channel.

    Raises:
        ArgumentError: A range, probability or choice that cannot be, or one that would have no effect.

    Example:
        >>> from kornia.augmentation import AugmentationSequential
        >>> augment = AugmentationSequential(RandomAffine(15, p=1.0, mask_fill=255), data_keys=["image", "mask"])
        >>> image, labels = augment(torch.rand(2, 3, 32, 32), torch.ones(2, 1, 32, 32, dtype=torch.uint8))
        >>> labels.unique()
        tensor([  1, 255], dtype=torch.uint8)
    """

    def __init__(
        self,
        degrees: float | Range | Tensor,
        translate: Range | Tensor | None = None,
        scale: Range | tuple[float, float, float, float] | Tensor | None = None,
        shear: float | Range | tuple[float, float, float, float] | Tensor | None = None,
        resample: str | int | Resample = "bilinear",
        same_on_batch: bool = False,
        align_corners: bool = False,
        padding_mode: str | int | SamplePadding = "zeros",
        fill_value: Fill | None = None,
        p: float = 0.5,
        keepdim: bool = False,
        *,
        p_batch: float = 1.0,
        mask_fill: float | None = None,
    ) -> None:
        for name, chance in (("p", p), ("p_batch", p_batch)):
            if not 0 <= chance <= 1:
                raise ArgumentError(f"{name} must be a probability in [0, 1], got {chance}")
        if translate is not None and torch.as_tensor(translate).ndim == 0:
            # Kornia takes one number for a range of the shift along y alone.
            raise ArgumentError(f"translate must be (of the width, of the height), got the number {translate}")
        super().__init__(p=p, p_batch=p_batch, same_on_batch=same_on_batch, keepdim=keepdim)
        try:
            self._param_generator = AffineGenerator(degrees, translate, scale, shear)  # type: ignore[arg-type]  # 4 shears
            self.flags = {
                "resample": Resample.get(resample),
                "padding_mode": SamplePadding.get(padding_mode),
                "align_corners": align_corners,
                # Not a tensor: beside one of several numbers, Kornia's containers set a mask padding of their own.
                "fill_value": None if fill_value is None else _numbers(fill_value),
                "mask_fill": None if mask_fill is None else float(mask_fill),
            }
        except (TypeError, ValueError, IndexError) as error:
            raise ArgumentError(f"RandomAffine cannot be made of these arguments: {error}") from error
        _padding(self.flags)

    def motion(self, params: Params) -> AffineTransform:
        """The exact motion of a draw; the identity for samples that it skips.

        Args:
            params: Of a draw: `_params` after a call, or `forward_parameters(shape)`.

        Returns:
            B motions in the frame of the draw, float64, on the device of the params: what `transform_matrix` holds
            rounded, and what tells which pixels are real (`s4aug.warp`).

        Raises:
            ArgumentError: Params that are not those of a draw, or whose matrix cannot be inverted.
        """
        _check_params(params, ("batch_prob", "forward_input_shape"))
        drawn = _drawn(params, _frame(params))
        moved = self._gate(params).to(drawn.matrix.device)[:, None, None]  # [B, 1, 1]
        still = AffineTransform.identity(len(drawn), drawn.size, device=drawn.matrix.device)
        return AffineTransform(torch.where(moved, drawn.matrix, still.matrix), drawn.size)

    def compute_transformation(self, input: Tensor, params: Params, flags: Flags) -> Tensor:
        """What Kornia shows as `transform_matrix`: the exact matrix, rounded to the dtype of the image."""
        return _drawn(params, _size(input.shape)).matrix.to(input)

    def apply_transform(self, input: Tensor, params: Params, flags: Flags, transform: Tensor | None = None) -> Tensor:
        """Move images [B, C, H, W] by the exact motion of the params."""
        _check_frame(params, input)
        return _moved(input, _drawn(params, _size(input.shape)), flags)

    def inverse_transform(
        self, input: Tensor, flags: Flags, transform: Tensor | None = None, size: Size | None = None
    ) -> Tensor:
        """Move images [B, C, H, W] by the exact inverse that `inverse_inputs` hands over."""
        assert transform is not None
        return _moved(input, AffineTransform(transform, size or _size(input.shape)), flags)

    def inverse_inputs(
        self, input: Tensor, params: Params, flags: Flags, transform: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        """Undo the draw of the params on images."""
        _check_frame(params, input)
        return super().inverse_inputs(input, params, flags, self.motion(params).inverse().matrix, **kwargs)

    def inverse(self, input: Tensor, params: Params | None = None, **kwargs: Any) -> Tensor:
        """Undo a draw on images, where that can be.

        Args:
            input: [B, C, H, W], at the resolution of the draw; a map of another one: `motion(params).at(...)`.
            params: Of the draw; the latest by default.
            **kwargs: Overrides of params and flags, as in Kornia.

        Returns:
            Images in the frame before the draw.

        Raises:
            ArgumentError: No draw yet, or one for images of another size.
        """
        latest = self._params
        if not (params or latest):
            raise ArgumentError("there is no draw to undo: call the augmentation first, or pass params=")
        try:
            return super().inverse(input, params, **kwargs)
        finally:
            # Kornia takes the params of any call for the latest draw.
            self._params = latest

    def transform_masks(
        self, input: Tensor, params: Params, flags: Flags, transform: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        """Move masks by the exact motion of the params, nearest pixel, padded with `mask_fill`."""
        return super().transform_masks(input, params, flags, transform, **_mask_options(flags, kwargs))

    def inverse_masks(
        self, input: Tensor, params: Params, flags: Flags, transform: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        """Undo the draw of the params on masks, nearest pixel, padded with `mask_fill`."""
        return super().inverse_masks(input, params, flags, transform, **_mask_options(flags, kwargs))

    def transform_boxes(
        self, input: Boxes, params: Params, flags: Flags, transform: Tensor | None = None, **kwargs: Any
    ) -> Boxes:
        """Move boxes by the exact motion of the params."""
        exact = self.motion(params).matrix.to(input.device)
        return super().transform_boxes(_wide(input), params, flags, exact, **kwargs).type(input.dtype)

    def inverse_boxes(
        self, input: Boxes, params: Params, flags: Flags, transform: Tensor | None = None, **kwargs: Any
    ) -> Boxes:
        """Undo the draw of the params on boxes."""
        exact = self.motion(params).inverse().matrix.to(input.device)
        return super().inverse_boxes(_wide(input), params, flags, exact, **kwargs).type(input.dtype)

    def transform_keypoints(
        self, input: Keypoints, params: Params, flags: Flags, transform: Tensor | None = None, **kwargs: Any
    ) -> Keypoints:
        """Move keypoints by the exact motion of the params."""
        exact = self.motion(params).matrix.to(input.device)
        return super().transform_keypoints(_wide(input), params, flags, exact, **kwargs).type(input.dtype)

    def inverse_keypoints(
        self, input: Keypoints, params: Params, flags: Flags, transform: Tensor | None = None, **kwargs: Any
    ) -> Keypoints:
        """Undo the draw of the params on keypoints."""
        exact = self.motion(params).inverse().matrix.to(input.device)
        return super().inverse_keypoints(_wide(input), params, flags, exact, **kwargs).type(input.dtype)


def _drawn(params: Params, size: Size) -> AffineTransform:
    """The exact motion of every sample, those that the draw skips too."""
    _check_params(params, DRAWN)
    return AffineTransform.from_params(
        # Kornia's RandomAffine turns the other way than its own rotation matrices.
        angle=-params["angle"],
        translation=params["translations"],
        scale=params["scale"],
        shear=torch.stack([params["shear_x"], params["shear_y"]], -1),
        center=params["center"],
        size=size,
    )


def _check_params(params: Params, needed: Sequence[str]) -> None:
    missing = [name for name in needed if name not in params]
    if missing:
        raise ArgumentError(f"params lack {', '.join(missing)}; pass those of a draw: `_params` after a call")


def _check_frame(params: Params, image: Tensor) -> None:
    # Not where compiled, for the graph would break; there the params are those of the image.
    if "forward_input_shape" in params and not torch.compiler.is_compiling():
        frame = _frame(params)
        if frame != _size(image.shape):
            raise ArgumentError(
                f"the image is {_size(image.shape)} (H, W), the params were drawn for {frame}; draw anew, or use "
                f"motion(params).at(...) with s4aug.warp for a map of another resolution"
            )


def _frame(params: Params) -> Size:
    return _size(params["forward_input_shape"].tolist())


def _moved(image: Tensor, motion: AffineTransform, flags: Flags) -> Tensor:
    padding, fills = _padding(flags)
    if len(fills) not in (1, image.shape[1]):
        raise ArgumentError(f"fill_value must be one number or {image.shape[1]}, one per channel, got {len(fills)}")
    mode = MODES[Resample.get(flags["resample"])]
    # Kornia keeps params on the CPU, whatever the image's device.
    moved, valid = warp(image, motion.to(image.device), mode=mode, padding=padding, fill=fills[0])
    if len(fills) == 1:
        return moved
    return torch.where(valid, moved, moved.new_tensor(fills)[:, None, None])


def _padding(flags: Flags) -> tuple[str, tuple[float, ...]]:
    """The warp's padding and its fill, one number or one per channel."""
    chosen, fill = SamplePadding.get(flags["padding_mode"]), flags["fill_value"]
    if chosen == SamplePadding.REFLECTION and flags["align_corners"]:
        raise ArgumentError(
            "align_corners=True with padding_mode='reflection' reflects about the centres of the border pixels, "
            "which is not there; pass align_corners=False to reflect about their outer edges"
        )
    if chosen != SamplePadding.FILL and fill is not None:
        raise ArgumentError(
            f"fill_value={fill} has no effect with padding_mode={chosen.name.lower()!r}; pass padding_mode='fill', "
            "or mask_fill= where only masks are meant"
        )
    return PADDINGS[chosen], (0.0,) if fill is None else _numbers(fill)


def _mask_options(flags: Flags, options: Flags) -> Flags:
    """A call's options for masks, with their padding where the caller did not choose it."""
    if "fill_value" in options:
        return options
    if SamplePadding.get(options.get("padding_mode", "fill")) != SamplePadding.FILL:
        # Content beyond the edge; the fill of the images is not meant.
        return {**options, "fill_value": None}
    chosen = {**flags, **options}
    if chosen["mask_fill"] is not None:
        return {**options, "padding_mode": SamplePadding.FILL, "fill_value": chosen["mask_fill"]}
    several = chosen["fill_value"] is not None and len(_numbers(chosen["fill_value"])) > 1
    return {**options, "fill_value": 0.0} if several else options


def _numbers(fill: Fill) -> tuple[float, ...]:
    numbers = torch.as_tensor(fill, dtype=torch.float64)
    if numbers.ndim > 1:
        raise ArgumentError(f"fill_value must be one number or one per channel, got shape {list(numbers.shape)}")
    return tuple(numbers.reshape(-1).tolist())


def _size(shape: Sequence[int]) -> Size:
    return shape[-2], shape[-1]


def _wide(points: Any) -> Any:
    """A copy of boxes or keypoints in float64."""
    return points.clone().type(torch.float64)
