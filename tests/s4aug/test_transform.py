"""How a transform is made, what it holds, and the same motion at another resolution."""

import math
from fractions import Fraction

import cv2
import kornia.geometry as kornia_geometry
import numpy as np
import pytest
import torch
from hypothesis import given
from torch.testing import assert_close

from s4aug import AffineTransform, ArgumentError
from s4aug.transform import cell_bounds, infer_stride, map_size
from tests.s4aug.motions import EYE, motions


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


class TestValue:
    """A frozen value: indexing, devices, checks."""

    def test_indexing_keeps_the_batch_dimension(self, rng):
        t = AffineTransform.shift(torch.rand(4, 2, generator=rng), (3, 5))
        assert len(t) == 4
        for index, rows in [
            (1, [1]),
            (-1, [3]),
            (slice(1, 3), [1, 2]),
            (torch.tensor([3, 0]), [3, 0]),
            (np.array([2, 0]), [2, 0]),
        ]:
            picked = t[index]
            assert torch.equal(picked.matrix, t.matrix[rows])
            assert picked.size == (3, 5)

    @pytest.mark.parametrize("index", [np.int64(1), torch.tensor(1), np.uint8(1)])
    def test_whole_numbers_of_any_kind_are_indices(self, rng, index):
        t = AffineTransform.shift(torch.rand(3, 2, generator=rng), (3, 5))
        assert torch.equal(t[index].matrix, t.matrix[1:2])

    def test_points_in_whole_numbers_are_rounded_and_boxes_hold_the_moved_ones(self):
        t = AffineTransform.from_params(scale=0.75, angle=0.0, size=(9, 9))
        xy = torch.stack(torch.meshgrid(torch.arange(9), torch.arange(9), indexing="xy"), -1).reshape(1, -1, 2)
        for motion in (t, t.inverse(), AffineTransform.rot90(1, 1, (9, 9))):
            exact = np.asarray(motion.points(xy.double()))
            assert np.array_equal(motion.points(xy), np.floor(exact + 0.5))
            boxes = motion.boxes(torch.cat([xy, xy + 2], -1))
            outer = np.asarray(motion.boxes(torch.cat([xy, xy + 2], -1).double()))
            near = np.where(np.abs(outer - outer.round()) < 1e-9, outer.round(), outer)
            expected = np.concatenate([np.floor(near[..., :2]), np.ceil(near[..., 2:])], -1)
            assert np.array_equal(boxes, expected)
            assert boxes.dtype == torch.int64

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
