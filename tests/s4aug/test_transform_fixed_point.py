"""Fixed point: how far from exact arithmetic a coordinate lies, and that autocast changes no bit."""

from fractions import Fraction

import kornia.geometry as kornia_geometry
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kornia.augmentation import RandomAffine as KorniaRandomAffine
from torch.testing import assert_close

from s4aug import AffineTransform
from s4aug.transform import fixed_point, source_axes
from tests.s4aug.motions import entries

LARGEST = 32768
# Half a unit of 2^-32 for each of the steps from the middle of the frame, the claim of `fixed_point`.
CLAIMED_ERROR_PX = 3.82e-6


def exact_inverse(matrix):
    """The inverse of a float64 matrix without any rounding: rows (a, b, c) for x and for y."""
    (a, b, x), (c, d, y) = ([Fraction(v) for v in row] for row in matrix[:2].tolist())
    determinant = a * d - b * c
    rows = (d, -b, b * y - d * x), (-c, a, c * x - a * y)
    return [[entry / determinant for entry in row] for row in rows]


def pixels_to_test(height, width, generator):
    corners = [(0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)]
    random = torch.rand(12, 2, generator=generator, dtype=torch.float64)
    return corners + [(int(u * width), int(v * height)) for u, v in random.tolist()]


def strong_motions(size, generator, batch=6):
    """Rotations by any angle with scale, shear and shift, about the middle of `size`."""
    random = torch.rand(batch, 7, generator=generator, dtype=torch.float64)
    return AffineTransform.from_params(
        angle=720 * random[:, 0] - 360,
        translation=size[0] * (random[:, 1:3] - 0.5),
        scale=0.4 + 1.6 * random[:, 3:5],
        shear=60 * random[:, 5:7] - 30,
        size=size,
    )


def largest_error(transform, generator):
    """Largest distance (px, per axis) of the fixed-point coordinates from exact arithmetic."""
    worst = Fraction(0)
    for matrix, fixed in zip(transform.matrix, fixed_point(transform).tolist(), strict=True):
        exact = exact_inverse(matrix)
        for x, y in pixels_to_test(*transform.out_size, generator):
            for row, words in zip(exact, fixed, strict=True):
                sampled = Fraction(words[0] * x + words[1] * y + words[2], 2**32)
                worst = max(worst, abs(sampled - (row[0] * x + row[1] * y + row[2])))
    return float(worst)


class TestFixedPoint:
    """Promise 2: the point sampled is the true one."""

    @pytest.mark.parametrize("side", [1, 2, 17, 512, 2448, LARGEST])
    def test_coordinates_are_within_the_claimed_distance_of_exact_arithmetic(self, side, rng):
        claimed = side * 2.0**-33 + 2.0**-32
        assert largest_error(strong_motions((side, side), rng, batch=24), rng) < claimed
        assert claimed < CLAIMED_ERROR_PX + 2.0**-32 < 1e-4

    def test_the_check_of_coordinates_sees_an_error_of_one_float32_rounding(self, rng):
        t = strong_motions((2448, 2448), rng)
        rounded = AffineTransform(t.matrix.float(), t.size)
        worst = max(
            abs(float(Fraction(a) - Fraction(b)))
            for exact, near in zip(t.matrix, rounded.matrix, strict=True)
            for row, other in zip(exact_inverse(exact), exact_inverse(near), strict=True)
            for a, b in [(row[0] * 2447 + row[2], other[0] * 2447 + other[2])]
        )
        assert worst > 1e-4

    @pytest.mark.parametrize("out_size", [(1, LARGEST), (LARGEST, 1)])
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    @pytest.mark.parametrize("autocast", [False, True])
    def test_axes_keep_that_distance_at_32768_px_under_autocast_and_for_any_pixel_type(
        self, out_size, dtype, autocast, rng
    ):
        frame = (LARGEST, LARGEST)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            general = strong_motions(frame, rng, batch=2)
            # The first row or the first column alone, so that nothing large is held.
            t = AffineTransform(general.matrix, frame, out_size)
            weights = torch.float64 if dtype == torch.float64 else torch.float32
            axes = source_axes(t, weights, torch.device("cpu"))
        for sample in range(2):
            for i, row in enumerate(exact_inverse(t.matrix[sample])):
                for place in (0, 1, 4711, LARGEST // 2, LARGEST - 1):
                    x, y = (place, 0) if out_size[0] == 1 else (0, place)
                    axis = axes[i]
                    whole, fraction = (part[sample, y, x].item() for part in (axis.whole, axis.fraction))
                    exact = row[0] * x + row[1] * y + row[2]
                    assert abs(float(Fraction(whole) + Fraction(fraction) - exact)) < 4.1e-6
                    assert abs(1 - fraction - axis.remainder[sample, y, x].item()) < 1e-7
                    assert abs(axis.nearest[sample, y, x].item() - float(exact)) <= 0.5 + 4.1e-6

    @pytest.mark.parametrize("side", [512, 2448])
    def test_kornia_fails_this_promise_under_the_same_autocast(self, side):
        angle, translation = torch.tensor([11.0]), torch.tensor([[side / 8, -side / 16]])
        scale, shear = torch.tensor([[1.125, 1.125]]), torch.zeros(1)
        params = {
            "angle": -angle,
            "translations": translation,
            "scale": scale,
            "shear_x": shear,
            "shear_y": shear,
            "center": torch.tensor([[(side - 1) / 2, (side - 1) / 2]]),
        }
        with torch.autocast("cpu", torch.bfloat16):
            mine = AffineTransform.from_params(angle=angle, translation=translation, scale=scale, size=(side, side))
            theirs = KorniaRandomAffine(15.0).compute_transformation(torch.zeros(1, 1, side, side), params, {})
        double = {name: value.double() for name, value in params.items()}
        truth = KorniaRandomAffine(15.0).compute_transformation(
            torch.zeros(1, 1, side, side, dtype=torch.float64), double, {}
        )
        corners = torch.tensor([[[0.0, 0.0], [side - 1.0, 0.0], [side - 1.0, side - 1.0]]]).double()
        expected = kornia_geometry.transform_points(truth, corners)
        assert_close(mine.points(corners), expected, atol=1e-4, rtol=0)
        error = (kornia_geometry.transform_points(theirs.double(), corners) - expected).abs().max()
        assert error > 1

    def test_offsets_far_outside_stay_far_outside(self):
        t = AffineTransform.shift(torch.tensor([[1e30, -1e30]]), (4, 4))
        sampled = fixed_point(t)[0, :, 2] / 2**32
        assert (sampled.abs() > 1e6).all()
        assert sampled[0] < 0 < sampled[1]

    @given(st.integers(-3, 3), st.integers(-40, 40), st.integers(-40, 40), entries(-180, 180))
    def test_rotations_that_add_up_to_a_lattice_move_sample_lattice_points(self, quarter, dx, dy, angle):
        size = (9, 9)
        shift = AffineTransform.shift(torch.tensor([[dx, dy]]), size)
        turn = AffineTransform.from_params(angle=angle, size=size)
        rest = AffineTransform.from_params(angle=90 * quarter - angle, size=size)
        for dtype in (torch.float32, torch.float64):
            for axis in source_axes(rest @ shift @ turn if dx == dy == 0 else shift @ rest @ turn, dtype, "cpu"):
                assert (axis.fraction == 0).all()
                assert torch.equal(axis.whole, axis.nearest)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_ties_go_upwards_also_when_noise_lies_below_them(self, dtype):
        # 3.5 - 1e-13: meant as a tie, and the same pixel whatever the pixels' type.
        t = AffineTransform.shift(torch.tensor([[-0.5 + 1e-13, -0.5 - 1e-13]]).double(), (8, 8))
        axis_x, axis_y = source_axes(t, dtype, torch.device("cpu"))
        assert axis_x.nearest[0, 0].tolist() == axis_y.nearest[0, :, 0].tolist() == list(range(1, 9))


class TestAutocast:
    """Promise 2: autocast changes no coordinate."""

    @pytest.mark.parametrize("cast", [torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("side", [512, 2448, 16384, LARGEST])
    def test_matrices_and_fixed_point_are_the_same_bits(self, side, cast):
        def words():
            a = AffineTransform.from_params(
                angle=torch.tensor([11.3]),
                translation=torch.tensor([[side / 8, -side / 16]]),
                scale=torch.tensor([1.125]),
                shear=torch.tensor([[3.0, 2.0]]),
                size=(side, side),
            )
            b = AffineTransform.shift(torch.tensor([[side / 7, side / 9]]), (side, side))
            t = a @ b @ a.inverse()
            xy = torch.tensor([[[side - 1.0, 0.0], [side / 3, side - 1.0]]])
            quarter = t.at((side // 4, side // 4))
            return t.matrix, t.inverse().matrix, fixed_point(t), fixed_point(quarter), t.points(xy), quarter.matrix

        plain = words()
        with torch.autocast("cpu", cast):
            # Not a test of nothing: here torch does round to 16 bits.
            assert (torch.rand(2, 2) @ torch.rand(2, 2)).dtype == cast
            under = words()
        for a, b in zip(plain, under, strict=True):
            assert torch.equal(a, b)
