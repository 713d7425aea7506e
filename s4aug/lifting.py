"""Area-keeping affine maps as permutations of pixels: quarter turns, flips and three rounded shears.

Source: Paeth, "A fast algorithm for general raster rotation", Graphics Interface 1986, for the three shears;
Calderbank et al., "Wavelet transforms that map integers to integers", 1998, for why rounding them stays invertible.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import ArgumentError
from .linear import vector
from .transform import AffineTransform

AREA_TOLERANCE = 1e-9
LARGEST_DISTANCE_PX = 1.5
# Rows are shifted by multiples of 2^-20 px before these are rounded: float noise and the rounding of the factors
# (2^-41 by 2^14 px) stay far below half of that, so a tie stays a tie.
SNAP_BITS = 20
FRACTION_BITS = 40
ONE = 1 << FRACTION_BITS
# Steeper shears stray too far in any case; these bounds keep every product within int64 at 32768 px a side.
SLOPE_LIMIT = 4.0
OFFSET_LIMIT_PX = 2.0**20
# A middle shear below this is none: 3e-5 px at 32768 px.
NO_SHEAR = 1e-9
# Between two splittings as good as each other the choice must not hang on the last bit.
PREFERENCE_PX = 1e-6


@dataclass(frozen=True, eq=False)
class Lifting:
    """A permutation of the whole pixel lattice close to an affine map.

    Convention:
        Source pixel to output pixel, as (x, y): `before` is applied first, then x is moved by a rounded
        multiple of y, y by one of x, x by one of y, then `after` is applied. Each step can be taken back
        exactly, whatever was rounded.
    """

    before: Tensor  # [B, 2, 2] int64: one of the eight turns and flips
    slopes: Tensor  # [B, 3] int64, 40 fractional bits: x by y, y by x, x by y
    offsets: Tensor  # [B, 3] int64, 40 fractional bits: added to the multiple before it is rounded
    shifts: Tensor  # [B, 3] int64: whole pixels, added to what was rounded
    after: Tensor  # [B, 2, 2] int64
    distance_px: Tensor  # [B] float64: bound on how far a pixel lands from the true map; inf if area is not kept

    @classmethod
    def of(cls, transform: AffineTransform) -> "Lifting":
        """The permutation for an affine transform; that of its inverse is the inverse permutation.

        Raises:
            ArgumentError: For matrices on the CPU: one that does not keep area (|det| off 1 by more than 1e-9),
                or whose permutation strays more than 1.5 px. On a device nothing is read back: such samples
                show nothing, `valid` is false everywhere.
        """
        if transform.undoes is not None:
            return cls.of(transform.undoes).inverse()
        lifting = cls(*_factorised(transform.matrix.detach(), max(transform.size)))
        if transform.matrix.device.type == "cpu" and not torch.compiler.is_compiling():
            _check(lifting, transform)
        return lifting

    def inverse(self) -> "Lifting":
        """The permutation taken back."""
        slopes, offsets, shifts = (-steps.flip(-1) for steps in (self.slopes, self.offsets, self.shifts))
        return Lifting(self.after.mT, slopes, offsets, shifts, self.before.mT, self.distance_px)

    def pixels(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Where pixels go.

        Args:
            x: Columns, int64, [B, h, w] or of a shape that broadcasts to it.
            y: Rows, as `x`.

        Returns:
            Columns and rows, [B, h, w] int64; (-1, -1) in samples that the permutation is refused for.
        """
        x, y = _turned(self.before, x, y)
        x = x + self._shift(0, y)
        y = y + self._shift(1, x)
        x = x + self._shift(2, y)
        x, y = _turned(self.after, x, y)
        fits = _each(self.distance_px <= LARGEST_DISTANCE_PX, x)
        return torch.where(fits, x, -1), torch.where(fits, y, -1)

    def packed(self) -> Tensor:
        """All numbers of each sample in a row, for kernels.

        Returns:
            [B, 18] int64: before (4), slopes (3), offsets (3), shifts (3), after (4), and 1 where not refused.
        """
        fits = (self.distance_px <= LARGEST_DISTANCE_PX).long()[:, None]
        turns = self.before.flatten(1), self.after.flatten(1)
        return torch.cat([turns[0], self.slopes, self.offsets, self.shifts, turns[1], fits], 1)

    def _shift(self, step: int, across: Tensor) -> Tensor:
        slope, offset, shift = (_each(part[:, step], across) for part in (self.slopes, self.offsets, self.shifts))
        return _rounded(slope * across + offset) + shift


def source_pixels(transform: AffineTransform, device: torch.device) -> tuple[Tensor, Tensor]:
    """The source pixel that each output pixel shows, x and y, both [B, h, w] int64."""
    height, width = transform.out_size
    columns = torch.arange(width, device=device)  # [w]
    rows = torch.arange(height, device=device)[:, None]  # [h, 1]
    return Lifting.of(transform.inverse()).pixels(columns, rows)


def strayed_px(linear: Tensor) -> Tensor:
    """How far from the true map lifting can put a pixel.

    Args:
        linear: [B, 2, 2] float64.

    Returns:
        [B] float64, px; inf where area is not kept.
    """
    return _factorised(torch.nn.functional.pad(linear, (0, 1, 0, 1)), 1)[-1]


# An operator of its own, so that a compiler cannot make the factors twice with different last bits.
@torch.library.custom_op("s4aug::lifting_factors", mutates_args=())
def _factorised(matrix: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The fields of `Lifting` for matrices [B, 3, 3] float64 over frames up to `side` px."""
    linear, moved = matrix[:, :2, :2], matrix[:, :2, 2]
    lattice, quarter = _nearest_turn(linear)  # [B, 2, 2], [B]
    rest = linear @ lattice.mT
    swap = vector([0, 1, 1, 0], matrix.device).unflatten(0, (2, 2))
    slopes, distance = _sheared(rest, side)  # [B, 3], [B]
    other_slopes, other_distance = _sheared(swap @ rest @ swap, side)
    # Undone, a quarter turn comes last and the shears change their axes: preferring the other axes for a turn
    # the other way makes the factors of an inverse matrix the inverse factors.
    bias = torch.where(quarter == -1, PREFERENCE_PX, -PREFERENCE_PX)
    swapped = other_distance < distance + bias
    slopes = torch.where(swapped[:, None], other_slopes, slopes)
    after = torch.where(swapped[:, None, None], swap, swap @ swap)
    offsets, whole = _split((after.mT @ moved[..., None])[..., 0], slopes)  # [B, 3], [B]
    determinant = linear[:, 0, 0] * linear[:, 1, 1] - linear[:, 0, 1] * linear[:, 1, 0]
    keeps_area = (determinant.abs() - 1).abs() <= AREA_TOLERANCE
    distance = torch.where(keeps_area, torch.where(swapped, other_distance, distance), torch.inf)
    shifts = torch.nn.functional.pad(whole[:, None], (2, 0))
    fixed = ((slopes * ONE).round().long(), (offsets * ONE).round().long(), shifts.long())
    return (after.mT @ lattice).round().long(), *fixed, after.long(), distance


@_factorised.register_fake
def _(matrix: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    batch = matrix.shape[0]
    shapes = (batch, 2, 2), (batch, 3), (batch, 3), (batch, 3), (batch, 2, 2)
    before, slopes, offsets, shifts, after = (matrix.new_empty(shape, dtype=torch.int64) for shape in shapes)
    return before, slopes, offsets, shifts, after, matrix.new_empty(batch)


def _nearest_turn(linear: Tensor) -> tuple[Tensor, Tensor]:  # [B, 2, 2] -> [B, 2, 2], [B]
    """The turn or flip nearest to a matrix, and its quarter turns in -2..2."""
    a, b, c, d = linear.flatten(1).unbind(-1)
    mirror = torch.where(a * d - b * c < 0, -1.0, 1.0).to(linear.dtype)
    # Of matrix @ diag(mirror, 1), which keeps orientation.
    angle = torch.rad2deg(torch.atan2(c * mirror - b, a * mirror + d))
    quarter = (torch.ceil(angle.abs() / 90 - 0.5 - AREA_TOLERANCE) * angle.sign()).clamp(-2, 2)
    # A mirror image keeps to its axes: a flip about a diagonal would not be its own inverse once sheared.
    quarter = torch.where(mirror < 0, 2.0 * (angle.abs() > 90 + AREA_TOLERANCE), quarter)
    cos = torch.where(quarter.abs() == 1, 0.0, 1.0 - quarter.abs())
    sin = torch.where(quarter.abs() == 1, quarter, 0.0)
    return torch.stack([cos * mirror, -sin, sin * mirror, cos], -1).unflatten(-1, (2, 2)), quarter


def _sheared(linear: Tensor, side: int) -> tuple[Tensor, Tensor]:  # [B, 2, 2] -> [B, 3], [B]
    """A matrix as three shears (x by y, y by x, x by y), and how far their rounding can stray, px."""
    a, b, c, d = linear.flatten(1).unbind(-1)
    sheared = c.abs() >= NO_SHEAR
    middle = torch.where(sheared, c, 0.0)
    first = torch.where(sheared, (d - 1) / torch.where(sheared, c, 1.0), b / 2)
    third = torch.where(sheared, (a - 1) / torch.where(sheared, c, 1.0), b / 2)
    slopes = torch.stack([first, middle, third], -1).clamp(-SLOPE_LIMIT, SLOPE_LIMIT)
    first, middle, third = slopes.unbind(-1)
    made = [1 + third * middle, third + first + third * middle * first, middle, 1 + middle * first]
    missed = sum((real - entry).abs() for real, entry in zip((a, b, c, d), made, strict=True))
    strayed = torch.maximum(_strayed(middle, third), _strayed(middle, first))  # there, and on the way back
    return slopes, strayed + missed * side


def _strayed(middle: Tensor, last: Tensor) -> Tensor:  # [B]
    """The largest distance that three roundings by half a pixel add up to."""
    farthest = torch.zeros_like(middle)
    for second in (-0.5, 0.5):
        for third in (-0.5, 0.5):
            x = (1 + last * middle) / 2 + last * second + third
            y = middle / 2 + second
            farthest = torch.maximum(farthest, torch.hypot(x, y))
    return farthest


def _split(moved: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:  # [B, 2], [B, 3] -> [B, 3], [B]
    """The offsets of the three shears that make up a shift, and the whole pixels that go with the third.

    What is left of the shift along x goes by halves to the first and the third shear, so that the offsets of the
    inverse are the negatives; whole pixels stay out of it, for two rounded halves make two or none.
    """
    _, middle, third = slopes.unbind(-1)
    along = (moved[:, 0] - third * moved[:, 1]).clamp(-OFFSET_LIMIT_PX, OFFSET_LIMIT_PX)
    snapped = (along * 2**SNAP_BITS).round() / 2**SNAP_BITS
    whole = torch.floor(snapped.abs() + 0.5) * snapped.sign()
    half = (along - whole) / 2
    across = (moved[:, 1] - middle * half).clamp(-OFFSET_LIMIT_PX, OFFSET_LIMIT_PX)
    return torch.stack([half, across, half], -1), whole


def _rounded(fixed: Tensor) -> Tensor:
    """To whole pixels, after snapping to 2^-20; odd: the rounding of -v is minus that of v."""
    low = FRACTION_BITS - SNAP_BITS
    steps = (fixed.abs() + (1 << low - 1)) >> low
    return ((steps + (1 << SNAP_BITS - 1)) >> SNAP_BITS) * fixed.sign()


def _turned(turn: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    a, b, c, d = (_each(entry, x) for entry in turn.flatten(1).unbind(-1))
    return a * x + b * y, c * x + d * y


def _each(value: Tensor, place: Tensor) -> Tensor:  # [B] -> [B, 1, 1], beside `place`
    return value[:, None, None].to(place.device)


def _check(lifting: Lifting, transform: AffineTransform) -> None:
    refused = ~(lifting.distance_px <= LARGEST_DISTANCE_PX)
    if not refused.any():
        return
    sample = int(refused.nonzero()[0])
    distance = float(lifting.distance_px[sample])
    if distance == float("inf"):
        area = abs(float(torch.linalg.det(transform.matrix[sample])))
        reason = f"keep area to 1e-9, got |det| = {area:.9g}; draw without scale"
    else:
        reason = f"stay within {LARGEST_DISTANCE_PX} px of the true map, strays {distance:.2f} px; shear less"
    raise ArgumentError(f"lifting: the matrix of sample {sample} must {reason}, or use another mode")
