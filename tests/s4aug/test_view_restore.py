"""Predictions come back to the frame of the images."""

from fractions import Fraction
from types import MappingProxyType

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from s4aug import AffineTransform, ArgumentError, RandomAffine, View
from tests.s4aug.motions import PAPER


def motion(batch, size, generator, out_size=None):
    random = torch.rand(batch, 7, generator=generator, dtype=torch.float64)
    t = AffineTransform.from_params(
        angle=60 * random[:, 0] - 30,
        translation=(random[:, 1:3] - 0.5) * 6,
        scale=0.8 + 0.4 * random[:, 3:5],
        shear=20 * random[:, 5:7] - 10,
        size=size,
    )
    return AffineTransform(t.matrix, size, out_size)


def to_cells(matrix, stride, first):
    """The motion of cells that stand at pixels `stride * i + first`, by conjugation in numpy."""
    stand = np.array([[stride, 0, first], [0, stride, first], [0, 0, 1.0]])
    return torch.from_numpy(np.linalg.inv(stand) @ matrix.numpy() @ stand)


def pooled(valid, cells, stride, first):
    """A cell is valid when all pixels that overlap it are, cell by cell and pixel by pixel."""
    reach = Fraction(stride) / 2 + Fraction(1, 2)
    touched = [
        [
            [p for p in range(side) if abs(p - (Fraction(stride) * cell + Fraction(first))) < reach]
            for cell in range(count)
        ]
        for side, count in zip(valid.shape[-2:], cells, strict=True)
    ]
    result = torch.zeros(len(valid), 1, *cells, dtype=torch.bool)
    for b, i, j in np.ndindex(len(valid), *cells):
        result[b, 0, i, j] = all(valid[b, 0, y, x] for y in touched[0][i] for x in touched[1][j])
    return result


class TestRestore:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
    @pytest.mark.parametrize("xy", [(3, -2), (0, 0), (-6, 5), (20, 0)])
    def test_a_whole_pixel_shift_comes_back_bit_exact_where_valid(self, xy, dtype, rng):
        images = torch.randn(2, 3, 8, 11, generator=rng).to(dtype)
        view = View.of(images, AffineTransform.shift(torch.tensor([xy, xy]), (8, 11)))
        back, valid = view.restore(view.image)
        assert torch.equal(back[valid.expand_as(back)], images[valid.expand_as(back)])
        assert valid.sum() == 2 * max(0, 8 - abs(xy[1])) * max(0, 11 - abs(xy[0]))

    @pytest.mark.parametrize("k", [0, 1, 2, 3])
    def test_quarter_turns_of_odd_frames_come_back_whole(self, k, rng):
        images = torch.randn(2, 3, 5, 8, generator=rng)
        view = View.of(images, AffineTransform.rot90(k, 2, (5, 8)))
        assert torch.equal(view.image, torch.rot90(images, k, (2, 3)))
        back, valid = view.restore(view.image)
        assert torch.equal(back, images)
        assert valid.all()

    @pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
    @pytest.mark.parametrize(("size", "out_size"), [((9, 12), (9, 12)), ((11, 7), (8, 13)), ((1, 9), (3, 9))])
    @pytest.mark.parametrize("masked", [False, True])
    def test_validity_is_that_of_the_round_trip(self, masked, size, out_size, mode, rng, brute_force_warp):
        images = torch.rand(2, 1, *size, generator=rng)
        t = motion(2, size, rng, out_size)
        mask = torch.rand(2, 1, *size, generator=rng) < 0.95 if masked else None
        view = View.of(images, t, valid=mask, mode=mode)
        prediction = torch.rand(2, 4, *out_size, generator=rng)
        back, valid = view.restore(prediction)
        _, there = brute_force_warp(images, t.matrix, out_size, valid=mask, mode=mode)
        value, home = brute_force_warp(prediction, torch.linalg.inv(t.matrix), size, valid=torch.from_numpy(there))
        assert np.array_equal(view.valid.numpy(), there)
        assert np.array_equal(valid.numpy(), home)
        assert_close(back.double().numpy(), value, atol=1e-5, rtol=0)

    def test_a_band_limited_image_comes_back_within_the_bound_of_two_interpolations(self, rng):
        # Bilinear errs by at most (|f_uu| + |f_vv|) / 8; here both are below w^2, and it is done twice.
        w = 2 * torch.pi / 24
        y, x = torch.meshgrid(torch.arange(50.0), torch.arange(60.0), indexing="ij")
        image = (torch.sin(w * x) * torch.cos(w * y))[None, None]
        view = RandomAffine(degrees=180, translate=(0.1, 0.1))(image, generator=rng)
        back, valid = view.restore(view.image)
        error = (back - image)[valid].abs().max()
        assert valid.double().mean() > 0.4
        assert 1e-3 < error < 2 * 2 * w**2 / 8

    @pytest.mark.parametrize("offset", [None, 0.0, 2.0])
    @pytest.mark.parametrize(
        ("stride", "size", "out_size"), [(4, (48, 36), (36, 48)), (4, (45, 30), (45, 30)), (8, (57, 43), (50, 60))]
    )
    def test_coarse_maps_come_back_to_where_their_cells_stand(self, stride, size, out_size, offset, rng):
        first = (stride - 1) / 2 if offset is None else offset
        t = motion(2, size, rng, out_size)
        view = View(torch.zeros(2, 1, *out_size), torch.ones(2, 1, *out_size, dtype=torch.bool), t)

        def field(xy):  # [..., 2], a plane, which bilinear interpolation keeps
            return xy[..., 0] * 0.7 - xy[..., 1] * 0.3 + 5

        def stands(height, width):
            y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
            return stride * torch.stack([x, y], -1).reshape(1, -1, 2).double().expand(2, -1, -1) + first

        cells, source_cells = ([-(-side // stride) for side in frame] for frame in (out_size, size))
        home = torch.linalg.inv(t.matrix)
        where = stands(*cells) @ home[:, :2, :2].mT + home[:, None, :2, 2]
        prediction = field(where).reshape(2, 1, *cells)
        back, valid = view.restore(prediction, stride=stride, offset=offset)
        expected = field(stands(*source_cells)).reshape(2, 1, *source_cells)
        assert valid.sum() > 4
        assert_close(back[valid], expected[valid], atol=1e-9, rtol=0)

    @pytest.mark.parametrize("offset", [None, 0.0, 1.0])
    @pytest.mark.parametrize("stride", [2, 4])
    @pytest.mark.parametrize(("size", "out_size"), [((13, 18), (13, 18)), ((16, 24), (24, 16)), ((17, 9), (10, 21))])
    def test_a_cell_is_valid_when_all_its_pixels_are(self, size, out_size, stride, offset, rng, brute_force_warp):
        first = (stride - 1) / 2 if offset is None else offset
        t = motion(2, size, rng, out_size)
        mask = torch.rand(2, 1, *size, generator=rng) < 0.98
        view = View.of(torch.zeros(2, 1, *size), t, valid=mask)
        cells, source_cells = ([-(-side // stride) for side in frame] for frame in (out_size, size))
        back, valid = view.restore(torch.ones(2, 1, *cells), stride=stride, offset=offset)
        assert back.shape[-2:] == torch.Size(source_cells)
        whole = pooled(view.valid, cells, stride, first)
        home = torch.stack([torch.linalg.inv(to_cells(m, stride, first)) for m in t.matrix])
        _, expected = brute_force_warp(torch.ones(2, 1, *cells), home, source_cells, valid=whole)
        assert np.array_equal(valid.numpy(), expected)

    def test_one_masked_pixel_takes_exactly_its_cell(self):
        mask = torch.ones(1, 1, 13, 18, dtype=torch.bool)
        mask[..., 12, 17] = False
        view = View.of(torch.zeros(1, 1, 13, 18), AffineTransform.identity(1, (13, 18)), valid=mask)
        valid = view.restore(torch.zeros(1, 2, 4, 5)).valid
        assert valid.flatten().tolist() == [True] * 19 + [False]

    def test_the_stride_is_read_off_the_sizes_and_impossible_ones_are_errors(self, rng):
        view = RandomAffine(**PAPER)(torch.zeros(1, 1, 33, 33), generator=rng)
        given = view.restore(torch.ones(1, 1, 9, 9), stride=4)
        read = view.restore(torch.ones(1, 1, 9, 9))
        assert torch.equal(given.image, read.image)
        assert torch.equal(given.valid, read.valid)
        for cells in ((9, 8), (2, 9)):
            with pytest.raises(ArgumentError, match="no stride leads"):
                view.restore(torch.ones(1, 1, *cells))
        with pytest.raises(ArgumentError, match="does not fit a frame"):
            view.restore(torch.ones(1, 1, 9, 9), stride=8)
        with pytest.raises(ArgumentError, match="batch"):
            view.restore(torch.ones(2, 1, 33, 33))

    def test_labels_come_back_by_nearest_in_their_own_type(self, rng, brute_force_warp):
        labels = torch.randint(0, 6, (2, 1, 12, 15), generator=rng, dtype=torch.uint8)
        view = RandomAffine(**PAPER, mode="nearest", fill=255)(labels, generator=rng)
        assert view.mode == "nearest"
        assert (view.image[~view.valid] == 255).all()
        back, valid = view.restore(view.image, mode="nearest")
        assert back.dtype == torch.uint8
        home = torch.linalg.inv(view.transform.matrix)
        value, real = brute_force_warp(view.image, home, (12, 15), valid=view.valid, mode="nearest")
        assert np.array_equal(valid.numpy(), real)
        assert np.array_equal(back.double().numpy(), value)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_predictions_keep_their_dtype_under_autocast(self, dtype, rng):
        view = RandomAffine(**PAPER)(torch.rand(1, 3, 16, 16, generator=rng), generator=rng)
        prediction = torch.rand(1, 2, 4, 4, generator=rng).to(dtype)
        with torch.autocast("cpu", torch.bfloat16):
            assert view.restore(prediction).image.dtype == dtype


def test_labels_restored_can_be_filled_with_ignore(rng):
    labels = torch.randint(0, 6, (2, 1, 12, 10), generator=rng, dtype=torch.uint8)
    view = RandomAffine(degrees=40, mode="nearest", fill=255)(labels, generator=rng)
    back, valid = view.restore(view.image, mode="nearest", fill=255)
    assert not valid.all()
    assert (back[~valid] == 255).all()


class TestRoundTripBound:
    """Promise 5: what a round trip costs an image of one wave, A sin(k x + p).

    Bilinear interpolation errs by at most (max|f_xx| + max|f_yy|) / 8 at unit spacing: h^2 / 8 max|f''| along each
    axis, and weights that sum to 1 pass the error of the first axis on. Of the wave that is A |k|^2 / 8. In the view
    the wave has the vector L^-T k, with L the linear part of the motion, and the second interpolation passes on the
    error of the first. Together: A (|k|^2 + |L^-T k|^2) / 8. For motions that keep lengths: A pi^2 / wavelength^2.
    """

    SIZE = (56, 72)
    MOTIONS = MappingProxyType(
        {
            "turned": {"angle": 33.0},
            "shifted": {"translation": (0.5, -7.25)},
            "enlarged": {"scale": 1.25, "angle": 8.0},
            "reduced": {"scale": 0.75, "angle": -15.0},
            "slanted": {"shear": (20.0, 5.0), "angle": 5.0},
            "all": {
                "angle": 140.0,
                "scale": torch.tensor([[0.8, 1.2]]),
                "shear": (9.0, 0.0),
                "translation": (3.3, 1.7),
            },
        }
    )

    def waves(self, wavelength, amplitude):
        """Waves in eight directions [8, 1, H, W], and their vectors k [8, 2]."""
        direction = torch.arange(8, dtype=torch.float64) * torch.pi / 8 + 0.1
        k = 2 * torch.pi / wavelength * torch.stack([direction.cos(), direction.sin()], -1)
        y, x = torch.meshgrid(*(torch.arange(side, dtype=torch.float64) for side in self.SIZE), indexing="ij")
        phase = k[:, 0, None, None] * x + k[:, 1, None, None] * y + torch.arange(8)[:, None, None]
        return amplitude * torch.sin(phase)[:, None], k

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
    @pytest.mark.parametrize("wavelength", [8.0, 16.0, 32.0, 64.0])
    @pytest.mark.parametrize("motion", MOTIONS)
    def test_a_wave_comes_back_within_the_stated_bound_and_the_bound_is_no_idle_one(self, motion, wavelength, dtype):
        images, k = self.waves(wavelength, amplitude=3.0)
        t = AffineTransform.from_params(**self.MOTIONS[motion], size=self.SIZE)
        t = AffineTransform(t.matrix.expand(8, 3, 3), self.SIZE)
        view = View.of(images.to(dtype), t)
        back, valid = view.restore(view.image)
        assert valid.double().mean() > 0.3
        error = torch.where(valid, back - images, 0).abs().amax((1, 2, 3))
        in_view = k @ torch.linalg.inv(t.matrix[0, :2, :2])
        bound = 3.0 * (k.square().sum(-1) + in_view.square().sum(-1)) / 8
        noise = 1e-5 if dtype == torch.float32 else 0
        assert (error <= bound + noise).all()
        assert (error > bound / 4).any()

    @pytest.mark.parametrize("wavelength", [16.0, 32.0, 64.0])
    def test_half_a_pixel_beside_the_way_back_breaks_the_bound(self, wavelength):
        images, k = self.waves(wavelength, amplitude=1.0)
        t = AffineTransform.from_params(angle=33.0, size=self.SIZE)
        astray = AffineTransform.shift(torch.tensor([[0.5, 0.0]]), self.SIZE) @ t
        t, astray = (AffineTransform(moved.matrix.expand(8, 3, 3), self.SIZE) for moved in (t, astray))
        view = View.of(images, t)
        back, valid = View(view.image, view.valid, astray).restore(view.image)
        error = torch.where(valid, back - images, 0).abs().amax((1, 2, 3))
        assert (error > k.square().sum(-1) / 4).any()
