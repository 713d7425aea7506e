import math
from fractions import Fraction
from itertools import pairwise

import cv2
import kornia.geometry as kornia_geometry
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kornia.augmentation import RandomAffine as KorniaRandomAffine
from rasterio import Affine
from rasterio.transform import xy as centres
from rasterio.warp import Resampling, reproject
from torch.testing import assert_close

from s4aug import AffineTransform, ArgumentError, warp
from s4aug.transform import cell_bounds, fixed_point, infer_stride, map_size, source_axes

EYE = torch.eye(3, dtype=torch.float64)
LARGEST = 32768
# Half a unit of 2^-32 for each of the steps from the middle of the frame, the claim of `fixed_point`.
CLAIMED_ERROR_PX = 3.82e-6


def entries(low, high):
    return st.floats(low, high, allow_nan=False, allow_infinity=False)


@st.composite
def motions(draw, size=(12, 20), batch=2):
    """General affine motions of moderate strength from `size` to `size`."""
    columns = [
        [draw(entries(low, high)) for _ in range(batch)]
        for low, high in [(-360, 360), (-50, 50), (-50, 50), (0.3, 3), (0.3, 3), (-50, 50), (-30, 30)]
    ]
    values = torch.tensor(columns, dtype=torch.float64).T
    return AffineTransform.from_params(
        angle=values[:, 0], translation=values[:, 1:3], scale=values[:, 3:5], shear=values[:, 5:7], size=size
    )


class TestParameters:
    """`from_params` against OpenCV and Kornia."""

    @pytest.mark.parametrize("angle", [0.0, 17.3, -90.0, 123.4, 270.0])
    @pytest.mark.parametrize("scale", [1.0, 0.7])
    def test_rotation_about_a_centre_is_that_of_opencv(self, angle, scale):
        mine = AffineTransform.from_params(angle=angle, scale=scale, center=(3.5, 8.0), size=(11, 7))
        expected = torch.from_numpy(cv2.getRotationMatrix2D((3.5, 8.0), angle, scale))
        assert_close(mine.matrix[0, :2], expected, atol=1e-12, rtol=0)

    def test_rotation_with_two_scales_is_that_of_kornia(self):
        center = torch.tensor([[4.0, 2.5], [1.0, 9.0]], dtype=torch.float64)
        angle = torch.tensor([33.0, -140.0], dtype=torch.float64)
        scale = torch.tensor([[0.5, 1.5], [2.0, 0.8]], dtype=torch.float64)
        mine = AffineTransform.from_params(angle=angle, scale=scale, center=center, size=(11, 7))
        expected = kornia_geometry.get_rotation_matrix2d(center, angle, scale)
        assert_close(mine.matrix[:, :2], expected, atol=1e-12, rtol=0)

    def test_shear_is_that_of_kornia(self):
        center = torch.tensor([[4.0, 2.5]], dtype=torch.float64)
        shear = torch.tensor([[20.0, -35.0]], dtype=torch.float64)
        mine = AffineTransform.from_params(shear=shear, center=center, size=(11, 7))
        radians = torch.deg2rad(shear)
        expected = kornia_geometry.get_shear_matrix2d(center, radians[:, 0], radians[:, 1])
        assert_close(mine.matrix, expected, atol=1e-12, rtol=0)

    def test_the_composition_is_that_of_kornia(self, rng):
        random = torch.rand(16, 8, generator=rng, dtype=torch.float64)
        angle, translation = 360 * random[:, 0] - 180, 20 * random[:, 1:3]
        scale, center, shear = 0.5 + random[:, 3:5], 10 * random[:, 5:7], 60 * random[:, 6:8] - 30
        mine = AffineTransform.from_params(
            angle=angle, translation=translation, scale=scale, shear=shear, center=center, size=(11, 7)
        )
        sx, sy = torch.deg2rad(shear).unbind(-1)
        # Kornia's composition turns the other way than its own `get_rotation_matrix2d`.
        expected = kornia_geometry.get_affine_matrix2d(translation, center, scale, -angle, sx, sy)
        assert_close(mine.matrix, expected, atol=1e-11, rtol=0)
        xy = 30 * torch.rand(16, 5, 2, generator=rng, dtype=torch.float64)
        assert_close(mine.points(xy), kornia_geometry.transform_points(expected, xy), atol=1e-9, rtol=0)

    def test_the_default_centre_is_the_middle_pixel(self):
        turn = AffineTransform.from_params(angle=71.0, scale=1.3, shear=(5, 9), size=(5, 8))
        middle = torch.tensor([[[3.5, 2.0]]])
        assert_close(turn.points(middle), middle)

    @pytest.mark.parametrize("angle", [-720, -270, -180, -90, 0, 90, 180, 270, 360, 450, 3690])
    def test_cosines_at_multiples_of_90_degrees_are_exact(self, angle):
        quarter = (angle // 90) % 4
        expected = AffineTransform.rot90(quarter, 1, (9, 9)).matrix
        assert torch.equal(AffineTransform.from_params(angle=float(angle), size=(9, 9)).matrix, expected)

    @pytest.mark.parametrize("turns", [-1e6, 1, 44.5, 1e6])
    def test_large_angles_turn_as_their_remainder_does(self, turns):
        angle = 360 * turns + 12.5
        expected = cv2.getRotationMatrix2D((0, 0), math.fmod(angle, 360), 1)
        turn = AffineTransform.from_params(angle=angle, center=(0.0, 0.0), size=(4, 4))
        assert_close(turn.matrix[0, :2], torch.from_numpy(expected), atol=1e-9, rtol=0)

    def test_numbers_lists_and_tensors_are_the_same_parameters(self):
        lists = AffineTransform.from_params(angle=[10.0, 20.0], scale=(0.5, 2.0), size=(4, 6))
        tensors = AffineTransform.from_params(
            angle=torch.tensor([10.0, 20.0]), scale=torch.tensor([[0.5, 2.0]]), size=(4, 6)
        )
        assert torch.equal(lists.matrix, tensors.matrix)
        isotropic = AffineTransform.from_params(scale=torch.tensor([0.5, 2.0]), size=(4, 6))
        assert isotropic.matrix.diagonal(dim1=1, dim2=2).tolist() == [[0.5, 0.5, 1], [2, 2, 1]]

    @pytest.mark.parametrize(
        ("parameters", "named"),
        [
            ({"angle": torch.zeros(2, 3)}, "angle"),
            ({"translation": (1.0, 2.0, 3.0)}, "translation"),
            ({"shear": torch.zeros(2, 2), "angle": torch.zeros(3)}, "shear"),
            ({"scale": 0.0}, "sample 0"),
            ({"scale": torch.tensor([1.0, math.nan])}, "sample 1"),
            ({"size": (0, 4)}, "size"),
        ],
    )
    def test_bad_parameters_are_named(self, parameters, named):
        with pytest.raises(ArgumentError, match=named):
            AffineTransform.from_params(**{"size": (4, 4), **parameters})


class TestConstructors:
    """The named motions, shown by where single pixels go."""

    @pytest.mark.parametrize("size", [(1, 1), (3, 5), (4, 6)])
    @pytest.mark.parametrize("k", [-1, 0, 1, 2, 3, 4, 5])
    def test_quarter_turns_are_those_of_torch(self, k, size):
        indices = torch.arange(size[0] * size[1]).reshape(size)
        turn = AffineTransform.rot90(k, 2, size)
        turned = torch.rot90(indices, k, (0, 1))
        assert turn.out_size == tuple(turned.shape)
        for y, x in np.ndindex(size):
            to_x, to_y = turn.points(torch.tensor([[[float(x), float(y)]]]).expand(2, 1, 2))[1, 0].tolist()
            assert turned[int(to_y), int(to_x)] == indices[y, x]

    def test_flips_shift_and_crop_move_single_pixels(self):
        size, xy = (4, 7), torch.tensor([[[1.0, 3.0]]])
        assert AffineTransform.identity(1, size).points(xy).tolist() == [[[1, 3]]]
        assert AffineTransform.hflip(1, size).points(xy).tolist() == [[[5, 3]]]
        assert AffineTransform.vflip(1, size).points(xy).tolist() == [[[1, 0]]]
        assert AffineTransform.shift(torch.tensor([[2, -1]]), size).points(xy).tolist() == [[[3, 2]]]
        crop = AffineTransform.crop(torch.tensor([2]), torch.tensor([1]), (2, 3), size)
        assert crop.points(xy).tolist() == [[[0, 1]]]
        assert crop.out_size == (2, 3)

    def test_resize_puts_outer_corner_on_outer_corner(self):
        resize = AffineTransform.resize((6, 7), (4, 14), 1)
        corners = torch.tensor([[[-0.5, -0.5], [13.5, 3.5]]])
        assert_close(resize.points(corners), torch.tensor([[[-0.5, -0.5], [6.5, 5.5]]]))

    @pytest.mark.parametrize("size", [(0, 3), (2.5, 3), 5, (1, 2, 3), (-1, 4)])
    def test_impossible_sizes_are_errors(self, size):
        with pytest.raises(ArgumentError, match="size"):
            AffineTransform(EYE[None], size)
        with pytest.raises(ArgumentError, match="size"):
            AffineTransform.shift(torch.zeros(1, 2), size)


class TestAlgebra:
    """Composition, inverse, points and boxes."""

    @given(motions(), motions(), motions())
    def test_composition_is_associative_and_means_first_then(self, a, b, c):
        assert_close(((a @ b) @ c).matrix, (a @ (b @ c)).matrix, rtol=1e-11, atol=1e-9)
        xy = torch.tensor([[[0.0, 0.0], [19.0, 11.0], [3.5, -2.0]]], dtype=torch.float64).expand(2, -1, -1)
        assert_close((a @ b).points(xy), a.points(b.points(xy)), rtol=1e-11, atol=1e-9)

    @given(motions())
    def test_the_inverse_undoes_to_1e_12_relative(self, t):
        # Relative to the size of the terms that cancel.
        for product, terms in (
            ((t @ t.inverse()).matrix, t.matrix.abs() @ t.inverse().matrix.abs()),
            ((t.inverse() @ t).matrix, t.inverse().matrix.abs() @ t.matrix.abs()),
        ):
            assert ((product - EYE).abs() <= 1e-12 * terms.clamp_min(1)).all()

    def test_the_inverse_is_that_of_numpy_and_swaps_the_frames(self, rng):
        matrix = EYE + torch.rand(5, 3, 3, generator=rng, dtype=torch.float64) * torch.tensor([[1], [1], [0]])
        t = AffineTransform(matrix, (3, 4), (5, 6))
        assert_close(t.inverse().matrix, torch.from_numpy(np.linalg.inv(matrix.numpy())))
        assert (t.inverse().size, t.inverse().out_size) == ((5, 6), (3, 4))

    def test_frames_must_join(self):
        crop = AffineTransform.crop(torch.tensor([0]), torch.tensor([0]), (2, 2), (4, 4))
        assert (crop @ AffineTransform.hflip(1, (4, 4))).out_size == (2, 2)
        with pytest.raises(ArgumentError, match=r"b ends in a frame of \(2, 2\)"):
            crop @ crop

    def test_batches_must_join(self):
        one, two, three = (AffineTransform.hflip(batch, (4, 4)) for batch in (1, 2, 3))
        assert len(one @ three) == len(three @ one) == 3
        with pytest.raises(ArgumentError, match="batch 2, b has 3"):
            two @ three

    @given(motions(), st.tuples(*[entries(-20, 20)] * 4), st.tuples(entries(0, 1), entries(0, 1)))
    def test_boxes_contain_the_points_of_the_box_and_touch_its_corners(self, t, box, inner):
        left, top = min(box[0], box[2]), min(box[1], box[3])
        right, bottom = max(box[0], box[2]), max(box[1], box[3])
        xyxy = torch.tensor([[[left, top, right, bottom]]], dtype=torch.float64).expand(2, -1, -1)
        moved = t.boxes(xyxy)
        point = left + inner[0] * (right - left), top + inner[1] * (bottom - top)
        xy = t.points(torch.tensor(point, dtype=torch.float64).expand(2, 1, 2))
        assert (moved[..., :2] <= xy + 1e-9).all()
        assert (moved[..., 2:] >= xy - 1e-9).all()
        corners = [(left, top), (right, top), (left, bottom), (right, bottom)]
        far = t.points(torch.tensor(corners, dtype=torch.float64).expand(2, 4, 2))
        assert_close(moved, torch.cat([far.amin(1), far.amax(1)], -1)[:, None], rtol=1e-11, atol=1e-9)

    def test_points_keep_their_dtype_and_are_computed_in_float64(self):
        t = AffineTransform.shift(torch.tensor([[2.0**26 + 0.25, 0.0]], dtype=torch.float64), (4, 4))
        back = t.inverse().points(torch.tensor([[[2.0**26, 1.0]]], dtype=torch.float32))
        assert back.dtype == torch.float32
        assert back[0, 0, 0] == -0.25


class TestValue:
    """A frozen value: indexing, devices, checks."""

    def test_indexing_keeps_the_batch_dimension(self, rng):
        t = AffineTransform.shift(torch.rand(4, 2, generator=rng), (3, 5))
        assert len(t) == 4
        for index, rows in [(1, [1]), (-1, [3]), (slice(1, 3), [1, 2]), (torch.tensor([3, 0]), [3, 0])]:
            picked = t[index]
            assert torch.equal(picked.matrix, t.matrix[rows])
            assert picked.size == (3, 5)

    def test_iterating_ends_and_an_index_beyond_the_batch_is_an_error(self):
        t = AffineTransform.identity(2, (3, 5))
        assert [len(sample) for sample in t] == [1, 1]
        for index in (2, -3):
            with pytest.raises(IndexError):
                t[index]

    def test_attributes_cannot_be_written(self):
        with pytest.raises(AttributeError):
            AffineTransform.identity(1, (3, 5)).size = (1, 1)

    def test_the_matrix_is_kept_in_float64_on_the_device_asked_for(self):
        t = AffineTransform(EYE[None].float(), (3, 5))
        assert t.matrix.dtype == torch.float64
        assert t.out_size == (3, 5)
        moved = t.to("meta")
        assert moved.matrix.device.type == "meta"
        assert (moved.size, moved.out_size) == (t.size, t.out_size)

    def test_the_matrix_carries_gradient(self):
        matrix = EYE[None].clone().requires_grad_()
        t = AffineTransform(matrix, (3, 5))
        (t @ t.inverse() @ t).at((3, 5)).points(torch.ones(1, 2, 2)).sum().backward()
        assert matrix.grad.isfinite().all()
        assert matrix.grad.abs().sum() > 0

    @pytest.mark.parametrize(
        ("place", "value", "reason"),
        [
            ((0, 1), math.nan, "finite"),
            ((1, 2), math.inf, "finite"),
            ((2, 0), 1e-12, r"\(0, 0, 1\)"),
            ((2, 2), 2.0, r"\(0, 0, 1\)"),
            ((1, 1), 0.0, "inverted"),
            ((0, 0), 1e-5, "singular"),
        ],
    )
    def test_a_bad_matrix_names_its_sample(self, place, value, reason):
        matrix = EYE.repeat(4, 1, 1)
        matrix[2][place] = value
        with pytest.raises(ArgumentError, match=f"sample 2 .*{reason}"):
            AffineTransform(matrix, (3, 5))

    @pytest.mark.parametrize("shape", [(3, 3), (1, 2, 3), (1, 1, 3, 3)])
    def test_a_matrix_of_another_shape_is_an_error(self, shape):
        with pytest.raises(ArgumentError, match="matrix must have shape"):
            AffineTransform(torch.zeros(shape), (3, 5))

    def test_an_empty_batch_is_a_value_like_any_other(self):
        t = AffineTransform(torch.empty(0, 3, 3), (3, 5))
        assert len(t @ t.inverse()) == len(t.at((2, 3), stride=2)) == 0
        assert t.points(torch.empty(0, 4, 2)).shape == (0, 4, 2)


class TestOtherResolution:
    """`at`: the same motion for maps of cells."""

    @pytest.mark.parametrize(("offset", "first"), [(None, 1.5), (0.0, 0.0), ((0.0, 3.0), (0.0, 3.0))])
    @given(t=motions())
    def test_cells_at_stride_4_go_where_their_pixels_go(self, offset, first, t):
        moved = t.at((3, 5), stride=4, offset=offset)
        cells = torch.tensor([[0.0, 0.0], [4.0, 2.0], [1.5, -3.0]], dtype=torch.float64).expand(2, -1, -1)
        first = torch.tensor(first, dtype=torch.float64)
        pixels = 4 * cells + first
        assert_close(4 * moved.points(cells) + first, t.points(pixels), rtol=1e-12, atol=1e-9)

    @given(motions((12, 20)), motions((12, 20)))
    def test_at_commutes_with_composition_and_inverse(self, a, b):
        together, apart = (a @ b).at((3, 5)), a.at((3, 5)) @ b.at((3, 5))
        assert_close(together.matrix, apart.matrix, rtol=1e-11, atol=1e-9)
        assert (together.size, together.out_size) == ((3, 5), (3, 5))
        assert_close(a.inverse().at((3, 5)).matrix, a.at((3, 5)).inverse().matrix, rtol=1e-9, atol=1e-9)

    def test_odd_sides_have_a_last_cell_that_is_cut(self):
        t = AffineTransform.hflip(1, (13, 18))
        assert t.at((4, 5)).matrix[0, :2].tolist() == [[-1, 0, (17 - 3) / 4], [0, 1, 0]]
        assert t.at((4, 5), stride=4).out_size == (4, 5)
        turned = AffineTransform.rot90(1, 1, (13, 18)).at((4, 5))
        assert turned.out_size == (5, 4)

    def test_the_output_map_may_be_named(self):
        crop = AffineTransform.crop(torch.tensor([3]), torch.tensor([2]), (9, 6), (20, 20))
        assert crop.at((5, 5), (3, 2), stride=4).out_size == (3, 2)
        with pytest.raises(ArgumentError, match=r"does not fit a frame of \(9, 6\)"):
            crop.at((5, 5), (2, 2), stride=4)

    def test_maps_of_higher_resolution_have_strides_below_one(self):
        t = AffineTransform.hflip(1, (4, 6)).at((8, 12))
        assert t.matrix[0, 0].tolist() == [-1, 0, 11]

    @pytest.mark.parametrize(
        ("frame", "cells", "stride"),
        [((64, 48), (16, 12), 4), ((13, 18), (4, 5), 4), ((7, 7), (14, 14), 0.5), ((64, 64), (40, 40), 1.6)],
    )
    def test_the_stride_is_read_off_the_sizes(self, frame, cells, stride):
        assert infer_stride(frame, cells) == stride

    @pytest.mark.parametrize(
        ("frame", "cells", "stride"), [((513, 513), (129, 129), 4), ((9, 9), (5, 5), 2), ((77, 77), (10, 10), 8)]
    )
    def test_square_frames_of_odd_side_are_pooled_like_any_other(self, frame, cells, stride):
        # The ratio of the sides would be 513 / 129 = 3.98: the last cell 3 px from where it stands.
        assert infer_stride(frame, cells) == stride
        assert map_size(frame, stride) == cells

    @pytest.mark.parametrize(
        ("frame", "cells", "reason"),
        [
            ((64, 64), (16, 8), "aspects differ"),
            ((64, 64), (16, 15), "aspects differ"),
            ((10, 11), (2, 2), r"\[6, 7, 8, 9\] all fit"),
            ((5, 5), (1, 2), "aspects differ"),
        ],
    )
    def test_impossible_and_ambiguous_strides_are_errors(self, frame, cells, reason):
        with pytest.raises(ArgumentError, match=reason):
            AffineTransform.identity(1, frame).at(cells)

    @pytest.mark.parametrize("stride", [1, 2, 4, 0.5, 1.5])
    @pytest.mark.parametrize("offset", [0.0, None, 1.0])
    @pytest.mark.parametrize("frame", [1, 5, 8, 13])
    def test_a_cell_touches_the_pixels_that_overlap_it(self, frame, stride, offset):
        cells = math.ceil(frame / stride)
        first = (stride - 1) / 2 if offset is None else offset
        start, stop = cell_bounds(frame, cells, stride, first)
        for cell in range(cells):
            middle = Fraction(cell) * Fraction(stride) + Fraction(first)
            reach = Fraction(stride) / 2 + Fraction(1, 2)
            touched = [pixel for pixel in range(frame) if abs(pixel - middle) < reach]
            assert list(range(int(start[cell]), int(stop[cell]))) == touched


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


class TestGeotransform:
    """Rasters: `rasterio.transform` and the pixels' own world coordinates are the truth."""

    SOURCE = (0.5, 0.0, 431000.0, 0.0, -0.5, 5271000.0)

    def world(self, geotransform, xy):
        """World coordinates of pixel centres, by rasterio."""
        east, north = centres(Affine(*geotransform), [y for _, y in xy], [x for x, _ in xy])
        return np.stack([east, north], -1)

    @pytest.mark.parametrize("geotransform", [SOURCE, (0.3, 0.1, 5.0, -0.05, -0.4, 9.0)])
    def test_a_pixel_keeps_its_place_in_the_world(self, geotransform):
        t = AffineTransform.from_params(angle=[20.0, -50.0], scale=1.3, translation=(3.5, -2.0), size=(40, 60))
        xy = [(0.0, 0.0), (59.0, 39.0), (12.25, 30.5)]
        for index in range(2):
            moved = t[index].points(torch.tensor([xy], dtype=torch.float64))[0].tolist()
            there = self.world(t.to_rasterio(geotransform, index), moved)
            np.testing.assert_allclose(there, self.world(geotransform, xy), rtol=0, atol=1e-8)

    def test_a_crop_moves_the_origin_by_whole_pixels(self):
        crop = AffineTransform.crop(torch.tensor([10]), torch.tensor([4]), (8, 8), (40, 60))
        assert crop.to_rasterio(self.SOURCE) == (0.5, 0.0, 431002.0, 0.0, -0.5, 5270995.0)

    def test_a_resize_keeps_the_outer_corner(self):
        half = AffineTransform.resize((20, 30), (40, 60), 1)
        np.testing.assert_allclose(half.to_rasterio(self.SOURCE), (1.0, 0, 431000.0, 0, -1.0, 5271000.0), rtol=1e-15)

    def test_from_rasterio_is_the_way_back(self):
        t = AffineTransform.from_params(angle=33.0, scale=0.8, size=(40, 60))
        again = AffineTransform.from_rasterio(self.SOURCE, t.to_rasterio(self.SOURCE), (40, 60), (40, 60))
        assert_close(again.matrix, t.matrix, rtol=0, atol=1e-6)

    def test_a_flat_geotransform_is_refused(self):
        with pytest.raises(ArgumentError, match="cannot be inverted"):
            AffineTransform.from_rasterio((0.0, 0, 1, 0, 0, 1), self.SOURCE, (4, 4), (4, 4))


def sixty_fourths(low, high):
    """Multiples of 1/64: nothing hypothesis draws lies within 1e-9 of a lattice point without being on it."""
    return st.integers(64 * low, 64 * high).map(lambda whole: whole / 64)


@st.composite
def motions_between(draw, size, out_size):
    """A general motion of one sample from a frame of `size` into one of `out_size`."""
    t = AffineTransform.from_params(
        angle=draw(sixty_fourths(-180, 180)),
        translation=(draw(sixty_fourths(-9, 9)), draw(sixty_fourths(-9, 9))),
        scale=torch.tensor([[draw(sixty_fourths(1, 3)) / 2, draw(sixty_fourths(1, 3)) / 2]]),
        shear=(draw(sixty_fourths(-40, 40)), 0.0),
        size=size,
    )
    return AffineTransform(t.matrix, size, out_size)


class TestLaws:
    """What holds for any motions."""

    @given(motions(), motions())
    def test_a_product_is_undone_in_the_other_order(self, a, b):
        left, right = (a @ b).inverse(), b.inverse() @ a.inverse()
        terms = b.inverse().matrix.abs() @ a.inverse().matrix.abs()
        # Scales of 0.3 to 3 and shears of 50 degrees twice: a condition below 1e3.
        assert ((left.matrix - right.matrix).abs() <= 1e-10 * terms.clamp_min(1)).all()
        assert (left.size, left.out_size) == (right.size, right.out_size)

    @given(motions())
    def test_undone_twice_it_is_that_very_motion(self, t):
        assert t.inverse().inverse() is t
        assert (t.inverse().size, t.inverse().out_size) == (t.out_size, t.size)

    @given(motions(), st.lists(st.tuples(entries(-100, 100), entries(-100, 100)), min_size=1, max_size=5))
    def test_points_come_back(self, t, points):
        xy = torch.tensor(points, dtype=torch.float64).expand(2, -1, -1)
        assert_close(t.inverse().points(t.points(xy)), xy, atol=1e-9, rtol=0)
        assert_close(t.points(t.inverse().points(xy)), xy, atol=1e-9, rtol=0)

    @given(motions(), st.lists(st.tuples(entries(0, 1), entries(0, 1)), min_size=1, max_size=5))
    def test_boxes_of_boxes_contain_the_points_moved_twice(self, t, inner):
        box = torch.tensor([[[-3.0, 2.0, 9.0, 4.5]]], dtype=torch.float64).expand(2, -1, -1)
        xy = torch.tensor([(-3 + 12 * u, 2 + 2.5 * v) for u, v in inner], dtype=torch.float64).expand(2, -1, -1)
        outer, moved = t.boxes(t.boxes(box)), t.points(t.points(xy))
        assert (outer[..., :2] <= moved + 1e-9).all()
        assert (outer[..., 2:] >= moved - 1e-9).all()

    @pytest.mark.parametrize("stride", [2, 4])
    @given(data=st.data())
    def test_other_resolutions_commute_with_products_through_frames_of_other_sizes(self, stride, data):
        sizes = (12, 20), (8, 24), (32, 4)
        b, a = (data.draw(motions_between(*ends)) for ends in pairwise(sizes))
        cells = [(side[0] // stride, side[1] // stride) for side in sizes]
        together = (a @ b).at(cells[0], cells[2], stride=stride)
        apart = a.at(cells[1], cells[2], stride=stride) @ b.at(cells[0], cells[1], stride=stride)
        assert_close(together.matrix, apart.matrix, rtol=1e-11, atol=1e-9)
        assert (together.size, together.out_size) == (apart.size, apart.out_size) == (cells[0], cells[2])

    @given(motions())
    def test_the_identity_changes_nothing(self, t):
        still = AffineTransform.identity(2, t.size)
        assert torch.equal((t @ still).matrix, t.matrix)
        assert torch.equal((still @ t).matrix, t.matrix)
        assert torch.equal(still.inverse().matrix, still.matrix)

    @pytest.mark.parametrize("angle", [12.0, -75.5, 90.0])
    def test_points_move_as_those_of_opencv(self, angle, rng):
        matrix = cv2.getRotationMatrix2D((3.5, 8.0), angle, 1.7)
        xy = 40 * torch.rand(9, 2, generator=rng, dtype=torch.float64) - 10
        expected = cv2.transform(xy.numpy()[:, None], matrix)[:, 0]
        t = AffineTransform.from_params(angle=angle, scale=1.7, center=(3.5, 8.0), size=(11, 7))
        assert_close(t.points(xy[None])[0].numpy(), expected, atol=1e-12, rtol=0)

    @pytest.mark.parametrize("called", ["points", "boxes"])
    def test_gradient_of_moved_points_and_boxes(self, called, rng):
        random = torch.rand(2, 10, generator=rng, dtype=torch.float64).requires_grad_()
        spots = torch.rand(2, 3, 2 if called == "points" else 4, generator=rng, dtype=torch.float64).requires_grad_()

        def moved(random, spots):
            t = AffineTransform.from_params(
                angle=40 + random[:, 0],
                translation=random[:, 1:3],
                scale=0.5 + random[:, 3:5],
                shear=9 * random[:, 5:7],
                center=5 * random[:, 7:9],
                size=(6, 7),
            )
            return getattr(t.inverse() @ t @ t, called)(spots)

        assert torch.autograd.gradcheck(moved, (random, spots))

    def test_nothing_is_written_into_arguments(self, rng):
        angle, scale = torch.rand(2, generator=rng), 1 + torch.rand(2, 2, generator=rng)
        xy, xyxy = torch.rand(2, 3, 2, generator=rng), torch.rand(2, 3, 4, generator=rng)
        matrix = EYE.repeat(2, 1, 1)
        given = [angle, scale, xy, xyxy, matrix]
        before = [(tensor.clone(), tensor._version) for tensor in given]
        t = AffineTransform.from_params(angle=angle, scale=scale, size=(4, 6)) @ AffineTransform(matrix, (4, 6))
        t.inverse().points(xy)
        t.at((2, 3)).boxes(xyxy)
        t.shift(xy[:, 0], (4, 6)).crop(xy[:, 0, 0], xy[:, 0, 1], (2, 2), (4, 6))
        for tensor, (clone, version) in zip(given, before, strict=True):
            assert torch.equal(tensor, clone)
            assert tensor._version == version


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


class TestWarpedRasters:
    """The geotransform of a warped raster, followed in the arithmetic of rasterio's `Affine`."""

    SOURCE = (0.5, 0.0, 431000.0, 0.0, -0.5, 5271000.0)
    SIZE = (40, 60)
    MOTIONS = pytest.mark.parametrize(
        "t",
        [
            pytest.param(AffineTransform.from_params(angle=25.0, size=SIZE), id="rotation"),
            pytest.param(AffineTransform.crop(torch.tensor([7]), torch.tensor([11]), (20, 9), SIZE), id="crop"),
            pytest.param(AffineTransform.resize((80, 90), SIZE, 1), id="enlarged"),
            pytest.param(AffineTransform.resize((10, 12), SIZE, 1), id="reduced"),
            pytest.param(AffineTransform.hflip(1, SIZE), id="left-right flip"),
            pytest.param(AffineTransform.vflip(1, SIZE), id="top-bottom flip"),
            pytest.param(AffineTransform.rot90(1, 1, SIZE), id="quarter turn"),
            pytest.param(
                AffineTransform.crop(torch.tensor([3]), torch.tensor([5]), (16, 24), SIZE)
                @ AffineTransform.from_params(angle=-70.0, scale=1.3, shear=(8.0, 0.0), size=SIZE)
                @ AffineTransform.hflip(1, SIZE),
                id="a product",
            ),
        ],
    )

    @MOTIONS
    @pytest.mark.parametrize("source", [SOURCE, (0.3, 0.1, 5.0, -0.05, -0.4, 9.0)])
    def test_a_pixel_of_the_output_lies_in_the_world_where_the_pixel_it_shows_lies(self, source, t):
        home = np.linalg.inv(t.matrix[0].numpy())
        columns, rows = [0, t.out_size[1] - 1, 3, 4], [0, 0, t.out_size[0] - 1, 6]
        x, y, _ = home @ [columns, rows, [1] * 4]
        there, here = Affine(*t.to_rasterio(source)), Affine(*source)
        np.testing.assert_allclose(centres(there, rows, columns), centres(here, y, x), rtol=0, atol=1e-7)

    def test_the_check_sees_the_corner_taken_for_the_centre(self):
        t = AffineTransform.resize((80, 120), self.SIZE, 1)
        source = np.array(Affine(*self.SOURCE)).reshape(3, 3)
        naive = Affine(*(source @ np.linalg.inv(t.matrix[0].numpy()))[:2].flatten())
        right = Affine(*t.to_rasterio(self.SOURCE))
        assert abs(centres(naive, [0], [0])[0] - centres(right, [0], [0])[0]) > 0.1

    @pytest.mark.parametrize(
        "t",
        [
            pytest.param(AffineTransform.from_params(angle=25.0, translation=(3.0, -2.0), size=(44, 44)), id="turned"),
            pytest.param(AffineTransform.from_params(angle=-130.0, scale=1.2, size=(44, 44)), id="turned and enlarged"),
            pytest.param(AffineTransform.resize((88, 110), (44, 44), 1), id="resized"),
            pytest.param(AffineTransform.hflip(1, (44, 44)), id="flipped"),
            pytest.param(AffineTransform.crop(torch.tensor([7]), torch.tensor([11]), (20, 9), (44, 44)), id="cropped"),
        ],
    )
    def test_gdal_resampling_to_that_geotransform_gives_the_same_pixels(self, t):
        y, x = np.mgrid[:44, :44]
        scene = np.sin(x / 6) + np.cos(y / 5)
        expected = np.zeros(t.out_size)
        reproject(
            scene,
            expected,
            src_transform=Affine(*self.SOURCE),
            dst_transform=Affine(*t.to_rasterio(self.SOURCE)),
            src_crs="EPSG:32632",
            dst_crs="EPSG:32632",
            resampling=Resampling.bilinear,
            tolerance=0,
        )
        warped, real = warp(torch.from_numpy(scene)[None, None], t)
        inside = real[0, 0].numpy()
        assert inside.mean() > 0.5
        # World coordinates of 5e6 m leave 1e-9 px.
        np.testing.assert_allclose(warped[0, 0].numpy()[inside], expected[inside], rtol=0, atol=1e-8)
