"""Which pixels of a warp are real, and that no other pixel is read."""

import math
from fractions import Fraction
from itertools import pairwise
from types import MappingProxyType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from s4aug import AffineTransform, warp
from tests.s4aug.motions import general
from tests.s4aug.pixels import FLOATS, MODES, PADDINGS, special_image


class TestUnreadPixels:
    """Promise 4: what has no weight or is masked is never read."""

    @pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
    @pytest.mark.parametrize("dtype", FLOATS)
    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_a_bad_value_beside_a_lattice_sample_is_not_read(self, mode, dtype, bad):
        image = torch.ones(1, 1, 7, 7, dtype=dtype)
        image[..., 3, 3] = bad
        # Between columns in x, on the lattice in y: only row 3 reads the bad value.
        warped, _ = warp(image, AffineTransform.shift(torch.tensor([[0.5, 0.0]]), (7, 7)), mode=mode)
        touched = ~warped.isfinite()[0, 0]
        assert touched[3].sum() == (2 if mode == "bilinear" else 4)
        assert not touched[[0, 1, 2, 4, 5, 6]].any()

    @pytest.mark.parametrize("padding", PADDINGS)
    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
    def test_what_lies_under_the_mask_never_leaks_into_values_or_gradients(self, mode, padding, dtype, rng):
        clean = torch.rand(2, 3, 9, 8, generator=rng).to(dtype)
        mask = torch.rand(2, 1, 9, 8, generator=rng) < 0.85
        t = general(2, (9, 8), rng)
        options = {"valid": mask, "mode": mode, "padding": padding, "fill": 0.25}
        results = []
        for bad in (0.0, math.nan, math.inf):
            image = torch.where(mask, clean, bad).requires_grad_()
            matrix = t.matrix.clone().requires_grad_()
            warped, real = warp(image, AffineTransform(matrix, (9, 8)), **options)
            inputs = [image] if mode == "nearest" else [image, matrix]
            grads = torch.autograd.grad(warped.sum(), inputs)
            assert all(grad.isfinite().all() for grad in grads)
            assert not grads[0].masked_select(~mask.expand_as(image)).any()
            results.append((warped.detach(), real, *grads))
        assert results[0][1].any()
        for other in results[1:]:
            for a, b in zip(results[0], other, strict=True):
                assert torch.equal(a, b)

    @pytest.mark.parametrize("mode", MODES)
    def test_nan_outside_the_mask_is_a_value_and_changes_no_validity(self, mode, rng):
        image = torch.rand(1, 1, 9, 8, generator=rng)
        t = general(1, (9, 8), rng)
        holed = image.clone()
        holed[..., 4, 4] = math.nan
        whole, real = warp(image, t, mode=mode)
        warped, still_real = warp(holed, t, mode=mode, valid=torch.ones(1, 1, 9, 8, dtype=torch.bool))
        assert torch.equal(real, still_real)
        touched = warped.isnan()
        assert touched.any()
        assert not (touched & ~real).any()
        assert torch.equal(warped[~touched], whole[~touched])

    @pytest.mark.parametrize("mode", MODES)
    def test_the_gradient_of_the_image_does_not_depend_on_its_values(self, mode, rng):
        t, grads = general(1, (9, 8), rng), []
        for dtype in (torch.float32, torch.float64):
            for image in (torch.zeros(1, 1, 9, 8), special_image((1, 1, 9, 8), torch.float32, rng)):
                image = image.to(dtype).requires_grad_()
                warp(image, t, mode=mode).image.sum().backward()
                grads.append(image.grad)
        assert grads[0].sum() > 10
        assert torch.equal(grads[0], grads[1])
        assert torch.equal(grads[2], grads[3])

    def test_validity_under_padding_is_that_without(self, rng):
        image, t = torch.rand(2, 1, 9, 8, generator=rng), general(2, (9, 8), rng)
        mask = torch.rand(2, 1, 9, 8, generator=rng) < 0.9
        for mode in MODES:
            valid = [warp(image, t, valid=mask, mode=mode, padding=padding).valid for padding in PADDINGS]
            assert torch.equal(valid[0], valid[1])
            assert torch.equal(valid[0], valid[2])


EPS = 2.0**-20


class TestEdges:
    """Promise 4 at the very edge, by hand: one output pixel that samples one place of six pixels in a row."""

    INSIDE = MappingProxyType(
        {
            "bilinear": [0, EPS, 0.5, 2, 4.5, 5 - EPS, 5],
            "nearest": [-0.5, -0.5 + EPS, 0, 2.5, 5, 5.5 - EPS],
            "bicubic": [0, 1, 1 + EPS, 3.5, 4 - EPS, 4, 5],
        }
    )
    OUTSIDE = MappingProxyType(
        {
            "bilinear": [-100, -1, -0.5, -EPS, 5 + EPS, 5.5, 6, 100],
            "nearest": [-100, -1, -0.5 - EPS, 5.5, 6, 100],
            "bicubic": [-1, -EPS, EPS, 0.5, 1 - EPS, 4 + EPS, 4.5, 5 - EPS, 5 + EPS, 6, 100],
        }
    )
    # Places that read pixel 3, and places beside them that do not.
    READ = MappingProxyType(
        {
            "bilinear": [2 + EPS, 2.5, 3, 3.5, 4 - EPS],
            "nearest": [2.5, 3, 3.5 - EPS],
            "bicubic": [1 + EPS, 1.5, 2 + EPS, 3 - EPS, 3, 3 + EPS, 3.5, 4 - EPS],
        }
    )
    UNREAD = MappingProxyType(
        {
            "bilinear": [0, 1.5, 2 - EPS, 2, 4, 4 + EPS, 5],
            "nearest": [0, 2.5 - EPS, 3.5, 4, 5],
            "bicubic": [0, 1, 2, 4, 5],
        }
    )

    def sampled_at(self, places, upright, dtype, *, mode, mask=None, bad=None, **options):
        """Values and validity at places along a row (or column) of six pixels 0, 10, ... 50."""
        offset = [[0.0, -place] if upright else [-place, 0.0] for place in places]
        matrix = torch.eye(3, dtype=torch.float64).repeat(len(places), 1, 1)
        matrix[:, :2, 2] = torch.tensor(offset, dtype=torch.float64)
        row = 10 * torch.arange(6, dtype=dtype)
        if bad is not None:
            row[3] = bad
        shape = (1, 1, 6, 1) if upright else (1, 1, 1, 6)
        image = row.reshape(shape).expand(len(places), -1, -1, -1)
        seen = None if mask is None else mask.reshape(shape).expand(len(places), -1, -1, -1)
        warped, real = warp(image, AffineTransform(matrix, shape[2:], (1, 1)), mode=mode, valid=seen, **options)
        return warped.flatten(), real.flatten().tolist()

    @pytest.mark.parametrize("padding", PADDINGS)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("upright", [False, True])
    @pytest.mark.parametrize("mode", MODES)
    def test_a_place_is_valid_up_to_the_last_pixel_it_reads_and_not_beyond(self, mode, upright, dtype, padding):
        options = {"mode": mode, "padding": padding}
        inside, outside = self.INSIDE[mode], self.OUTSIDE[mode]
        values, real = self.sampled_at(inside, upright, dtype, **options)
        assert real == [True] * len(inside)
        if mode != "nearest":
            assert_close(values, 10 * torch.tensor(inside, dtype=dtype), atol=2e-5, rtol=0)
        assert self.sampled_at(outside, upright, dtype, **options)[1] == [False] * len(outside)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("upright", [False, True])
    @pytest.mark.parametrize("mode", MODES)
    def test_a_masked_pixel_takes_exactly_the_places_that_read_it(self, mode, upright, dtype):
        mask = torch.tensor([True, True, True, False, True, True])
        for places, expected in ((self.READ[mode], False), (self.UNREAD[mode], True)):
            values, real = self.sampled_at(places, upright, dtype, mode=mode, mask=mask, bad=math.nan, fill=-7.0)
            assert real == [expected] * len(places)
            assert values.isfinite().all()
            assert ((values == -7) == (not expected)).all()

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("mode", MODES)
    def test_a_nan_that_is_not_masked_shows_exactly_where_it_is_read_and_is_valid(self, mode, dtype):
        for places, expected in ((self.READ[mode], True), (self.UNREAD[mode], False)):
            values, real = self.sampled_at(places, False, dtype, mode=mode, bad=math.nan)
            assert real == [True] * len(places)
            assert values.isnan().tolist() == [expected] * len(places)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8])
    @pytest.mark.parametrize("flip", [False, True])
    def test_ties_take_the_pixel_of_higher_index_whichever_way_the_output_runs(self, flip, dtype):
        row = torch.arange(6, dtype=dtype).reshape(1, 1, 1, 6)
        half = AffineTransform.shift(torch.tensor([[0.5, 0.0]], dtype=torch.float64), (1, 6))
        t = AffineTransform.hflip(1, (1, 6)) @ half if flip else half
        # Output x samples x - 1/2, which shows x.
        expected = [5, 4, 3, 2, 1, 0] if flip else [0, 1, 2, 3, 4, 5]
        warped, real = warp(row, t, mode="nearest")
        assert warped.flatten().tolist() == expected
        assert real.all()

    @pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (4, 6)])
    @pytest.mark.parametrize("padding", PADDINGS)
    @pytest.mark.parametrize("mode", MODES)
    def test_the_identity_shows_all_to_the_edge(self, mode, padding, size, rng):
        image = torch.rand(2, 1, *size, generator=rng)
        still = AffineTransform.identity(2, size)
        for t in (still, AffineTransform.from_params(angle=[0.0, 360.0], size=size), still.inverse() @ still):
            warped, real = warp(image, t, mode=mode, padding=padding)
            assert torch.equal(warped, image)
            assert real.all()

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("ratio", ["3/4", "3/2", "2/3", "3", "6", "7/5"])
    def test_where_a_whole_ratio_meets_a_pixel_its_neighbours_are_not_read(self, ratio, dtype):
        # Output x samples x / ratio. Every second pixel is NaN, so only whole even places are finite.
        ratio, side = Fraction(ratio), 33
        matrix = torch.eye(3, dtype=torch.float64)[None].clone()
        matrix[0, 0, 0] = float(ratio)
        places = [x / ratio for x in range(int(ratio * (side - 1)) + 3)]
        image = torch.arange(side, dtype=dtype).reshape(1, 1, 1, side)
        image[..., 1::2] = math.nan
        for mode in ("bilinear", "bicubic"):
            warped, real = warp(image, AffineTransform(matrix, (1, side), (1, len(places))), mode=mode)
            whole = [place.denominator == 1 for place in places]
            reach = 0 if mode == "bilinear" else 1
            inside = [
                place <= side - 1 and (on or reach <= place < side - 1 - reach)
                for place, on in zip(places, whole, strict=True)
            ]
            finite = [on and place % 2 == 0 for place, on in zip(places, whole, strict=True)]
            assert real.flatten().tolist() == inside
            assert (warped.isfinite() & real).flatten().tolist() == [
                a and b for a, b in zip(finite, inside, strict=True)
            ]


@st.composite
def chains(draw):
    """Two motions through frames of any sizes; numbers such that nothing lies within 1e-9 of a lattice point."""
    sizes = [(draw(st.integers(1, 9)), draw(st.integers(1, 9))) for _ in range(3)]
    steps = []
    for size, out_size in pairwise(sizes):
        angle, dx, dy, scale, shear = (
            draw(st.integers(low, high)) / 16
            for low, high in ((-2880, 2880), (-40, 40), (-40, 40), (5, 48), (-500, 500))
        )
        t = AffineTransform.from_params(angle=angle, translation=(dx, dy), scale=scale, shear=(shear, 0.0), size=size)
        steps.append(AffineTransform(t.matrix, size, out_size))
    return steps


class TestChains:
    @settings(max_examples=200)
    @given(steps=chains(), masked=st.booleans())
    def test_step_by_step_never_more_is_valid_than_in_one_resampling_without_a_mask(self, steps, masked):
        first, second = steps
        image = torch.zeros(1, 1, *first.size, dtype=torch.float64)
        seen = torch.rand(image.shape, generator=torch.Generator().manual_seed(0)) < 0.8 if masked else None
        there = warp(image, first, valid=seen)
        chained = warp(there.image, second, valid=there.valid).valid
        once = warp(image, second @ first).valid
        assert not (chained & ~once).any()

    def test_that_is_no_empty_saying(self):
        size = (20, 20)
        turn = AffineTransform.from_params(angle=30.0, size=size)
        there = warp(torch.zeros(1, 1, *size), turn)
        chained, once = warp(there.image, turn, valid=there.valid).valid, warp(there.image, turn @ turn).valid
        assert 0 < chained.sum() < once.sum() < 400
