"""Random views of an image batch, and the way back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from .checks import Size, check_choice, check_image, check_mask, check_number, check_pixels, check_size, check_type
from .sampling import AffineRanges, Range, check_liftable, check_seed, sample_affine
from .transform import AffineTransform, cell_bounds, cell_offset, check_stride, infer_stride, map_size
from .warp import MODES, PADDINGS, Warped, warp


class WayBack(NamedTuple):
    """How a prediction for a view is undone: by a warp with these arguments."""

    transform: AffineTransform  # from the prediction's frame
    valid: Tensor  # [B, 1, h, w] bool, of the prediction's resolution
    mode: str


@dataclass(frozen=True, eq=False)
class View:
    """A moved image batch, with all that undoing needs.

    Args:
        image: [B, C, h, w] in the view's frame.
        valid: [B, 1, h, w] bool: which of its pixels are real.
        transform: From the source frame to the view's.
        mode: How `image` was sampled.
    """

    image: Tensor  # [B, C, h, w]
    valid: Tensor  # [B, 1, h, w] bool
    transform: AffineTransform
    mode: str = "bilinear"

    def __post_init__(self) -> None:
        check_type(self.transform, AffineTransform, "transform")
        check_choice(self.mode, MODES, "mode")
        check_image(self.image, self.transform.out_size, len(self.transform), "image")
        check_mask(self.valid, self.image, "valid")

    @classmethod
    def of(
        cls,
        images: Tensor,
        transform: AffineTransform,
        *,
        valid: Tensor | None = None,
        mode: str = "bilinear",
        padding: str = "fill",
        fill: float = 0.0,
        normalize: tuple[Sequence[float] | Tensor, Sequence[float] | Tensor] | None = None,
        dtype: torch.dtype | None = None,
    ) -> "View":
        """The view that a given transform shows; arguments as in `warp`."""
        warped = warp(
            images,
            transform,
            valid=valid,
            mode=mode,
            padding=padding,
            fill=fill,
            normalize=normalize,
            dtype=dtype,
        )
        return cls(warped.image, warped.valid, transform, mode)

    def restore(
        self,
        prediction: Tensor,
        *,
        mode: str | None = None,
        stride: float | None = None,
        offset: float | Sequence[float] | None = None,
        fill: float = 0.0,
        backend: str = "auto",
    ) -> Warped:
        """Bring a prediction for this view back into the frame of the images it was made of.

        Convention:
            A prediction of lower resolution is undone at its own resolution: cell i stands at pixel
            `stride * i + offset` (see `AffineTransform.at`) and is valid when all its pixels are.

        Args:
            prediction: [B, K, h', w'], at the view's size or at a stride of it.
            mode: As in `warp`. By default lifting for a lifting view's full resolution, else bilinear. Labels:
                "nearest" or "lifting".
            stride: Pixels per cell; read off the sizes by default.
            offset: Pixel at which cell 0 stands.
            fill: Value where nothing real is shown; 255 for labels.
            backend: As in `warp`.

        Returns:
            `Warped(prediction, valid)`; `valid` is that of the round trip: inside both ways, and real.

        Raises:
            ArgumentError: A prediction whose size fits no stride of the view.
        """
        back, valid, mode = self.way_back(prediction, mode=mode, stride=stride, offset=offset)
        return warp(prediction, back, valid=valid, mode=mode, fill=fill, backend=backend)

    def way_back(
        self,
        prediction: Tensor,
        *,
        mode: str | None = None,
        stride: float | None = None,
        offset: float | Sequence[float] | None = None,
    ) -> WayBack:
        """What `restore` does to a prediction, not yet done; arguments and errors as there."""
        check_pixels(prediction, "prediction")
        self.transform.check_beside(prediction.device, "prediction")
        cells = check_size((prediction.shape[-2], prediction.shape[-1]), "prediction's size")
        stride = infer_stride(self.transform.out_size, cells) if stride is None else check_stride(stride)
        source_cells = map_size(self.transform.size, stride)
        moved = self.transform.at(source_cells, cells, stride=stride, offset=offset)
        check_image(prediction, moved.out_size, len(moved), "prediction")
        whole = moved is self.transform
        valid = self.valid if whole else _pool_valid(self.valid, cells, stride, offset)
        mode = mode or ("lifting" if whole and self.mode == "lifting" else "bilinear")
        return WayBack(moved.inverse(), valid, mode)


class RandomAffine(nn.Module):
    """Random affine views of an image batch, in Kornia's argument names and ranges.

    Nothing is kept between calls: what undoing needs is in the returned `View`.

    Convention:
        Rotation is counter-clockwise as displayed, about the middle of the frame; see `AffineRanges`.

    Args:
        degrees: Rotation in [-degrees, degrees], or in (low, high), degrees.
        translate: Largest shift as fractions (of the width, of the height).
        scale: (low, high) for both axes alike, or (low x, high x, low y, high y).
        shear: Along x in [-shear, shear], (low, high), or (low x, high x, low y, high y), degrees.
        hflip: Probability of a left-right flip.
        vflip: Probability of a top-bottom flip.
        same_on_batch: One draw for the whole batch.
        mode: As in `warp`. "lifting" draws maps that keep area: no scale, and shears that lifting can follow.
        padding: As in `warp`.
        fill: As in `warp`.

    Raises:
        ArgumentError: Ranges upside down (see `AffineRanges`), or ranges that lifting cannot follow.

    Example:
        >>> perturb = RandomAffine(degrees=15, translate=(0.2, 0.2), scale=(0.75, 1.25))  # Sec. 3.2
        >>> view = perturb(torch.rand(2, 3, 64, 64), generator=torch.Generator().manual_seed(0))
        >>> image, valid = view.restore(view.image)
        >>> image.shape, valid.shape
        (torch.Size([2, 3, 64, 64]), torch.Size([2, 1, 64, 64]))
    """

    def __init__(
        self,
        degrees: float | Range = 0.0,
        translate: tuple[float, float] | None = None,
        scale: Range | tuple[float, float, float, float] | None = None,
        shear: float | Range | tuple[float, float, float, float] | None = None,
        *,
        hflip: float = 0.0,
        vflip: float = 0.0,
        same_on_batch: bool = False,
        mode: str = "bilinear",
        padding: str = "fill",
        fill: float = 0.0,
    ) -> None:
        super().__init__()
        check_choice(mode, MODES, "mode")
        check_choice(padding, PADDINGS, "padding")
        check_number(fill, "fill")
        self.ranges = AffineRanges(degrees, translate, scale, shear, hflip, vflip)
        if mode == "lifting":
            check_liftable(self.ranges)
        self.same_on_batch = same_on_batch
        self.mode = mode
        self.padding = padding
        self.fill = fill

    def sample(
        self,
        batch: int,
        size: Size,
        *,
        device: torch.device | str = "cpu",
        generator: torch.Generator | None = None,
        seed: Tensor | None = None,  # [B] int64
    ) -> AffineTransform:
        """The draw alone; arguments as in `sample_affine`. With `same_on_batch` the first seed counts."""
        if not self.same_on_batch:
            return sample_affine(self.ranges, batch, size, device=device, generator=generator, seed=seed)
        if seed is not None:
            check_seed(seed, batch)
        first = None if seed is None else seed[:1]
        one = sample_affine(self.ranges, 1, size, device=device, generator=generator, seed=first)
        return AffineTransform.identity(batch, one.size, device=device) @ one

    def forward(
        self,
        images: Tensor,
        *,
        valid: Tensor | None = None,
        shared: AffineTransform | None = None,
        generator: torch.Generator | None = None,
        seed: Tensor | None = None,
    ) -> View:
        """Draw one motion per image and show the images so moved.

        Args:
            images: [B, C, H, W].
            valid: [B, 1, H, W] bool; pixels where it is false are never read.
            shared: What is done to the images before, for several views alike, as a flip or a crop from a larger
                tile. Images are resampled once for both; `restore` leads back to the frame in between, so that
                its views can be compared there. (Lifting goes step by step, for it must permute pixels.)
            generator: Source of the draw; torch's global one by default.
            seed: [B] int64, one seed per image, instead of a generator.

        Returns:
            The view, with its validity and the transform that undoes it.
        """
        check_pixels(images, "images")
        if valid is not None:
            check_mask(valid, images, "valid")
        if shared is not None:
            check_type(shared, AffineTransform, "shared")
            shared.check_beside(images.device, "images")
            check_image(images, shared.size, len(shared), "images")
        size = (images.shape[-2], images.shape[-1]) if shared is None else shared.out_size
        motion = self.sample(images.shape[0], size, device=images.device, generator=generator, seed=seed)
        if shared is not None and self.mode == "lifting":
            images, valid = warp(images, shared, valid=valid, mode="lifting", padding=self.padding, fill=self.fill)
            shared = None
        whole = motion if shared is None else motion @ shared
        shown = warp(images, whole, valid=valid, mode=self.mode, padding=self.padding, fill=self.fill)
        return View(shown.image, shown.valid, motion, self.mode)

    if TYPE_CHECKING:
        # To type checkers a call of a module is Any.
        __call__ = forward

    def extra_repr(self) -> str:
        """What `repr` shows: the ranges."""
        return f"{self.ranges}, mode={self.mode!r}, padding={self.padding!r}, fill={self.fill}"


def _pool_valid(
    valid: Tensor, cells: Size, stride: float, offset: float | Sequence[float] | None
) -> Tensor:  # [B, 1, h, w] -> [B, 1, h', w']
    """A cell is valid when it has a pixel and all its pixels are valid."""
    offset_x, offset_y = cell_offset(stride, offset)
    top, bottom = cell_bounds(valid.shape[-2], cells[0], stride, offset_y, valid.device)
    left, right = cell_bounds(valid.shape[-1], cells[1], stride, offset_x, valid.device)
    count = torch.zeros(valid.shape[0], 1, valid.shape[-2] + 1, valid.shape[-1] + 1, device=valid.device)
    count = count.to(torch.int32)
    count[..., 1:, 1:] = valid.cumsum(-1, dtype=torch.int32).cumsum(-2, dtype=torch.int32)
    rows = count[..., bottom, :] - count[..., top, :]
    held = rows[..., right] - rows[..., left]
    area = (bottom - top)[:, None] * (right - left)
    return (held == area) & (area > 0)
