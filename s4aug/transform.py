"""Affine transforms of image batches, and the only place that knows pixel centres and fixed point.

Longer than other files, so that none of them has to know these.
"""

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import NamedTuple, SupportsIndex

import torch
from torch import Tensor

from .checks import Size, check_size, check_tensor
from .errors import ArgumentError
from .linear import Numbers, broadcast, check_finite, linear_part, matrix_device, vector, widened

FRACTION_BITS = 32
ONE = 1 << FRACTION_BITS
HALF = ONE >> 1
QUARTER = ONE >> 2
LATTICE_TOLERANCE_PX = 1e-9
# Linear entries and offsets beyond these would leave int64 at sides of 32768 px.
LINEAR_LIMIT = 2.0**14
OFFSET_LIMIT_PX = 2.0**29

Geotransform = tuple[float, float, float, float, float, float]


@dataclass(frozen=True, eq=False)
class AffineTransform:
    """A batch of affine motions between a source frame and an output frame.

    Convention:
        - `matrix` maps source pixels to output pixels, as Kornia's `warp_affine` expects
        - points are (x, y), whole numbers are pixel centres, sizes are (H, W)
        - angles in degrees, positive as in `cv2.getRotationMatrix2D` (counter-clockwise as displayed)

    Args:
        matrix: [B, 3, 3], kept in float64; last row (0, 0, 1). May carry gradient.
        size: (H, W) of the source frame in px.
        out_size: (H, W) of the output frame in px; the source's by default.

    Raises:
        ArgumentError: Wrong shape; or, for a matrix on the CPU, an entry that is not finite, a matrix that
            cannot be inverted, or one that shrinks by more than 2^14. The message names the sample. Matrices on
            a device are not read back and so not checked.

    Example:
        >>> import torch
        >>> turn = AffineTransform.from_params(angle=torch.tensor([30.0]), size=(64, 48))
        >>> torch.allclose((turn @ turn.inverse()).matrix, torch.eye(3, dtype=torch.float64))
        True
    """

    matrix: Tensor  # [B, 3, 3] float64
    size: Size
    out_size: Size = None  # type: ignore[assignment]  # filled in below
    # What an inverse undoes: undone again it is that very transform, to the bit.
    undoes: "AffineTransform | None" = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        size = check_size(self.size, "size")
        out_size = size if self.out_size is None else check_size(self.out_size, "out_size")
        check_tensor(self.matrix, "matrix")
        if self.matrix.is_complex():
            raise ArgumentError(f"matrix must hold real numbers, got {self.matrix.dtype}")
        matrix = widened(self.matrix)
        if matrix.ndim != 3 or matrix.shape[1:] != (3, 3):
            raise ArgumentError(f"matrix must have shape [B, 3, 3], got {list(matrix.shape)}")
        if matrix.device.type == "cpu" and not torch.compiler.is_compiling():
            _check_matrix(matrix.detach())
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "out_size", out_size)

    @classmethod
    def from_linear(
        cls, linear: Tensor, offset: Tensor, size: Size, out_size: Size, bottom: Tensor | None = None
    ) -> "AffineTransform":
        """The motion x -> linear @ x + offset, for values that are right by construction (not checked).

        Args:
            linear: [B, 2, 2] float64.
            offset: [B, 2] float64, (x, y) in px.
            size: (H, W) of the source frame.
            out_size: (H, W) of the output frame.
            bottom: [B, 1, 3], the row (0, 0, 1) of a matrix that has it already.
        """
        top = torch.cat([linear, offset[..., None]], -1)  # [B, 2, 3]
        if bottom is None:
            bottom = vector([0, 0, 1], top.device).expand(top.shape[0], 1, 3)
        made = object.__new__(cls)
        object.__setattr__(made, "matrix", torch.cat([top, bottom], 1))
        object.__setattr__(made, "size", size)
        object.__setattr__(made, "out_size", out_size)
        return made

    @classmethod
    def identity(cls, batch: int, size: Size, *, device: torch.device | str = "cpu") -> "AffineTransform":
        """No motion at all."""
        return cls._constant([[1, 0], [0, 1]], [0, 0], batch, size, size, device)

    @classmethod
    def hflip(cls, batch: int, size: Size, *, device: torch.device | str = "cpu") -> "AffineTransform":
        """Left and right exchanged; bit-exact."""
        _, width = check_size(size, "size")
        return cls._constant([[-1, 0], [0, 1]], [width - 1, 0], batch, size, size, device)

    @classmethod
    def vflip(cls, batch: int, size: Size, *, device: torch.device | str = "cpu") -> "AffineTransform":
        """Top and bottom exchanged; bit-exact."""
        height, _ = check_size(size, "size")
        return cls._constant([[1, 0], [0, -1]], [0, height - 1], batch, size, size, device)

    @classmethod
    def rot90(cls, k: int, batch: int, size: Size, *, device: torch.device | str = "cpu") -> "AffineTransform":
        """`k` quarter turns counter-clockwise as displayed, like `torch.rot90(x, k, (2, 3))`; bit-exact."""
        height, width = check_size(size, "size")
        k = k % 4
        linear = [[[1, 0], [0, 1]], [[0, 1], [-1, 0]], [[-1, 0], [0, -1]], [[0, -1], [1, 0]]][k]
        offset = [[0, 0], [0, width - 1], [width - 1, height - 1], [height - 1, 0]][k]
        out_size = size if k % 2 == 0 else (width, height)
        return cls._constant(linear, offset, batch, size, out_size, device)

    @classmethod
    def shift(cls, xy: Tensor, size: Size) -> "AffineTransform":
        """Content moved by `xy` ([B, 2], px, right and down); bit-exact for whole pixels."""
        return cls._moved(xy, "xy", check_size(size, "size"), check_size(size, "size"))

    @classmethod
    def crop(cls, top: Tensor, left: Tensor, out_size: Size, size: Size) -> "AffineTransform":
        """The window of `out_size` whose first pixel is at (`top`, `left`), each [B] in px."""
        for name, edge in (("top", top), ("left", left)):
            check_tensor(edge, name)
        if top.ndim != 1 or top.shape != left.shape or top.device != left.device:
            raise ArgumentError(
                f"top and left must be [B] on one device, got {list(top.shape)} on {top.device} and {list(left.shape)} "
                f"on {left.device}"
            )
        corner = torch.stack([left, top], -1)
        return cls._moved(-widened(corner), "(left, top)", size, out_size)

    @classmethod
    def resize(cls, out_size: Size, size: Size, batch: int, *, device: torch.device | str = "cpu") -> "AffineTransform":
        """The whole frame resampled to `out_size`, outer corner on outer corner."""
        (height, width), (rows, columns) = check_size(size, "size"), check_size(out_size, "out_size")
        scale_y, scale_x = rows / height, columns / width
        offset = [(scale_x - 1) / 2, (scale_y - 1) / 2]
        return cls._constant([[scale_x, 0], [0, scale_y]], offset, batch, size, out_size, device)

    @classmethod
    def from_params(
        cls,
        *,
        size: Size,
        angle: Numbers = 0.0,
        translation: Numbers = (0.0, 0.0),
        scale: Numbers = 1.0,
        shear: Numbers = (0.0, 0.0),
        center: Numbers | None = None,
    ) -> "AffineTransform":
        """Shear, then scale, then rotate about `center`, then translate: Kornia's order.

        Convention:
            As `kornia.geometry.get_rotation_matrix2d` and `get_shear_matrix2d`; at multiples of 90 degrees
            the cosines are exact.

        Args:
            size: (H, W) of both frames in px.
            angle: [B] or a number, degrees, counter-clockwise as displayed.
            translation: [B, 2] or (x, y), px.
            scale: [B] or a number (isotropic), or [B, 2] as (x, y).
            shear: [B, 2] or (x, y), degrees.
            center: [B, 2] or (x, y), px; the middle of the frame by default.

        Raises:
            ArgumentError: Shapes that do not go together, or parameters whose matrix cannot be inverted.
        """
        size = check_size(size, "size")
        named = {
            "angle": (angle, 1),
            "translation": (translation, 2),
            "scale": (scale, 2),
            "shear": (shear, 2),
            "center": (middle(size) if center is None else center, 2),
        }
        values = broadcast(named)
        linear = linear_part(values["angle"][:, 0], values["scale"], values["shear"])
        pivot = values["center"]
        offset = pivot + values["translation"] - (linear @ pivot[..., None])[..., 0]
        transform = cls.from_linear(linear, offset, size, size)
        return cls(transform.matrix, size, size)

    def __len__(self) -> int:
        return self.matrix.shape[0]

    def __getitem__(self, index: SupportsIndex | slice | Tensor) -> "AffineTransform":
        """The transforms of some samples; a whole number keeps the batch dimension."""
        if isinstance(index, Tensor):
            index = index[None] if index.ndim == 0 else index
        elif hasattr(index, "__index__") and not getattr(index, "ndim", 0):
            index = operator.index(index)
            # Without the error, a loop over the transform would never end.
            if not -len(self) <= index < len(self):
                raise IndexError(f"sample {index} of a batch of {len(self)}")
            index = slice(index, index + 1 or None)
        return self._each(lambda matrix: matrix[index])

    def __matmul__(self, first: "AffineTransform") -> "AffineTransform":
        """`a @ b`: b first, then a, as one motion."""
        if first.out_size != self.size:
            raise ArgumentError(f"a @ b: b ends in a frame of {first.out_size} (H, W), a begins in {self.size}")
        self.check_beside(first.matrix.device, "a @ b: b")
        if len(first) != len(self) and 1 not in (len(first), len(self)):
            raise ArgumentError(f"a @ b: a has batch {len(self)}, b has {len(first)}")
        return self._with(self.matrix @ first.matrix, first.size, self.out_size)

    def inverse(self) -> "AffineTransform":
        """The motion undone, in closed form; the inverse of an inverse is the motion itself."""
        if self.undoes is not None:
            return self.undoes
        (a, b, x), (c, d, y) = self.matrix[:, 0].unbind(-1), self.matrix[:, 1].unbind(-1)
        determinant = a * d - b * c
        adjugate = torch.stack([d, -b, b * y - d * x, -c, a, c * x - a * y], -1)
        top = (adjugate / determinant[:, None]).unflatten(-1, (2, 3))
        undone = self.from_linear(top[..., :2], top[..., 2], self.out_size, self.size, self.matrix[:, 2:].detach())
        object.__setattr__(undone, "undoes", self)
        return undone

    def at(
        self,
        size: Size,
        out_size: Size | None = None,
        *,
        stride: float | None = None,
        offset: float | Sequence[float] | None = None,
    ) -> "AffineTransform":
        """The same motion for maps of another resolution, for example a network's output at stride 4.

        Convention:
            Cell i of a map stands at pixel `stride * i + offset`. By default a cell is a block of pixels and
            stands at its middle: `offset = (stride - 1) / 2`; a network whose first cell sits on the first
            pixel has `offset = 0`.

        Args:
            size: (H, W) of the map in the source frame.
            out_size: (H, W) of the map in the output frame; ceil(out_size / stride) by default.
            stride: Pixels per cell; read off the sizes by default.
            offset: Pixel at which cell 0 stands, a number or (x, y).

        Raises:
            ArgumentError: No stride (or more than one) leads from the frame to the map.
        """
        size = check_size(size, "size")
        stride = infer_stride(self.size, size) if stride is None else check_stride(stride)
        out_size = map_size(self.out_size, stride) if out_size is None else check_size(out_size, "out_size")
        for frame, cells in ((self.size, size), (self.out_size, out_size)):
            if map_size(frame, stride) != cells:
                raise ArgumentError(
                    f"a map of {cells} (H, W) does not fit a frame of {frame} at stride {stride:g}: "
                    f"that gives {map_size(frame, stride)}"
                )
        if stride == 1 and cell_offset(stride, offset) == (0, 0):
            return self
        first = vector(cell_offset(stride, offset), self.matrix.device)
        linear = self.matrix[:, :2, :2]
        moved = (linear @ first) + self.matrix[:, :2, 2] - first
        return self.from_linear(linear, moved / stride, size, out_size, self.matrix[:, 2:].detach())

    def points(self, xy: Tensor) -> Tensor:
        """Where points of the source frame go.

        Args:
            xy: [B, N, 2] in px.

        Returns:
            [B, N, 2] in the dtype of `xy`, computed in float64; whole numbers are rounded, halves upwards.
        """
        check_tensor(xy, "xy")
        if xy.ndim != 3 or xy.shape[-1] != 2 or len(self) not in (1, xy.shape[0]):
            raise ArgumentError(f"xy must have shape [{len(self)}, N, 2], got {list(xy.shape)}")
        self.check_beside(xy.device, "xy")
        moved = widened(xy) @ self.matrix[:, :2, :2].mT + self.matrix[:, None, :2, 2]
        return (moved if xy.is_floating_point() else (moved + 0.5).floor()).to(xy.dtype).to(xy.device)

    def boxes(self, xyxy: Tensor) -> Tensor:
        """The smallest upright boxes around the moved boxes.

        Args:
            xyxy: [B, N, 4], (left, top, right, bottom) in px.

        Returns:
            [B, N, 4] in the dtype of `xyxy`; in whole numbers the smallest that hold them, to 1e-9 px.
        """
        check_tensor(xyxy, "xyxy")
        if xyxy.ndim != 3 or xyxy.shape[-1] != 4 or len(self) not in (1, xyxy.shape[0]):
            raise ArgumentError(f"xyxy must have shape [{len(self)}, N, 4], got {list(xyxy.shape)}")
        self.check_beside(xyxy.device, "xyxy")
        left, top, right, bottom = widened(xyxy).unbind(-1)
        corners = torch.stack([left, top, right, top, right, bottom, left, bottom], -1)
        moved = self.points(corners.reshape(xyxy.shape[0], -1, 2)).reshape(*xyxy.shape[:-1], 4, 2)
        low, high = moved.amin(-2), moved.amax(-2)
        if not xyxy.is_floating_point():
            low, high = (low + 1e-9).floor(), (high - 1e-9).ceil()
        return torch.cat([low, high], -1).to(xyxy.dtype).to(xyxy.device)

    def to_rasterio(self, geotransform: Sequence[float], index: int = 0) -> Geotransform:
        """The geotransform of the warped raster.

        Convention:
            A geotransform counts from the outer corner of the first pixel, this class from its centre; the half
            pixel is taken care of.

        Args:
            geotransform: Of the source raster: `dataset.transform`, or (a, b, c, d, e, f) in rasterio's order.
            index: Which sample of the batch.

        Returns:
            (a, b, c, d, e, f); `rasterio.Affine(*coefficients)` is what rasterio takes.
        """
        source = _corner_matrix(geotransform)
        moved = source @ _CORNER @ self.inverse().matrix[index].detach().cpu() @ _CORNER.inverse()
        return tuple(moved[:2].flatten().tolist())  # type: ignore[return-value]

    @classmethod
    def from_rasterio(
        cls, source: Sequence[float], target: Sequence[float], size: Size, out_size: Size
    ) -> "AffineTransform":
        """The motion from one raster's pixels to another's, of the same coordinate system; batch 1.

        Args:
            source: Geotransform of the source raster, as in `to_rasterio`.
            target: Geotransform of the output raster.
            size: (H, W) of the source raster.
            out_size: (H, W) of the output raster.

        Raises:
            ArgumentError: A geotransform that cannot be inverted.
        """
        world = [_corner_matrix(geotransform) for geotransform in (source, target)]
        if any(torch.linalg.det(matrix) == 0 for matrix in world):
            raise ArgumentError(f"a geotransform cannot be inverted: {tuple(source)}, {tuple(target)}")
        return cls((_CORNER.inverse() @ world[1].inverse() @ world[0] @ _CORNER)[None], size, out_size)

    def to(self, device: torch.device | str) -> "AffineTransform":
        """The same transforms for images on another device; on the CPU where that has no float64."""
        return self._each(lambda matrix: matrix.to(matrix_device(device)))

    def check_beside(self, device: torch.device, name: str) -> None:
        """Hold the matrices to the place where those for `name` on `device` live.

        Raises:
            ArgumentError: They are elsewhere. To fetch them would wait for a device.
        """
        if self.matrix.device != matrix_device(device):
            raise ArgumentError(
                f"{name} is on {device}, the transform on {self.matrix.device}; use transform.to({str(device)!r})"
            )

    def _each(self, change: Callable[[Tensor], Tensor]) -> "AffineTransform":
        changed = self._with(change(self.matrix), self.size, self.out_size)
        object.__setattr__(changed, "undoes", None if self.undoes is None else self.undoes._each(change))
        return changed

    def _with(self, matrix: Tensor, size: Size, out_size: Size) -> "AffineTransform":
        return self.from_linear(matrix[:, :2, :2], matrix[:, :2, 2], size, out_size, matrix[:, 2:].detach())

    @classmethod
    def _moved(cls, xy: Tensor, name: str, size: Size, out_size: Size) -> "AffineTransform":
        check_tensor(xy, name)
        if xy.ndim != 2 or xy.shape[1] != 2:
            raise ArgumentError(f"{name} must have shape [B, 2], got {list(xy.shape)}")
        offset = widened(xy)
        if offset.device.type == "cpu" and not torch.compiler.is_compiling():
            check_finite(offset.detach(), name)
        straight = torch.eye(2, dtype=torch.float64, device=offset.device).expand(len(offset), 2, 2)
        return cls.from_linear(straight, offset, check_size(size, "size"), check_size(out_size, "out_size"))

    @classmethod
    def _constant(
        cls,
        linear: Sequence[Sequence[float]],
        offset: Sequence[float],
        batch: int,
        size: Size,
        out_size: Size,
        device: torch.device | str,
    ) -> "AffineTransform":
        rows = vector([*linear[0], *linear[1]], device).expand(batch, 4).unflatten(1, (2, 2))
        moved = vector(offset, device).expand(batch, 2)
        return cls.from_linear(rows, moved, check_size(size, "size"), check_size(out_size, "out_size"))


# From pixel centres at whole numbers to pixel corners at whole numbers.
_CORNER = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]], dtype=torch.float64, device="cpu")


def _corner_matrix(geotransform: Sequence[float]) -> Tensor:  # [3, 3] on the CPU
    numbers = [float(number) for number in geotransform]
    if len(numbers) not in (6, 9) or not all(map(math.isfinite, numbers)):
        raise ArgumentError(
            f"a geotransform has 6 finite numbers (rasterio adds 0, 0, 1), got {len(numbers)} numbers: {numbers}"
        )
    return torch.tensor([*numbers[:6], 0.0, 0.0, 1.0], dtype=torch.float64, device="cpu").reshape(3, 3)


class Axis(NamedTuple):
    """Sampled source coordinates along one axis, split into lattice point and distance."""

    whole: Tensor  # [B, h, w] int64: the lattice point at or below
    fraction: Tensor  # [B, h, w]: distance above it; exactly 0 on the lattice; may carry gradient
    remainder: Tensor  # [B, h, w]: 1 - fraction, rounded on its own, so never 0
    nearest: Tensor  # [B, h, w] int64: the nearest lattice point, ties upwards


def fixed_point(transform: AffineTransform) -> Tensor:
    """The inverse map in fixed point: what every backend samples at, to the bit.

    Convention:
        Output pixel (x, y) samples source x `(f[0, 0] * x + f[0, 1] * y + f[0, 2]) / 2^32`, and source y from
        row 1. Rounded once; anchored at the output's middle, so that the error is at most
        ((H + W) / 2 + 1) * 2^-33 px: 3.8e-6 px at 32768 px a side. `settled` moves by about as much again.

    Args:
        transform: Source to output.

    Returns:
        [B, 2, 3] int64.
    """
    return _fixed(transform.inverse())


def coordinates(inverse: AffineTransform, dtype: torch.dtype) -> Tensor:
    """What a kernel steps through: `fixed_point`, or the inverse matrix itself for float64 pixels.

    Args:
        inverse: Output to source.
        dtype: Of the weights.

    Returns:
        [B, 2, 3] int64 or float64.
    """
    return inverse.matrix[:, :2].detach() if dtype == torch.float64 else _fixed(inverse)


def _fixed(inverse: AffineTransform) -> Tensor:  # [B, 2, 3] int64
    linear, offset = inverse.matrix[:, :2, :2].detach(), inverse.matrix[:, :2, 2].detach()
    pivot_x, pivot_y = inverse.size[1] // 2, inverse.size[0] // 2
    # By single products and sums, which round alike everywhere.
    anchor = (linear[..., 0] * pivot_x + linear[..., 1] * pivot_y + offset).clamp(-OFFSET_LIMIT_PX, OFFSET_LIMIT_PX)
    # What no fixed point can hold, products of strong shrinkings or NaN, shows nothing.
    held = (linear.abs() <= LINEAR_LIMIT).flatten(1).all(1)[:, None]
    linear = torch.where(held[..., None], linear, 0.0)
    anchor = torch.where(held, anchor, -OFFSET_LIMIT_PX)
    fixed = (torch.cat([linear, anchor[..., None]], -1) * ONE).round().to(torch.int64)
    start = fixed[..., 2] - (fixed[..., 0] * pivot_x + fixed[..., 1] * pivot_y)
    return torch.cat([fixed[..., :2], start[..., None]], -1)


def source_axes(transform: AffineTransform, dtype: torch.dtype, device: torch.device) -> tuple[Axis, Axis]:
    """Where each output pixel samples the source, along x and along y.

    Convention:
        Fixed point, but for float64 pixels, which take float64 coordinates snapped to the lattice within
        1e-9 px. Gradient flows to the matrix through `fraction` and `remainder`.

    Args:
        transform: Source to output.
        dtype: Of the weights.
        device: Where the pixels are.
    """
    height, width = transform.out_size
    columns = torch.arange(width, device=device)  # [w]
    rows = torch.arange(height, device=device)[:, None]  # [h, 1]
    exact = dtype == torch.float64 or transform.matrix.requires_grad
    # Where a device has no float64 the gradient is summed in the weights' own type.
    wide = dtype if transform.matrix.device != device else torch.float64
    inverse = transform.inverse().matrix.to(wide).to(device) if exact else None
    fixed = fixed_point(transform).to(device) if dtype != torch.float64 else None
    axes = []
    for i in range(2):
        real = None if inverse is None else _along(inverse[:, i], columns, rows)
        if fixed is None:
            axes.append(_snapped(real))
        else:
            places = settled(_along(fixed[:, i], columns, rows), transform.out_size)
            axes.append(_split(places, real, dtype))
    return axes[0], axes[1]


def settled(places: Tensor, out_size: Size) -> Tensor:
    """Coordinates in fixed point, those that rounding left beside a lattice point or a tie brought back to it.

    Convention:
        The rounded steps add up to at most (H + W) / 4 + 1/2 units of 2^-32 px over an output of (H, W). What lies
        so near to a multiple of half a pixel is that multiple, so that the edges of an image enlarged 3 times and
        the ties of a nearest pixel are where they belong.

    Args:
        places: int64, in units of 2^-32 px, of any shape.
        out_size: (H, W) of the output frame.
    """
    aside = ((places + QUARTER) & (HALF - 1)) - QUARTER
    return torch.where(aside.abs() <= settling(out_size), places - aside, places)


def settling(out_size: Size) -> int:
    """How far from a multiple of half a pixel a coordinate may have been rounded, units of 2^-32 px."""
    return (out_size[0] + out_size[1]) // 4 + 2


def middle(frame: Size) -> tuple[float, float]:
    """The middle (x, y) of a frame, px."""
    return (frame[1] - 1) / 2, (frame[0] - 1) / 2


def map_size(frame: Size, stride: float) -> Size:
    """Size of a map of cells of `stride` px over a frame: ceil(frame / stride)."""
    return math.ceil(frame[0] / stride - 1e-9), math.ceil(frame[1] / stride - 1e-9)


def infer_stride(frame: Size, cells: Size) -> float:
    """The stride that leads from a frame to a map of cells.

    A whole ratio is taken as it is; else the one whole stride with ceil(frame / stride) = cells (513 px in 129
    cells are stride 4, not 3.98); else, where the aspect is the same, the ratio (a resized map).

    Raises:
        ArgumentError: None, or more than one.
    """
    same_aspect = frame[0] * cells[1] == frame[1] * cells[0]
    if same_aspect and frame[0] % cells[0] == 0:
        return frame[0] / cells[0]
    fitting = [stride for stride in range(1, max(frame) + 1) if map_size(frame, stride) == cells]
    if len(fitting) == 1:
        return float(fitting[0])
    if same_aspect and not fitting:
        return frame[0] / cells[0]
    reason = f"strides {fitting} all fit: pass stride=" if fitting else "the aspects differ"
    raise ArgumentError(f"no stride leads from a frame of {frame} (H, W) to a map of {cells}: {reason}")


def check_stride(stride: float) -> float:
    """Hold a stride to a finite number above 0."""
    if not isinstance(stride, Real) or not 0 < stride < math.inf:
        raise ArgumentError(f"stride must be a number of pixels above 0, got {stride!r}")
    return float(stride)


def cell_offset(stride: float, offset: float | Sequence[float] | None) -> tuple[float, float]:
    """The pixel (x, y) at which cell 0 of a map stands."""
    if offset is None:
        return (stride - 1) / 2, (stride - 1) / 2
    pair = (offset, offset) if isinstance(offset, Real) else tuple(offset)  # type: ignore[arg-type]
    if len(pair) != 2 or not all(isinstance(part, Real) and math.isfinite(part) for part in pair):
        raise ArgumentError(f"offset must be a finite number or (x, y), px, got {offset!r}")
    return float(pair[0]), float(pair[1])


def cell_bounds(
    frame: int, cells: int, stride: float, offset: float, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """The pixels that each cell of a map touches along one axis.

    Args:
        frame: Length of the frame in px.
        cells: Number of cells.
        stride: Pixels per cell.
        offset: Pixel at which cell 0 stands.
        device: Where the bounds are wanted.

    Returns:
        First pixel and one past the last of each cell, both [cells] int64, cut to the frame.
    """
    centre = torch.arange(cells, dtype=torch.float64, device=matrix_device(device)) * stride + offset
    # A pixel p covers [p - 1/2, p + 1/2]; touching an edge is not covering, hence the tolerance.
    first = torch.floor(centre - stride / 2 - 0.5 + LATTICE_TOLERANCE_PX) + 1
    stop = torch.ceil(centre + stride / 2 + 0.5 - LATTICE_TOLERANCE_PX)
    return first.clamp(0, frame).long().to(device), stop.clamp(0, frame).long().to(device)


def _along(row: Tensor, columns: Tensor, rows: Tensor) -> Tensor:  # [B, 3] -> [B, h, w]
    a, b, c = (part[:, None, None] for part in row.unbind(-1))
    return a * columns + (b * rows + c)


def _split(fixed: Tensor, real: Tensor | None, dtype: torch.dtype) -> Axis:  # [B, h, w] int64
    low = fixed & (ONE - 1)
    fraction, remainder = low.to(dtype) / ONE, (ONE - low).to(dtype) / ONE
    if real is not None:
        # Value 0, slope 1: the gradient's way to the matrix past the whole numbers.
        slope = (real - real.detach()).to(dtype)
        fraction, remainder = fraction + slope, remainder - slope
    return Axis(fixed >> FRACTION_BITS, fraction, remainder, (fixed + HALF) >> FRACTION_BITS)


def _snapped(real: Tensor | None) -> Axis:  # [B, h, w] float64
    assert real is not None
    lattice = real.detach().round()
    value = torch.where((real.detach() - lattice).abs() < LATTICE_TOLERANCE_PX, lattice, real.detach())
    whole = value.floor()
    fraction = (value - whole) + (real - real.detach())
    nearest = (value + 0.5 + LATTICE_TOLERANCE_PX).floor().long()
    return Axis(whole.long(), fraction, 1 - fraction, nearest)


def _check_matrix(matrix: Tensor) -> None:  # [B, 3, 3] on the CPU
    bottom = vector([0, 0, 1], matrix.device)
    linear = matrix[:, :2, :2]
    determinant = linear[:, 0, 0] * linear[:, 1, 1] - linear[:, 0, 1] * linear[:, 1, 0]
    largest = linear.abs().amax((-2, -1)) / determinant.abs()
    faults = {
        "has entries that are not finite": ~matrix.isfinite().all(-1).all(-1),
        "must end in the row (0, 0, 1)": (matrix[:, 2] != bottom).any(-1),
        "cannot be inverted": (determinant == 0) | ~determinant.isfinite(),
        f"shrinks by more than {LINEAR_LIMIT:.0f}, too close to singular": largest > LINEAR_LIMIT,
    }
    for fault, samples in faults.items():
        if samples.any():
            sample = int(samples.nonzero()[0])
            raise ArgumentError(f"matrix of sample {sample} {fault}: {matrix[sample].tolist()}")
