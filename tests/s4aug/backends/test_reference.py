"""The reference against pixel-by-pixel loops and against other packages."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from torch.nn import functional as F
from torch.testing import assert_close

from s4aug import AffineTransform, warp

MODES = ("bilinear", "nearest", "bicubic")
PADDINGS = ("fill", "border", "reflection")
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
INTEGERS = (torch.uint8, torch.int16, torch.uint16, torch.int64)
# Half an ulp of the output dtype relative to values below 4, and float32 weights.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def random_image(shape, dtype, generator):
    if dtype == torch.bool:
        return torch.rand(shape, generator=generator) < 0.5
    if not dtype.is_floating_point:
        limits = torch.iinfo(dtype)
        low, high = max(limits.min, -(2**52)), min(limits.max, 2**52)
        return torch.randint(low, high + 1, shape, generator=generator).to(dtype)
    return torch.rand(shape, generator=generator).to(dtype)


def random_motion(batch, size, out_size, generator):
    """Any rotation, scale 0.5 to 1.8, shear and a shift that keeps some of the frame in view."""
    random = torch.rand(batch, 7, generator=generator, dtype=torch.float64)
    general = AffineTransform.from_params(
        angle=360 * random[:, 0],
        translation=(random[:, 1:3] - 0.5) * torch.tensor([size[1], size[0]]) * 0.6,
        scale=0.5 + 1.3 * random[:, 3:5],
        shear=40 * random[:, 5:7] - 20,
        size=size,
    )
    return AffineTransform(general.matrix, size, out_size)


def assert_as_brute_force(oracle, image, transform, **options):
    warped, real = warp(image, transform, **options)
    value, valid = oracle(image, transform.matrix, transform.out_size, **options)
    assert real.dtype == torch.bool
    assert np.array_equal(real.numpy(), valid)
    if not warped.dtype.is_floating_point:
        assert np.array_equal(warped.to(torch.float64).numpy(), value)
        return
    assert_close(warped.double().numpy(), value, atol=TOLERANCE[warped.dtype], rtol=TOLERANCE[warped.dtype])


class TestAgainstLoops:
    @pytest.mark.parametrize("padding", PADDINGS)
    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize(
        ("batch", "channels", "size", "out_size"),
        [
            (1, 1, (1, 1), (3, 4)),
            (3, 1, (1, 6), (5, 2)),
            (1, 3, (5, 1), (5, 5)),
            (3, 3, (7, 10), (7, 10)),
            (1, 7, (16, 9), (4, 17)),
            (0, 3, (4, 5), (4, 5)),
        ],
    )
    def test_value_and_validity(self, batch, channels, size, out_size, mode, padding, rng, brute_force_warp):
        for dtype in (torch.float64, torch.float32):
            image = random_image((batch, channels, *size), dtype, rng)
            t = random_motion(batch, size, out_size, rng)
            mask = torch.rand(batch, 1, *size, generator=rng) < 0.9
            for valid in (None, mask):
                options = {"mode": mode, "padding": padding, "fill": -2.0, "valid": valid}
                assert_as_brute_force(brute_force_warp, image, t, **options)

    @pytest.mark.parametrize("dtype", FLOATS)
    @pytest.mark.parametrize("mode", MODES)
    def test_every_floating_dtype(self, mode, dtype, rng, brute_force_warp):
        image = random_image((2, 3, 9, 6), dtype, rng)
        assert_as_brute_force(brute_force_warp, image, random_motion(2, (9, 6), (8, 11), rng), mode=mode, fill=0.5)

    @pytest.mark.parametrize("dtype", [*INTEGERS, torch.bool])
    def test_every_integer_dtype_is_kept_by_nearest(self, dtype, rng, brute_force_warp):
        image = random_image((2, 3, 9, 6), dtype, rng)
        t = random_motion(2, (9, 6), (8, 11), rng)
        mask = torch.rand(2, 1, 9, 6, generator=rng) < 0.8
        assert warp(image, t, mode="nearest").image.dtype == dtype
        for padding in PADDINGS:
            assert_as_brute_force(brute_force_warp, image, t, mode="nearest", fill=1, padding=padding, valid=mask)

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16, torch.bool])
    @pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
    def test_integers_are_interpolated_in_floating_point(self, mode, dtype, rng, brute_force_warp):
        image = random_image((1, 2, 7, 7), dtype, rng)
        t = random_motion(1, (7, 7), (7, 7), rng)
        warped, real = warp(image, t, mode=mode)
        value, valid = brute_force_warp(image, t.matrix, (7, 7), mode=mode)
        assert warped.dtype == torch.get_default_dtype()
        assert np.array_equal(real.numpy(), valid)
        assert_close(warped.double().numpy(), value, rtol=1e-5, atol=1e-6 * float(image.double().abs().max()))

    @given(
        st.integers(0, 2**31),
        st.tuples(*[st.integers(1, 8)] * 4),
        st.sampled_from(MODES),
        st.sampled_from(PADDINGS),
    )
    def test_any_size_motion_mode_and_padding(self, brute_force_warp, seed, sides, mode, padding):
        generator = torch.Generator().manual_seed(seed)
        size, out_size = sides[:2], sides[2:]
        image = random_image((1, 1, *size), torch.float32, generator)
        t = random_motion(1, size, out_size, generator)
        mask = torch.rand(1, 1, *size, generator=generator) < 0.9
        assert_as_brute_force(brute_force_warp, image, t, mode=mode, padding=padding, fill=3.0, valid=mask)

    @pytest.mark.parametrize("padding", PADDINGS)
    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize(
        "rows",
        [
            [[1, 0, 0.5], [0, 1, 0]],  # on the lattice in y, between columns in x
            [[1, 0, -2.5], [0, 1, 1.5]],  # ties
            [[2, 0, 0], [0, 2, 0.5]],
            [[0.5, 0, 0], [0, 0.5, 0]],
            [[-1, 0, 4.5], [0, -1, 2]],
            [[1, 0.5, 0], [0, 1, 0]],  # on the lattice in every second row
            [[1, 0, 40], [0, 1, 0]],  # all outside
        ],
    )
    def test_lattice_points_ties_and_edges(self, rows, mode, padding, rng, brute_force_warp):
        t = AffineTransform(torch.tensor([[*rows, [0, 0, 1]]], dtype=torch.float64), (5, 6), (6, 7))
        mask = torch.rand(1, 1, 5, 6, generator=rng) < 0.8
        for dtype in (torch.float32, torch.float64):
            image = random_image((1, 2, 5, 6), dtype, rng)
            for valid in (None, mask):
                options = {"mode": mode, "padding": padding, "valid": valid, "fill": -1.0}
                assert_as_brute_force(brute_force_warp, image, t, **options)

    def test_the_comparison_sees_one_wrong_pixel_and_one_wrong_validity(self, rng, brute_force_warp):
        image = random_image((1, 1, 6, 6), torch.float64, rng)
        t = random_motion(1, (6, 6), (6, 6), rng)
        assert_as_brute_force(brute_force_warp, image, t)

        def wrong_value(*args, **options):
            value, valid = brute_force_warp(*args, **options)
            value[0, 0, 3, 3] += 1e-9
            return value, valid

        def wrong_validity(*args, **options):
            value, valid = brute_force_warp(*args, **options)
            valid[0, 0, 0, 0] ^= True
            return value, valid

        for wrong in (wrong_value, wrong_validity):
            with pytest.raises(AssertionError):
                assert_as_brute_force(wrong, image, t)


class TestAgainstOtherPackages:
    """Where the picture is whole; scipy and OpenCV know no validity."""

    @pytest.fixture
    def scene(self, rng):
        image = random_image((1, 1, 23, 18), torch.float64, rng)
        return image, random_motion(1, (23, 18), (21, 25), rng)

    @pytest.mark.parametrize(("order", "mode"), [(0, "nearest"), (1, "bilinear")])
    def test_scipy_in_float64(self, order, mode, scene):
        image, t = scene
        # scipy maps output (row, column) to input (row, column).
        swap = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1.0]])
        matrix = swap @ np.linalg.inv(t.matrix[0].numpy()) @ swap
        # Whole numbers are pixel centres there too; nearest rounds ties otherwise, none occur here.
        expected = ndimage.affine_transform(
            image[0, 0].numpy(), matrix, output_shape=t.out_size, order=order, mode="nearest"
        )
        warped, real = warp(image, t, mode=mode)
        inside = real[0, 0].numpy()
        assert inside.sum() > 100
        assert_close(warped[0, 0].numpy()[inside], expected[inside], atol=1e-10, rtol=0)

    @pytest.mark.parametrize("padding", PADDINGS)
    @pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
    def test_grid_sample_of_torch(self, mode, padding, scene):
        image, t = scene
        height, width = t.out_size
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        pixels = torch.stack([x, y, torch.ones_like(x)], -1).double()
        xy = pixels @ torch.linalg.inv(t.matrix[0]).T[:, :2]
        grid = (2 * xy + 1) / torch.tensor([18.0, 23.0]) - 1
        theirs = {"fill": "zeros"}.get(padding, padding)
        expected = F.grid_sample(image, grid[None], mode, theirs, align_corners=False)
        warped, real = warp(image, t, mode=mode, padding=padding)
        assert_close(warped[real], expected[real], atol=1e-12, rtol=0)
        if padding == "border" or (mode, padding) == ("bicubic", "reflection"):
            assert_close(warped, expected, atol=1e-12, rtol=0)

    @pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
    def test_opencv_within_its_1_32_px_of_coordinates(self, mode, scene):
        _, t = scene
        y, x = np.mgrid[:23, :18].astype(np.float32)
        smooth = np.sin(x / 9) + np.cos(y / 8)
        flag = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}[mode]
        expected = cv2.warpAffine(smooth, t.matrix[0, :2].numpy(), t.out_size[::-1], flags=flag)
        warped, real = warp(torch.from_numpy(smooth)[None, None], t, mode=mode)
        inside = real[0, 0].numpy()
        assert np.abs(warped[0, 0].numpy() - expected)[inside].max() < 0.5 / 32 * (1 / 9 + 1 / 8) * 1.5

    @pytest.mark.parametrize(
        ("size", "out_size"), [((8, 6), (13, 17)), ((5, 9), (10, 18)), ((12, 12), (12, 12)), ((8, 12), (4, 6))]
    )
    @pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
    def test_resizing_is_that_of_torch(self, mode, size, out_size, rng):
        image = random_image((2, 3, *size), torch.float64, rng)
        warped, real = warp(image, AffineTransform.resize(out_size, size, 2), mode=mode, padding="border")
        expected = F.interpolate(image, out_size, mode=mode, align_corners=False)
        assert real.any()
        assert_close(warped, expected, atol=1e-12, rtol=0)

    def test_nearest_resizing_is_that_of_torch(self, rng):
        image = random_image((1, 1, 6, 10), torch.float32, rng)
        warped, real = warp(image, AffineTransform.resize((12, 30), (6, 10), 1), mode="nearest")
        assert real.all()
        assert torch.equal(warped, F.interpolate(image, (12, 30), mode="nearest-exact"))
