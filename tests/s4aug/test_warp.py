"""Fill, normalisation, types and arguments of a warp."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from s4aug import AffineTransform, ArgumentError, BackendUnavailable, RandomAffine, warp
from tests.s4aug.motions import general
from tests.s4aug.pixels import FLOATS, INTEGERS, MODES, PADDINGS


class TestFillNormalizeDtype:
    @pytest.mark.parametrize("fill", [0.0, -3.5, math.nan, math.inf])
    def test_fill_stands_where_nothing_is_valid(self, fill, rng):
        image, t = torch.rand(2, 3, 6, 9, generator=rng), general(2, (6, 9), rng)
        for mode in MODES:
            warped, real = warp(image, t, fill=fill, mode=mode)
            outside = warped[~real.expand_as(warped)]
            assert len(outside) > 0
            assert_close(outside, torch.full_like(outside, fill), equal_nan=True, atol=0, rtol=0)

    def test_a_mask_of_nothing_gives_fill_everywhere(self, rng):
        image, none = torch.rand(1, 2, 5, 5, generator=rng), torch.zeros(1, 1, 5, 5, dtype=torch.bool)
        for padding in PADDINGS:
            warped, real = warp(image, general(1, (5, 5), rng), valid=none, fill=7, padding=padding)
            assert (warped == 7).all()
            assert not real.any()

    @pytest.mark.parametrize(
        ("dtype", "fill"),
        [(torch.uint8, 256), (torch.uint8, -1), (torch.int8, 128), (torch.uint16, 65536), (torch.int64, 2**63)]
        + [(torch.uint8, value) for value in (0.5, math.nan, math.inf, -math.inf)],
    )
    def test_a_fill_that_the_labels_cannot_hold_is_an_error(self, dtype, fill):
        labels = torch.zeros(1, 1, 3, 3, dtype=dtype)
        with pytest.raises(ArgumentError, match="fill must be a whole number in the range"):
            warp(labels, AffineTransform.identity(1, (3, 3)), mode="nearest", fill=fill)

    @pytest.mark.parametrize(
        ("dtype", "fill"), [(torch.uint8, 255), (torch.uint16, 65535), (torch.int64, 2**63 - 1), (torch.int8, -128)]
    )
    def test_the_largest_fill_of_a_label_type_is_kept_exactly(self, dtype, fill):
        labels = torch.ones(1, 1, 3, 3, dtype=dtype)
        out = AffineTransform.shift(torch.tensor([[9, 0]]), (3, 3))
        assert warp(labels, out, mode="nearest", fill=fill).image.flatten().tolist() == [fill] * 9

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8])
    def test_normalising_is_that_by_hand_and_fill_stays_in_output_units(self, mode, dtype, rng):
        image = (200 * torch.rand(2, 3, 7, 6, generator=rng)).to(dtype)
        t = general(2, (7, 6), rng)
        mean, std = [100.0, 90.0, 80.0], [50.0, 60.0, 70.0]
        warped, real = warp(image, t, mode=mode, normalize=(mean, std), fill=-9.0)
        plain, plain_real = warp(image, t, mode=mode, dtype=torch.float64)
        column = torch.tensor([mean, std], dtype=torch.float64)[:, None, :, None, None]
        expected = torch.where(plain_real, (plain - column[0]) / column[1], -9.0)
        assert torch.equal(real, plain_real)
        assert warped.dtype == (torch.float16 if dtype == torch.float16 else torch.float32)
        assert_close(warped.double(), expected, atol=2e-3 if dtype == torch.float16 else 1e-5, rtol=0)
        as_tensors = warp(image, t, mode=mode, normalize=(torch.tensor(mean), torch.tensor(std)), fill=-9.0)
        assert torch.equal(as_tensors.image, warped)

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("dtype", FLOATS)
    def test_the_output_has_the_dtype_of_the_input_under_autocast(self, mode, dtype, rng):
        image, t = torch.rand(1, 2, 5, 6, generator=rng).to(dtype), general(1, (5, 6), rng)
        expected = warp(image, t, mode=mode, normalize=([0.5, 0.4], [0.2, 0.3]))
        for cast in (torch.bfloat16, torch.float16):
            with torch.autocast("cpu", cast):
                warped, real = warp(image, t, mode=mode, normalize=([0.5, 0.4], [0.2, 0.3]))
            assert warped.dtype == dtype
            assert torch.equal(warped, expected.image)
            assert torch.equal(real, expected.valid)

    def test_pixels_keep_their_coordinates_under_autocast(self):
        # A ramp shows the coordinate sampled. float32 holds 512 px to 3e-5.
        size = (512, 512)
        ramp = torch.arange(-256.0, 256).expand(1, 1, *size)
        t = RandomAffine(15, (0.2, 0.2), (0.75, 1.25)).sample(1, size, seed=torch.tensor([3]))
        with torch.autocast("cpu", torch.bfloat16):
            warped, real = warp(ramp, t)
        y, x = torch.meshgrid(torch.arange(512.0), torch.arange(512.0), indexing="ij")
        pixels = torch.stack([x, y, torch.ones_like(x)], -1).double()
        expected = pixels @ torch.linalg.inv(t.matrix[0])[0] - 256
        assert (warped[0, 0] - expected)[real[0, 0]].abs().max() < 1e-4

    @pytest.mark.parametrize("wanted", [torch.float16, torch.float32, torch.float64])
    def test_dtype_sets_the_output_type(self, wanted, rng):
        image = torch.randint(0, 255, (1, 2, 5, 6), generator=rng, dtype=torch.uint8)
        for mode in MODES:
            assert warp(image, general(1, (5, 6), rng), mode=mode, dtype=wanted).image.dtype == wanted

    @pytest.mark.parametrize("mode", MODES)
    def test_non_contiguous_and_expanded_images_are_the_same_images(self, mode, rng):
        image, t = torch.rand(2, 6, 5, 3, generator=rng).permute(0, 3, 1, 2), general(2, (6, 5), rng)
        mask = (torch.rand(1, 1, 5, 6, generator=rng) < 0.9).mT.expand(2, -1, -1, -1)
        expected = warp(image.contiguous(), t, valid=mask.contiguous(), mode=mode)
        for a, b in zip(warp(image, t, valid=mask, mode=mode), expected, strict=True):
            assert torch.equal(a, b)


class TestArguments:
    @pytest.mark.parametrize("mode", MODES)
    def test_arguments_are_never_written_to(self, mode, rng):
        image = torch.rand(2, 3, 6, 5, generator=rng).requires_grad_()
        mask = torch.rand(2, 1, 6, 5, generator=rng) < 0.9
        matrix = general(2, (6, 5), rng).matrix.requires_grad_()
        mean, std = torch.rand(3, generator=rng), 1 + torch.rand(3, generator=rng)
        arguments = [image, mask, matrix, mean, std]
        before = [(argument.detach().clone(), argument._version) for argument in arguments]
        warped, _ = warp(image, AffineTransform(matrix, (6, 5)), valid=mask, mode=mode, normalize=(mean, std), fill=1.0)
        inputs = [image] if mode == "nearest" else [image, matrix]
        upstream = torch.rand(warped.shape, generator=rng)
        kept = upstream.clone()
        first = torch.autograd.grad(warped, inputs, upstream, retain_graph=True)
        second = torch.autograd.grad(warped, inputs, upstream)
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        assert torch.equal(upstream, kept)
        for argument, (clone, version) in zip(arguments, before, strict=True):
            assert torch.equal(argument, clone)
            assert argument._version == version

    def test_the_result_shares_no_memory_with_the_image(self):
        image = torch.zeros(1, 1, 3, 3)
        for mode in MODES:
            warped = warp(image, AffineTransform.identity(1, (3, 3)), mode=mode).image
            assert warped.data_ptr() != image.data_ptr()

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"image": torch.zeros(2, 4, 5)}, "image must have shape"),
            ({"image": torch.zeros(2, 1, 5, 4)}, "transform.at"),
            ({"image": torch.zeros(3, 1, 4, 5)}, "image has batch 3"),
            ({"valid": torch.ones(2, 1, 4, 5)}, "valid must be bool"),
            ({"valid": torch.ones(2, 4, 5, dtype=torch.bool)}, "valid must be bool"),
            ({"mode": "cubic"}, "mode must be one of"),
            ({"padding": "zeros"}, "padding must be one of"),
            ({"dtype": torch.uint8}, "dtype must be floating"),
            ({"dtype": torch.uint8, "mode": "nearest"}, "dtype must be torch.float32 or floating"),
            ({"normalize": ([0.0, 0.0], [1.0])}, "normalize mean needs 1"),
            ({"normalize": ([0.0], [1.0, 1.0])}, "normalize std needs 1"),
        ],
    )
    def test_bad_arguments_are_named(self, change, named):
        arguments = {"image": torch.zeros(2, 1, 4, 5), "transform": AffineTransform.identity(2, (4, 5)), **change}
        with pytest.raises(ArgumentError, match=named):
            warp(**arguments)

    def test_a_backend_that_is_not_there_is_an_error_and_torch_is(self, rng):
        image, t = torch.rand(1, 1, 4, 5, generator=rng), general(1, (4, 5), rng)
        with pytest.raises(BackendUnavailable, match="cuda"):
            warp(image, t, backend="cuda")
        assert torch.equal(warp(image, t, backend="torch").image, warp(image, t).image)


class TestEveryIntegerType:
    TYPES = (*INTEGERS, torch.uint64)

    def case(self, dtype, generator):
        """Values below 100, the largest one there is under the mask."""
        image = torch.randint(0, 100, (2, 3, 7, 6), generator=generator).to(dtype)
        mask = torch.rand(2, 1, 7, 6, generator=generator) < 0.85
        largest = torch.full((), torch.iinfo(dtype).max, dtype=dtype)
        holed = image.clone()
        for index in (~mask).expand_as(image).nonzero().tolist():
            holed[tuple(index)] = largest
        return image, holed, mask

    @pytest.mark.parametrize("dtype", TYPES)
    @pytest.mark.parametrize("mode", MODES)
    def test_masked_and_normalised_it_is_that_of_float64_by_hand(self, mode, dtype, rng, brute_force_warp):
        image, holed, mask = self.case(dtype, rng)
        t = general(2, (7, 6), rng)
        mean, std = [10.25, 20.5, 30.0], [5.5, 6.0, 7.75]
        warped, real = warp(holed, t, valid=mask, mode=mode, normalize=(mean, std), fill=-9.0)
        value, valid = brute_force_warp(image, t.matrix, (7, 6), valid=mask, mode=mode)
        scaled = (value - np.array(mean)[:, None, None]) / np.array(std)[:, None, None]
        assert 3 < valid.sum() < 84
        assert np.array_equal(real.numpy(), valid)
        assert warped.dtype == torch.float32
        assert_close(warped.double().numpy(), np.where(valid, scaled, -9.0), atol=3e-5, rtol=1e-5)

    @pytest.mark.parametrize("dtype", TYPES)
    def test_labels_under_a_mask_keep_type_and_values(self, dtype, rng, brute_force_warp):
        image, holed, mask = self.case(dtype, rng)
        t = general(2, (7, 6), rng)
        warped, real = warp(holed, t, valid=mask, mode="nearest", fill=111)
        value, valid = brute_force_warp(image, t.matrix, (7, 6), valid=mask, mode="nearest", fill=111)
        assert warped.dtype == dtype
        assert np.array_equal(real.numpy(), valid)
        assert np.array_equal(warped.to(torch.float64).numpy(), value)

    @pytest.mark.parametrize("dtype", TYPES)
    def test_the_ends_of_the_range_are_fills_and_one_beyond_is_refused(self, dtype):
        labels = torch.ones(1, 1, 2, 2).to(dtype)
        away = AffineTransform.shift(torch.tensor([[9, 0]]), (2, 2))
        limits = torch.iinfo(dtype)
        for end, beyond in ((limits.min, limits.min - 1), (limits.max, limits.max + 1)):
            assert warp(labels, away, mode="nearest", fill=end).image.flatten().tolist() == [end] * 4
            with pytest.raises(ArgumentError, match="whole number in the range"):
                warp(labels, away, mode="nearest", fill=beyond)

    @pytest.mark.parametrize("dtype", TYPES)
    def test_normalised_labels_are_normalised_values(self, dtype):
        labels = torch.arange(6).reshape(1, 1, 2, 3).to(dtype)
        turned = warp(labels, AffineTransform.rot90(2, 1, (2, 3)), mode="nearest", normalize=([1.0], [2.0])).image
        assert turned.flatten().tolist() == [2.0, 1.5, 1.0, 0.5, 0.0, -0.5]
