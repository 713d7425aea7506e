"""Pixels, validity and gradients of a warp by lifting."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from s4aug import AffineTransform, ArgumentError, warp
from s4aug.lifting import Lifting
from tests.s4aug.lifting_cases import mixed_motion, permuted, region, rotation
from tests.s4aug.pixels import FLOATS, INTEGERS, bits, special_image

DTYPES = (*FLOATS, *INTEGERS, torch.uint64, torch.bool)


def shown_by(t):
    """For each sample the source pixel (x, y) of each output pixel (x, y)."""
    lifting, backwards = Lifting.of(t), Lifting.of(t).inverse()
    tables = []
    for sample in range(len(t)):
        table = {}
        for x, y in np.ndindex(t.out_size[1], t.out_size[0]):
            source = permuted(backwards, sample, x, y)
            assert permuted(lifting, sample, *source) == (x, y)
            table[x, y] = source
        tables.append(table)
    return tables


def folded(index, length, padding):
    if padding == "border":
        return min(max(index, 0), length - 1)
    while not 0 <= index < length:
        index = -1 - index if index < 0 else 2 * length - 1 - index
    return index


def looped_warp(image, t, *, valid=None, fill=0.0, padding="fill"):
    """Pixel by pixel through the permutation: image [B, C, h, w] and validity [B, 1, h, w]."""
    height, width = t.size
    out = torch.full((*image.shape[:2], *t.out_size), fill, dtype=image.dtype)
    real = torch.zeros(len(image), 1, *t.out_size, dtype=torch.bool)
    for sample, table in enumerate(shown_by(t)):
        for (x, y), (from_x, from_y) in table.items():
            inside = 0 <= from_x < width and 0 <= from_y < height
            if not inside and padding == "fill":
                continue
            from_x, from_y = folded(from_x, width, padding), folded(from_y, height, padding)
            if valid is not None and not valid[sample, 0, from_y, from_x]:
                continue
            out[sample, :, y, x] = image[sample, :, from_y, from_x]
            real[sample, 0, y, x] = inside
    return out, real


def lattice_cases(size):
    """(transform, the same by NumPy): flips, turns and their products, whole ones by noisy matrices too."""
    hflip, vflip = AffineTransform.hflip(2, size), AffineTransform.vflip(2, size)
    cases = [
        (AffineTransform.identity(2, size), lambda v: v),
        (hflip, lambda v: np.flip(v, 3)),
        (vflip, lambda v: np.flip(v, 2)),
    ]
    for k in range(4):
        turn = AffineTransform.rot90(k, 2, size)
        cases.append((turn, lambda v, k=k: np.rot90(v, k, (2, 3))))
        cases.append((turn @ hflip, lambda v, k=k: np.rot90(np.flip(v, 3), k, (2, 3))))
        cases.append(
            (AffineTransform.vflip(1, turn.out_size) @ turn, lambda v, k=k: np.flip(np.rot90(v, k, (2, 3)), 2))
        )
        if size[0] == size[1]:
            halves = [AffineTransform.from_params(angle=a, size=size) for a in (17.3, 90.0 * k - 17.3)]
            cases.append((halves[0] @ halves[1] @ hflip, lambda v, k=k: np.rot90(np.flip(v, 3), k, (2, 3))))
            cases.append((rotation([90.0 * k] * 2, size), lambda v, k=k: np.rot90(v, k, (2, 3))))
    return cases


class TestLatticeMoves:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 8), (6, 6), (7, 7)])
    def test_flips_turns_and_their_products_are_those_of_numpy(self, size, dtype, rng):
        image = special_image((2, 3, *size), dtype, rng)
        for t, by_numpy in lattice_cases(size):
            t = AffineTransform(t.matrix.expand(2, 3, 3), t.size, t.out_size)
            warped, real = warp(image, t, mode="lifting")
            assert warped.dtype == dtype
            assert real.all()
            assert np.array_equal(bits(warped), by_numpy(bits(image).numpy()))

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("xy", [(3, -2), (0, 1), (-7, 4), (8, 0)])
    def test_whole_shifts_and_crops_are_slices(self, xy, dtype, rng):
        image, (dx, dy) = special_image((1, 2, 5, 8), dtype, rng), xy
        warped, real = warp(image, AffineTransform.shift(torch.tensor([xy]), (5, 8)), mode="lifting")
        inside = torch.zeros(5, 8, dtype=torch.bool)
        inside[max(dy, 0) : 5 + min(dy, 0), max(dx, 0) : max(8 + min(dx, 0), 0)] = True
        assert torch.equal(real[0, 0], inside)
        rolled = torch.roll(bits(image), (dy, dx), (2, 3))
        assert torch.equal(bits(warped), torch.where(inside, rolled, 0))
        top, left = torch.tensor([1]), torch.tensor([2])
        cropped, real = warp(image, AffineTransform.crop(top, left, (3, 5), (5, 8)), mode="lifting")
        assert torch.equal(bits(cropped), bits(image[..., 1:4, 2:7]))
        assert real.all()


class TestPixels:
    @pytest.mark.parametrize("out_size", [(9, 12), (14, 7)])
    @pytest.mark.parametrize("masked", [False, True])
    @pytest.mark.parametrize("padding", ["fill", "border", "reflection"])
    def test_pixels_and_validity_are_those_of_a_loop_through_the_permutation(self, padding, masked, out_size, rng):
        t = mixed_motion((9, 12), out_size)
        mask = torch.rand(4, 1, 9, 12, generator=rng) < 0.85 if masked else None
        image = torch.rand(4, 2, 9, 12, generator=rng)
        if masked:
            image = torch.where(mask, image, math.nan)
        for direction, source in ((t, image), (t.inverse(), torch.rand(4, 2, *out_size, generator=rng))):
            options = {"valid": mask if direction is t else None, "padding": padding, "fill": -7.0}
            value, real = looped_warp(source, direction, **options)
            warped, valid = warp(source, direction, mode="lifting", **options)
            assert 0 < valid.sum() < valid.numel()
            assert torch.equal(valid, real)
            assert torch.equal(warped, value)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_a_round_trip_returns_identical_bits_inside_the_mask(self, dtype, rng):
        size, out_size = (17, 22), (20, 15)
        t = mixed_motion(size, out_size)
        image = special_image((4, 3, *size), dtype, rng)
        mask = torch.rand(4, 1, *size, generator=rng) < 0.9
        warped, real = warp(image, t, valid=mask, mode="lifting", fill=1)
        back, valid = warp(warped, t.inverse(), valid=real, mode="lifting", fill=1)
        x, y = Lifting.of(t).pixels(*region(size, 0))
        inside = (x >= 0) & (x < out_size[1]) & (y >= 0) & (y < out_size[0])
        assert valid.double().mean() > 0.4
        assert torch.equal(valid, mask & inside[:, None])
        assert warped.dtype == back.dtype == dtype
        shown = valid.expand_as(back)
        assert torch.equal(bits(back)[shown], bits(image)[shown])
        assert torch.equal(bits(back)[~shown], bits(torch.ones_like(image))[~shown])

    def test_a_round_trip_keeps_nan_payloads(self, rng):
        payload = torch.randint(1, 2**22, (1, 1, 21, 21), generator=rng, dtype=torch.int32)
        image = (payload | 0x7FC00000).view(torch.float32)
        t = rotation([30.0], (21, 21))
        warped, real = warp(image, t, mode="lifting")
        back, valid = warp(warped, t.inverse(), valid=real, mode="lifting")
        assert valid.sum() > 300
        assert torch.equal(bits(back)[valid], bits(image)[valid])

    def test_every_pixel_comes_back_through_a_frame_that_holds_them_all(self, rng):
        size, wide = (21, 34), (60, 60)
        labels = torch.randint(0, 2**62, (24, 1, *size), generator=rng)
        turned = rotation([15.0 * k for k in range(24)], size).matrix
        turned[:, 0, 2] += 13
        turned[:, 1, 2] += 19.5
        t = AffineTransform(turned, size, wide)
        warped, real = warp(labels, t, mode="lifting", fill=-1)
        assert (real.sum((1, 2, 3)) == 21 * 34).all()
        back, valid = warp(warped, t.inverse(), valid=real, mode="lifting", fill=-1)
        assert valid.all()
        assert torch.equal(back, labels)

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    @pytest.mark.parametrize("padding", ["fill", "border", "reflection"])
    def test_what_lies_under_the_mask_never_leaks_into_values_or_gradients(self, padding, bad, rng):
        t = mixed_motion((9, 12))
        mask = torch.rand(4, 1, 9, 12, generator=rng) < 0.8
        clean = torch.rand(4, 2, 9, 12, generator=rng)
        results = []
        for under in (0.0, bad):
            image = torch.where(mask, clean, under).requires_grad_()
            warped, real = warp(image, t, valid=mask, padding=padding, mode="lifting", fill=0.5)
            (grad,) = torch.autograd.grad(warped.square().sum(), image)
            assert not grad.masked_select(~mask.expand_as(grad)).any()
            results.append((warped.detach(), real, grad))
        assert results[0][2].any()
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))

    def test_nan_outside_the_mask_is_a_value_and_changes_no_validity(self, rng):
        image, t = torch.rand(4, 1, 9, 12, generator=rng), mixed_motion((9, 12))
        holed = image.clone()
        holed[..., 4, 6] = math.nan
        (whole, real), (warped, still) = (warp(value, t, mode="lifting") for value in (image, holed))
        assert torch.equal(real, still)
        assert warped.isnan().sum() == 4
        assert torch.equal(torch.where(warped.isnan(), whole, warped), whole)

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32, torch.float64])
    def test_normalising_is_that_by_hand_and_fill_stays_in_output_units(self, dtype, rng):
        image, t = (200 * torch.rand(4, 2, 9, 12, generator=rng)).to(dtype), mixed_motion((9, 12))
        mean, std = [100.0, 90.0], [50.0, 60.0]
        warped, real = warp(image, t, mode="lifting", normalize=(mean, std), fill=-9.0)
        value, expected_real = looped_warp(image.double(), t, fill=math.nan)
        column = torch.tensor([mean, std], dtype=torch.float64)[:, None, :, None, None]
        expected = torch.where(expected_real, (value - column[0]) / column[1], -9.0)
        assert torch.equal(real, expected_real)
        assert warped.dtype == (torch.float32 if dtype == torch.uint8 else dtype)
        torch.testing.assert_close(warped.double(), expected, atol=2e-3 if dtype == torch.float16 else 1e-6, rtol=0)

    def test_dtype_turns_labels_into_floats_and_nothing_else(self, rng):
        labels, t = torch.randint(0, 255, (4, 1, 9, 12), generator=rng, dtype=torch.uint8), mixed_motion((9, 12))
        plain = warp(labels, t, mode="lifting").image
        for wanted in FLOATS:
            assert torch.equal(warp(labels, t, mode="lifting", dtype=wanted).image, plain.to(wanted))
        with pytest.raises(ArgumentError, match="dtype must be torch.uint8 or floating"):
            warp(labels, t, mode="lifting", dtype=torch.int16)

    def test_an_empty_batch_is_moved_to_nothing(self):
        warped, real = warp(torch.zeros(0, 3, 9, 12), mixed_motion((9, 12))[:0], mode="lifting")
        assert warped.shape == (0, 3, 9, 12)
        assert real.shape == (0, 1, 9, 12)

    def test_arguments_are_never_written_to(self, rng):
        image, mask = torch.rand(4, 2, 9, 12, generator=rng), torch.rand(4, 1, 9, 12, generator=rng) < 0.9
        matrix = mixed_motion((9, 12)).matrix
        before = [part.clone() for part in (image, mask, matrix)]
        warp(image, AffineTransform(matrix, (9, 12)), valid=mask, mode="lifting", normalize=([0.5] * 2, [2.0] * 2))
        for part, clone in zip((image, mask, matrix), before, strict=True):
            assert torch.equal(part, clone)
            assert part._version == 0


class TestGradients:
    @pytest.mark.parametrize("dtype", FLOATS)
    @pytest.mark.parametrize("masked", [False, True])
    def test_the_gradient_is_the_inverse_permutation_of_what_comes_in(self, masked, dtype, rng):
        t = mixed_motion((9, 12), (10, 11))
        image = torch.rand(4, 2, 9, 12, generator=rng).to(dtype).requires_grad_()
        mask = torch.rand(4, 1, 9, 12, generator=rng) < 0.8 if masked else None
        warped, real = warp(image, t, valid=mask, mode="lifting", fill=3.0)
        cotangent = torch.randn(warped.shape, generator=rng).to(dtype)
        (grad,) = torch.autograd.grad(warped, image, cotangent)
        assert grad.count_nonzero() > 200
        assert torch.equal(grad, warp(cotangent, t.inverse(), valid=real, mode="lifting").image)

    @pytest.mark.parametrize("padding", ["fill", "border", "reflection"])
    def test_first_and_second_gradient_of_the_image(self, padding, rng):
        t = mixed_motion((3, 4))
        image = torch.rand(4, 2, 3, 4, generator=rng, dtype=torch.float64).requires_grad_()
        mask = torch.rand(4, 1, 3, 4, generator=rng) < 0.8

        def moved(image):
            options = {"valid": mask, "padding": padding, "normalize": ([0.5] * 2, [2.0] * 2)}
            return warp(image, t, mode="lifting", **options).image.square()

        assert gradcheck(moved, image)
        assert gradgradcheck(moved, image)

    def test_the_matrix_gets_no_gradient(self, rng):
        matrix = mixed_motion((5, 6)).matrix.requires_grad_()
        image = torch.rand(4, 1, 5, 6, generator=rng)
        for t in (AffineTransform(matrix, (5, 6)), AffineTransform(matrix, (5, 6)).inverse()):
            assert not warp(image, t, mode="lifting").image.requires_grad
        warped = warp(image.requires_grad_(), AffineTransform(matrix, (5, 6)), mode="lifting").image
        of_image, of_matrix = torch.autograd.grad(warped.sum(), [image, matrix], allow_unused=True)
        assert of_image.any()
        assert of_matrix is None
