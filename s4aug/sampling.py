"""Random affine transforms: the ranges and the draw."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

from .checks import Size, check_size
from .errors import ArgumentError
from .lifting import LARGEST_DISTANCE_PX, strayed_px
from .linear import linear_part, matrix_device, vector
from .philox import uniform
from .transform import AffineTransform, middle

Range = tuple[float, float]
NUMBERS_PER_SAMPLE = 9


@dataclass(frozen=True)
class AffineRanges:
    """What a random affine transform is drawn from, all uniform, in Kornia's names and ranges.

    Convention:
        Rotation is counter-clockwise as displayed, as in `kornia.geometry.get_rotation_matrix2d`;
        `kornia.augmentation.RandomAffine` turns the other way, which a symmetric range does not show.

    Args:
        degrees: Rotation in [-degrees, degrees], or in (low, high), degrees.
        translate: Largest shift as fractions (of the width, of the height).
        scale: (low, high) for both axes alike, or (low x, high x, low y, high y) for each its own.
        shear: Along x in [-shear, shear], or in (low, high), or (low x, high x, low y, high y), degrees.
        hflip: Probability of a left-right flip, before the rest.
        vflip: Probability of a top-bottom flip, before the rest.

    Raises:
        ArgumentError: An empty range, a fraction or probability outside [0, 1], a scale that is not positive,
            a shear of 90 degrees or more.
    """

    degrees: float | Range = 0.0
    translate: tuple[float, float] | None = None
    scale: Range | tuple[float, float, float, float] | None = None
    shear: float | Range | tuple[float, float, float, float] | None = None
    hflip: float = 0.0
    vflip: float = 0.0

    def __post_init__(self) -> None:
        self.bounds()

    def bounds(self) -> list[Range]:
        """(low, high) of angle, shift x, shift y, scale x, scale y, shear x, shear y."""
        angle = _symmetric(self.degrees, "degrees")
        shift = _pair_or_more(self.translate, (0.0, 0.0), "translate")
        scale = _pair_or_more(self.scale, (1.0, 1.0), "scale")
        shear_x, shear_y = _each_axis(self.shear or 0.0)
        if len(shift) != 2:
            raise ArgumentError(f"translate must be (of the width, of the height), got {self.translate}")
        if len(scale) not in (2, 4):
            raise ArgumentError(f"scale must hold 2 or 4 numbers, got {self.scale}")
        shift_x, shift_y = ((-part, part) for part in shift)
        bounds = [angle, shift_x, shift_y, scale[:2], scale[-2:], shear_x, shear_y]
        self._check(bounds)
        return bounds  # type: ignore[return-value]

    def reach(self, size: Size) -> float:
        """How far beyond the frame a drawn motion can look, px.

        A view of this size shows no pixel that is further outside; rotations are looked at degree by degree, which
        misses less than a thousandth of the frame's side.

        Args:
            size: (H, W) of the frame.

        Example:
            >>> paper = AffineRanges(degrees=15, translate=(0.2, 0.2), scale=(0.75, 1.25))
            >>> round(paper.reach((512, 512)), 1)  # so 512 + 2 * 329 px serve every view
            328.9
        """
        angle, shift_x, shift_y, *scales, shear_x, shear_y = self.bounds()
        height, width = check_size(size, "size")
        linear = torch.linalg.inv(_motions([angle, *scales, shear_x, shear_y]))  # [N, 2, 2]
        # From the middle of the view to its furthest pixel centre, and how far that is shifted.
        half = vector([(width - 1) / 2 + shift_x[1] * width, (height - 1) / 2 + shift_y[1] * height], "cpu")
        seen = (linear.abs() @ half).amax(0)  # [2]: of x and y
        frame = vector([(width - 1) / 2, (height - 1) / 2], "cpu")
        return max(float((seen - frame).amax()), 0.0)

    def _check(self, bounds: list[tuple[float, ...]]) -> None:
        names = ["degrees", "translate", "translate", "scale", "scale", "shear", "shear"]
        for name, (low, high) in zip(names, bounds, strict=True):
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise ArgumentError(f"{name} must be a finite range (low, high), got ({low}, {high})")
        if any(not 0 <= bounds[i][1] <= 1 for i in (1, 2)):
            raise ArgumentError(f"translate must be fractions in [0, 1], got {self.translate}")
        if bounds[3][0] <= 0 or bounds[4][0] <= 0:
            raise ArgumentError(f"scale must be positive, got {self.scale}")
        if any(abs(side) >= 90 for pair in bounds[5:] for side in pair):
            raise ArgumentError(f"shear must be below 90 degrees, got {self.shear}")
        for name, chance in (("hflip", self.hflip), ("vflip", self.vflip)):
            if not 0 <= chance <= 1:
                raise ArgumentError(f"{name} must be a probability in [0, 1], got {chance}")


def sample_affine(
    ranges: AffineRanges,
    batch: int,
    size: Size,
    *,
    device: torch.device | str = "cpu",
    generator: torch.Generator | None = None,
    seed: Tensor | None = None,  # [B] int64
) -> AffineTransform:
    """Draw one affine transform per sample, about the middle of the frame.

    Args:
        ranges: What to draw from.
        batch: Number of samples B.
        size: (H, W) of the frame in px.
        device: Of the images. The matrices are made there and nothing is read back; on the CPU where it has no
            float64.
        generator: Source of the numbers; torch's global one by default.
        seed: One seed per sample, instead of a generator: the draw of a sample depends on its seed alone, not
            on the batch, the device or compilation.

    Returns:
        `batch` transforms from `size` to `size`.

    Raises:
        ArgumentError: Both `generator` and `seed`, a generator of another device, or a seed that is not [B] int64.

    Example:
        >>> paper = AffineRanges(degrees=15, translate=(0.2, 0.2), scale=(0.75, 1.25))
        >>> len(sample_affine(paper, 4, (512, 512), generator=torch.Generator().manual_seed(0)))
        4
    """
    device = matrix_device(device)
    numbers = _draw(batch, device, generator, seed)  # [B, 9]
    lows, highs = (vector(ends, device) for ends in zip(*ranges.bounds(), strict=True))  # [7]
    values = lows + numbers[:, :7] * (highs - lows)
    size = check_size(size, "size")
    height, width = size
    isotropic = ranges.scale is None or len(ranges.scale) == 2
    scale = values[:, 3:4].expand(-1, 2) if isotropic else values[:, 3:5]
    chance = vector([ranges.hflip, ranges.vflip], device)
    flip = torch.where(numbers[:, 7:] < chance, -1.0, 1.0).to(torch.float64)  # [B, 2]
    linear = linear_part(values[:, 0], scale, values[:, 5:7]) * flip[:, None]
    pivot = vector(middle(size), device)
    shift = values[:, 1:3] * vector([width, height], device)
    return AffineTransform.from_linear(linear, pivot + shift - linear @ pivot, size, size)


def check_liftable(ranges: AffineRanges) -> None:
    """Hold ranges to maps that lifting can follow: area is kept, and no draw strays more than 1.5 px.

    Raises:
        ArgumentError: A scale, or a shear that is too strong with these rotations and flips.
    """
    angle, _, _, *scale, shear_x, shear_y = ranges.bounds()
    if any(side != 1 for pair in scale for side in pair):
        raise ArgumentError(f"lifting keeps area: scale must be None, got {ranges.scale}")
    turned = angle[0] != angle[1] or angle[0] % 90 != 0
    if turned and any(shear_x) and any(shear_y):
        raise ArgumentError(f"lifting cannot follow shear along both axes and rotation, got {ranges}; shear along one")
    linear = _motions([angle, (1.0, 1.0), (1.0, 1.0), shear_x, shear_y])
    mirror = vector([-1.0 if ranges.hflip or ranges.vflip else 1.0, 1.0], "cpu")
    strays = float(torch.cat([strayed_px(linear), strayed_px(linear * mirror)]).amax())
    if not strays <= LARGEST_DISTANCE_PX:
        raise ArgumentError(
            f"lifting must stay within {LARGEST_DISTANCE_PX} px of the true map, shear {ranges.shear} with these "
            f"rotations and flips strays {strays:.2f} px; shear less, or use another mode"
        )


def _motions(bounds: Sequence[Range]) -> Tensor:  # [N, 2, 2]
    """Linear parts across the ranges of angle, both scales and both shears; a full circle in steps of a degree."""
    counts = (361, 2, 2, 9, 9)
    # Ends included; one point where there is nothing between them.
    ticks = [
        torch.linspace(low, high, count if low < high else 1, dtype=torch.float64, device="cpu")
        for (low, high), count in zip(bounds, counts, strict=True)
    ]
    angles, *rest = (tick.flatten() for tick in torch.meshgrid(*ticks, indexing="ij"))
    return linear_part(angles, torch.stack(rest[:2], -1), torch.stack(rest[2:], -1))


def _draw(batch: int, device: torch.device, generator: torch.Generator | None, seed: Tensor | None) -> Tensor:
    if seed is None:
        if generator is not None and generator.device.type != device.type:
            raise ArgumentError(
                f"generator is on {generator.device.type}, numbers are drawn on {device.type}; make it with "
                f"torch.Generator({device.type!r}), or pass seed="
            )
        kind = {"dtype": torch.float64, "device": device}
        return torch.rand(batch, NUMBERS_PER_SAMPLE, generator=generator, **kind)  # type: ignore[call-overload, no-any-return]
    if generator is not None:
        raise ArgumentError("generator and seed exclude each other; pass one of them")
    check_seed(seed, batch)
    return uniform(seed.to(device), NUMBERS_PER_SAMPLE)


def check_seed(seed: Tensor, batch: int) -> None:
    """Hold seeds to int64 of shape [B]."""
    expected = f"seed must be an int64 torch.Tensor of shape [{batch}]"
    if not isinstance(seed, Tensor):
        raise ArgumentError(f"{expected}, got {type(seed).__name__}")
    if seed.dtype != torch.int64 or list(seed.shape) != [batch]:
        raise ArgumentError(f"{expected}, got {seed.dtype} of shape {list(seed.shape)}")


def _pair_or_more(value: Sequence[float] | None, default: Range, name: str) -> tuple[float, ...]:
    if isinstance(value, Real):
        raise ArgumentError(f"{name} must be a tuple, got the number {value}")
    return default if value is None else tuple(value)


def _each_axis(shear: float | Sequence[float]) -> tuple[Range, Range]:
    if isinstance(shear, int | float | Real) or len(shear) != 4:
        return _symmetric(shear, "shear"), (0.0, 0.0)
    return (shear[0], shear[1]), (shear[2], shear[3])


def _symmetric(value: float | Sequence[float], name: str) -> Range:
    if isinstance(value, int | float | Real):
        if value < 0:
            raise ArgumentError(f"{name} must not be negative when it is one number, got {value}")
        return -float(value), float(value)
    if len(value) != 2:
        raise ArgumentError(f"{name} must be a number or (low, high), got {value}")
    return value[0], value[1]
