import math
from fractions import Fraction
from itertools import pairwise
from types import MappingProxyType

import kornia.geometry as kornia_geometry
import numpy as np
import pytest
import torch
import torchvision.transforms.functional as tv_functional
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from s4aug import AffineTransform, ArgumentError, BackendUnavailable, RandomAffine, View, warp

MODES = ("bilinear", "nearest", "bicubic")
PADDINGS = ("fill", "border", "reflection")
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.int64)
CARRIER = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def bits(tensor):
    """The bytes of each value as an integer, so that NaN and the sign of zero compare."""
    if tensor.dtype in (torch.float16, torch.bfloat16):
        # torch itself gives a 16-bit NaN other bits, when it gathers or converts: here all are one.
        tensor = torch.where(tensor.isnan(), torch.full_like(tensor, math.nan), tensor)
    return tensor.contiguous().view(CARRIER[tensor.element_size()])


def special_image(shape, dtype, generator):
    """Values of all kinds: for floats NaN, infinities, -0.0, subnormals and the largest ones."""
    if dtype == torch.bool:
        return torch.rand(shape, generator=generator) < 0.5
    if not dtype.is_floating_point:
        limits = torch.iinfo(dtype)
        values = torch.randint(limits.min, min(limits.max, 2**62) + 1, shape, generator=generator)
        return values.to(dtype)
    info = torch.finfo(dtype)
    values = [math.nan, math.inf, -math.inf, 0.0, -0.0, info.max, info.tiny, info.smallest_normal / 4, 1.5]
    picked = torch.randint(len(values), shape, generator=generator)
    return torch.tensor(values, dtype=torch.float64).to(dtype)[picked]


def general(batch, size, generator, out_size=None):
    random = torch.rand(batch, 7, generator=generator, dtype=torch.float64)
    t = AffineTransform.from_params(
        angle=360 * random[:, 0],
        translation=(random[:, 1:3] - 0.5) * min(size) * 0.5,
        scale=0.7 + 0.6 * random[:, 3:5],
        shear=30 * random[:, 5:7] - 15,
        size=size,
    )
    return AffineTransform(t.matrix, size, out_size)


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


def gradient_case(batch, channels, size, seed=0):
    """A float64 image, its mask and a motion away from the lattice (where bilinear has kinks)."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(batch, channels, *size, generator=generator, dtype=torch.float64).requires_grad_()
    mask = torch.rand(batch, 1, *size, generator=generator) < 0.9
    random = torch.rand(batch, 7, generator=generator, dtype=torch.float64)
    parameters = {
        "angle": 40 + 10 * random[:, 0],
        "translation": 0.4 * random[:, 1:3] - 0.2,
        "scale": 0.9 + 0.3 * random[:, 3:5],
        "shear": 10 * random[:, 5:7],
    }
    return image, mask, {name: value.requires_grad_() for name, value in parameters.items()}


SHAPES = [(1, 1, (4, 5)), (2, 3, (3, 2)), (1, 2, (1, 1)), (2, 1, (1, 4)), (0, 2, (3, 4))]


class TestGradients:
    @pytest.mark.parametrize(("batch", "channels", "size"), SHAPES)
    @pytest.mark.parametrize("padding", PADDINGS)
    @pytest.mark.parametrize("mode", MODES)
    def test_first_and_second_gradient_of_the_image(self, mode, padding, batch, channels, size):
        image, mask, parameters = gradient_case(batch, channels, size)
        t = AffineTransform.from_params(**{k: v.detach() for k, v in parameters.items()}, size=size)

        def moved(image):
            return warp(
                image, t, valid=mask, mode=mode, padding=padding, normalize=([0.5] * channels, [2.0] * channels)
            ).image

        assert gradcheck(moved, image)
        assert gradgradcheck(moved, image)

    @pytest.mark.parametrize(("batch", "channels", "size"), SHAPES)
    @pytest.mark.parametrize("padding", PADDINGS)
    @pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
    def test_gradient_of_the_parameters_and_of_the_matrix(self, mode, padding, batch, channels, size):
        image, mask, parameters = gradient_case(batch, channels, size)

        def moved(image, *values):
            t = AffineTransform.from_params(**dict(zip(parameters, values, strict=True)), size=size)
            return warp(image, t, valid=mask, mode=mode, padding=padding, fill=0.3).image

        assert gradcheck(moved, (image, *parameters.values()))
        matrix = AffineTransform.from_params(**parameters, size=size).matrix[:, :2].detach().requires_grad_()

        def moved_by(image, top):
            bottom = top.new_tensor([0.0, 0.0, 1.0]).expand(len(top), 1, 3)
            t = AffineTransform(torch.cat([top, bottom], 1), size)
            return warp(image, t, valid=mask, mode=mode, padding=padding, fill=0.3).image

        assert gradcheck(moved_by, (image, matrix))

    @pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
    def test_float32_gradients_are_those_of_float64(self, mode):
        image, mask, parameters = gradient_case(2, 3, (9, 7))
        grads = []
        for dtype in (torch.float64, torch.float32):
            t = AffineTransform.from_params(**parameters, size=(9, 7))
            warped, _ = warp(image.to(dtype), t, valid=mask, mode=mode)
            weight = torch.linspace(-1, 1, warped.numel(), dtype=dtype).reshape(warped.shape)
            grads.append(torch.autograd.grad((warped * weight).sum(), [image, *parameters.values()]))
        for double, single in zip(*grads, strict=True):
            assert double.abs().sum() > 0
            assert_close(single, double, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_an_even_picture_has_no_slope_on_the_lattice_either(self, mode, dtype):
        image = torch.full((1, 1, 5, 5), 3.0, dtype=dtype)
        for shift in ((0.0, 0.0), (0.5, 0.0), (0.0, 0.25)):
            xy = torch.tensor([shift], dtype=torch.float64, requires_grad=True)
            t = AffineTransform.from_params(translation=xy, size=(5, 5))
            warp(image, t, mode=mode, padding="border").image.sum().backward()
            assert_close(xy.grad, torch.zeros_like(xy.grad), atol=1e-5, rtol=0)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_the_slope_at_the_identity_is_the_forward_difference_of_what_may_be_read(self, dtype, rng):
        image = torch.rand(1, 1, 4, 6, generator=rng, dtype=dtype)
        mask = torch.ones(1, 1, 4, 6, dtype=torch.bool)
        mask[0, 0, 2, 2] = False
        image[0, 0, 2, 2] = torch.nan
        t = AffineTransform.from_params(translation=torch.zeros(1, 2).double().requires_grad_(), size=(4, 6))
        matrix = t.matrix.detach().requires_grad_()
        warped, valid = warp(image, AffineTransform(matrix, (4, 6)), valid=mask, fill=-1.0)
        # The neighbours that tell the slope are not read for the value.
        assert torch.equal(valid, mask)
        assert_close(warped, torch.where(mask, image, -1.0), rtol=0, atol=0)
        for y in range(4):
            for x in range(6):
                if not mask[0, 0, y, x]:
                    continue
                (grad,) = torch.autograd.grad(warped[0, 0, y, x], matrix, retain_graph=True)
                told = x + 1 < 6 and mask[0, 0, y, x + 1]
                slope = image[0, 0, y, x + 1] - image[0, 0, y, x] if told else torch.zeros((), dtype=dtype)
                # The source coordinate falls as the shift grows.
                assert_close(grad[0, 0, 2], -slope.double(), rtol=1e-5, atol=1e-6)

    def test_a_motion_that_begins_at_the_identity_is_learned(self, rng):
        yy, xx = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
        image = (torch.sin(xx / 4) + torch.cos(yy / 5))[None, None]
        goal = warp(image, AffineTransform.from_params(translation=(1.4, -0.8), size=(24, 24)))
        shift = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Adam([shift], lr=0.1)
        for _ in range(80):
            moved = warp(image, AffineTransform.from_params(translation=shift, size=(24, 24)))
            loss = torch.where(moved.valid & goal.valid, moved.image - goal.image, 0).square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert_close(shift.detach(), torch.tensor([[1.4, -0.8]], dtype=torch.float64), atol=0.05, rtol=0)

    def test_labels_carry_no_gradient_to_the_matrix(self):
        matrix = torch.eye(3, dtype=torch.float64)[None].requires_grad_()
        warped, _ = warp(torch.ones(1, 1, 3, 3), AffineTransform(matrix, (3, 3)), mode="nearest")
        assert not warped.requires_grad

    def test_the_gradient_of_a_round_trip_reaches_the_image(self, rng):
        image = torch.rand(1, 2, 6, 6, generator=rng, dtype=torch.float64).requires_grad_()
        t = general(1, (6, 6), rng)

        def round_trip(image):
            view = View.of(image, t)
            return view.restore(view.image).image

        assert gradcheck(round_trip, image)


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


class TestGradientsOfTheRest:
    @pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
    @pytest.mark.parametrize("name", ["angle", "translation", "scale", "shear", "center"])
    def test_each_parameter_alone_with_a_mask_on_a_frame_that_is_not_square(self, name, mode, rng):
        image, mask, parameters = gradient_case(2, 2, (3, 5))
        parameters["center"] = torch.rand(2, 2, generator=rng, dtype=torch.float64) + 1
        fixed = {key: value.detach() for key, value in parameters.items() if key != name}

        def moved(value):
            t = AffineTransform.from_params(**fixed, **{name: value}, size=(3, 5))
            t = AffineTransform(t.matrix, (3, 5), (4, 6))
            return warp(image.detach(), t, valid=mask, mode=mode, padding="border").image

        value = parameters[name].detach().requires_grad_()
        (grad,) = torch.autograd.grad(moved(value).square().sum(), value)
        assert grad.abs().min() > 0
        assert gradcheck(moved, value)

    @pytest.mark.parametrize("numbers", ["mean", "std"])
    def test_of_the_statistics(self, numbers, rng):
        image, mask, parameters = gradient_case(1, 2, (3, 5))
        t = AffineTransform.from_params(**{k: v.detach() for k, v in parameters.items()}, size=(3, 5))
        given = torch.tensor([0.4, 1.3], dtype=torch.float64).requires_grad_()
        other = torch.tensor([0.7, 1.1], dtype=torch.float64)

        def moved(image, given):
            normalize = (given, other) if numbers == "mean" else (other, given)
            return warp(image, t, valid=mask, normalize=normalize).image

        assert gradcheck(moved, (image, given))
