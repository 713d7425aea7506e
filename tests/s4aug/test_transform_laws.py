"""What holds for any motions: products, inverses, points and boxes."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from s4aug import AffineTransform, ArgumentError
from tests.s4aug.motions import EYE, entries, motions


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
