"""Where the pixels of a warp come from: lattice moves to the bit, any place within 1e-4 px, as other packages move."""

import kornia.geometry as kornia_geometry
import numpy as np
import pytest
import torch
import torchvision.transforms.functional as tv_functional
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from s4aug import AffineTransform, warp
from tests.s4aug.pixels import FLOATS, INTEGERS, MODES, bits, special_image


@st.composite
def lattice_moves(draw, size=(4, 7)):
    """(transform, where: output (x, y) -> source (x, y) in plain integers): products of lattice moves."""
    t = AffineTransform.identity(2, size)
    backwards = []
    for kind in draw(st.lists(st.sampled_from(["hflip", "vflip", "turn", "shift", "crop"]), max_size=4)):
        height, width = t.out_size
        if kind == "turn":
            quarters = draw(st.integers(1, 3))
            step = AffineTransform.rot90(quarters, 2, t.out_size)
            # Each quarter turn counter-clockwise: output (x, y) shows what stood at (width - 1 - y, x).
            for side in (width, height, width)[:quarters]:
                backwards.append(lambda x, y, side=side: (side - 1 - y, x))
        elif kind == "shift":
            dx, dy = draw(st.integers(-3, 3)), draw(st.integers(-3, 3))
            step = AffineTransform.shift(torch.tensor([[dx, dy]] * 2), t.out_size)
            backwards.append(lambda x, y, dx=dx, dy=dy: (x - dx, y - dy))
        elif kind == "crop":
            top, left = draw(st.integers(-2, height - 1)), draw(st.integers(-2, width - 1))
            out_size = draw(st.integers(1, 6)), draw(st.integers(1, 6))
            step = AffineTransform.crop(torch.tensor([top] * 2), torch.tensor([left] * 2), out_size, t.out_size)
            backwards.append(lambda x, y, top=top, left=left: (x + left, y + top))
        elif kind == "hflip":
            step = AffineTransform.hflip(2, t.out_size)
            backwards.append(lambda x, y, width=width: (width - 1 - x, y))
        else:
            step = AffineTransform.vflip(2, t.out_size)
            backwards.append(lambda x, y, height=height: (x, height - 1 - y))
        t = step @ t

    def where(x, y):
        for back in reversed(backwards):
            x, y = back(x, y)
        return x, y

    return t, where


class TestLatticeMoves:
    """Promise 3: identical bits."""

    @pytest.mark.parametrize(
        ("mode", "dtype"),
        [(mode, dtype) for mode in MODES for dtype in FLOATS]
        + [("nearest", dtype) for dtype in (*INTEGERS, torch.bool)],
    )
    @settings(max_examples=30)
    @given(move=lattice_moves())
    def test_flips_turns_shifts_crops_and_products_return_identical_bits(self, mode, dtype, move):
        t, where = move
        image = special_image((2, 3, 4, 7), dtype, torch.Generator().manual_seed(0))
        warped, real = warp(image, t, mode=mode)
        assert warped.dtype == dtype
        expected, inside = torch.zeros((2, 3, *t.out_size), dtype=dtype), torch.zeros(t.out_size, dtype=torch.bool)
        for y in range(t.out_size[0]):
            for x in range(t.out_size[1]):
                from_x, from_y = where(x, y)
                if 0 <= from_x < 7 and 0 <= from_y < 4:
                    inside[y, x] = True
                    expected[:, :, y, x] = image[:, :, from_y, from_x]
        assert torch.equal(real, inside.expand(2, 1, -1, -1))
        assert torch.equal(bits(warped), bits(expected))

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
    @settings(max_examples=30)
    @given(data=st.data())
    def test_rotations_that_add_up_to_a_lattice_move_return_identical_bits(self, mode, dtype, data):
        first = data.draw(st.sampled_from([30.0, 45.0, 17.3, -61.9]) | st.floats(-180, 180))
        quarters, flipped = data.draw(st.integers(-2, 5)), data.draw(st.booleans())
        size = (7, 7)
        image = special_image((1, 2, *size), dtype, torch.Generator().manual_seed(1))
        turns = [AffineTransform.from_params(angle=a, size=size) for a in (first, 90 * quarters - first)]
        flip = AffineTransform.hflip(1, size) if flipped else AffineTransform.identity(1, size)
        warped, real = warp(image, flip @ turns[1] @ turns[0], mode=mode)
        expected = torch.rot90(image, quarters, (2, 3))
        assert real.all()
        assert torch.equal(bits(warped), bits(expected.flip(3) if flipped else expected))

    @pytest.mark.parametrize("mode", MODES)
    def test_nan_payloads_are_kept(self, mode):
        quiet = torch.tensor([0x7FC01234, 0x7FFFFFFF, -0x3FEDCC, 0x7FC00000], dtype=torch.int32)
        image = quiet.view(torch.float32).reshape(1, 1, 2, 2)
        warped = warp(image, AffineTransform.rot90(1, 1, (2, 2)), mode=mode).image
        assert torch.equal(bits(warped), bits(torch.rot90(image, 1, (2, 3))))

    @pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
    def test_half_a_pixel_is_not_a_lattice_move(self, mode, rng):
        image = torch.rand(1, 1, 6, 6, generator=rng)
        warped, real = warp(image, AffineTransform.shift(torch.tensor([[0.5, 0.0]]), (6, 6)), mode=mode)
        assert not torch.equal(warped[real], image[real])


def strip_case(side, angle, far, upright):
    """The first or last row of a turned frame of `side` px as a transform of one row of pixels.

    The row holds `x mod 64`, so that pixels of 16 bits hold it too. Border padding shows row 0 wherever y leads, so
    the value tells the x sampled, whatever the size.
    """
    inwards = -side / 7 if far == "first" else side / 7
    whole = AffineTransform.from_params(
        angle=angle, scale=0.93, translation=(inwards, -side / 31), shear=(2.0, 1.0), size=(side, side)
    )
    row = 0 if far == "first" else side - 1
    out_size, lift = ((side, 1), [row, 0.0]) if upright else ((1, side), [0.0, row])
    cut = torch.tensor([[1, 0, -lift[0]], [0, 1, -lift[1]], [0, 0, 1]], dtype=torch.float64)
    saw = torch.arange(side).remainder(64).float()[None, None, None]
    return saw, AffineTransform(cut @ whole.matrix, (1, side), out_size)


def largest_error_px(values, matrix, side):
    """How far from the float64 truth the x is that each value [h, w] of a saw tooth tells."""
    y, x = np.mgrid[: values.shape[0], : values.shape[1]].astype(np.float64)
    truth = np.einsum("j,jhw->hw", np.linalg.inv(matrix.numpy())[0], np.stack([x, y, np.ones_like(x)]))
    # Between teeth the saw falls: there the value tells nothing.
    told = (truth >= 0) & (truth <= side - 1) & (truth % 64 > 0.01) & (truth % 64 < 62.99)
    assert told.sum() > 100
    apart = np.abs(values.double().numpy() - truth % 64)[told]
    return np.minimum(apart, 64 - apart).max()


class TestPlaces:
    """Promise 2 as the pixels tell it: what is sampled lies within 1e-4 px of the truth."""

    @pytest.mark.parametrize("upright", [False, True])
    @pytest.mark.parametrize("far", ["first", "last"])
    @pytest.mark.parametrize("angle", [9.7, -141.0])
    @pytest.mark.parametrize("side", [512, 2448, 16384, 32768])
    def test_pixels_are_taken_where_they_should_be_also_under_autocast(self, side, angle, far, upright):
        saw, t = strip_case(side, angle, far, upright)
        plain = {d: warp(saw.to(d), t, padding="border", dtype=torch.float32) for d in FLOATS}
        for warped in plain.values():
            assert largest_error_px(warped.image[0, 0], t.matrix[0], side) < 1e-4
        for cast in (torch.bfloat16, torch.float16):
            with torch.autocast("cpu", cast):
                saw, t = strip_case(side, angle, far, upright)
                for dtype, expected in plain.items():
                    under = warp(saw.to(dtype), t, padding="border", dtype=torch.float32)
                    assert torch.equal(under.image, expected.image)
                    assert torch.equal(under.valid, expected.valid)

    @pytest.mark.parametrize(("autocast", "at_least_px"), [(False, 2e-4), (True, 2.0)])
    def test_kornia_fails_the_same_check_at_2448_px(self, autocast, at_least_px):
        side = 2448
        angle, center = torch.tensor([11.0]), torch.tensor([[(side - 1) / 2, (side - 1) / 2]])
        translation, scale = torch.tensor([[side / 8, -side / 16]]), torch.tensor([[1.125, 1.125]])
        # Kornia's warp divides by the height less 1: a few rows, all alike.
        saw = torch.arange(side).remainder(64).float().expand(1, 1, 4, side)
        exact = kornia_geometry.get_affine_matrix2d(
            translation.double(), center.double(), scale.double(), angle.double()
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            matrix = kornia_geometry.get_affine_matrix2d(translation, center, scale, angle)
            theirs = kornia_geometry.warp_affine(saw, matrix[:, :2].float(), (4, side), padding_mode="border")
            mine = warp(saw, AffineTransform(exact, (4, side)), padding="border").image
        assert largest_error_px(mine[0, 0], exact[0], side) < 1e-4
        assert largest_error_px(theirs[0, 0].float(), exact[0], side) > at_least_px


class TestWholePixelsOfOthers:
    """Moves by whole pixels, and general ones, as other packages show them."""

    @pytest.mark.parametrize("align_corners", [True, False])
    @pytest.mark.parametrize("xy", [(0, 0), (2, -1), (-3, 2), (0, 5)])
    def test_kornia_moves_by_whole_pixels_alike_whatever_its_align_corners(self, xy, align_corners, rng):
        image = torch.rand(2, 3, 7, 9, generator=rng)
        t = AffineTransform.shift(torch.tensor([xy, xy]), (7, 9))
        theirs = kornia_geometry.warp_affine(image, t.matrix[:, :2].float(), (7, 9), align_corners=align_corners)
        warped, real = warp(image, t)
        assert_close(warped, theirs, atol=2e-6, rtol=0)
        assert real.sum() == 2 * (7 - abs(xy[1])) * (9 - abs(xy[0]))

    @pytest.mark.parametrize(
        ("angle", "translate", "scale", "shear"),
        [(17.0, (2, -3), 1.2, (0.0, 0.0)), (-40.0, (0, 0), 0.8, (10.0, 0.0)), (20.0, (1, 1), 0.9, (8.0, 5.0))],
    )
    def test_torchvision_moves_alike_with_the_angle_turned(self, angle, translate, scale, shear, rng):
        image = torch.rand(1, 2, 21, 30, generator=rng, dtype=torch.float64)
        theirs = tv_functional.affine(
            image, angle, list(translate), scale, list(shear), tv_functional.InterpolationMode.BILINEAR
        )
        t = AffineTransform.from_params(
            angle=-angle, translation=tuple(map(float, translate)), scale=scale, shear=shear, size=(21, 30)
        )
        warped, real = warp(image, t)
        assert real.sum() > 200
        assert_close(warped[real.expand_as(warped)], theirs[real.expand_as(warped)], atol=1e-12, rtol=0)
