import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from types import MappingProxyType

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from s4aug import AffineTransform, ArgumentError, RandomAffine, View, consistency_loss, warp

PAPER = {"degrees": 15, "translate": (0.2, 0.2), "scale": (0.75, 1.25)}


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


class TestRandomAffine:
    def test_the_view_holds_what_undoing_needs_and_cannot_be_written(self, rng):
        images = torch.rand(2, 3, 10, 12, generator=rng)
        view = RandomAffine(**PAPER)(images, seed=torch.tensor([1, 2]))
        again = View.of(images, view.transform)
        assert torch.equal(view.image, again.image)
        assert torch.equal(view.valid, again.valid)
        with pytest.raises(AttributeError):
            view.image = images

    def test_nothing_is_kept_between_calls(self, rng):
        perturb = RandomAffine(**PAPER, shear=5, hflip=0.5, padding="reflection", fill=1.0)
        before = pickle.dumps(perturb)
        attributes = dict(perturb.__dict__)
        images = torch.rand(2, 3, 10, 12, generator=rng)
        first = perturb(images, seed=torch.tensor([1, 2]))
        perturb(images[:1])
        assert pickle.dumps(perturb) == before
        assert perturb.__dict__ == attributes
        assert perturb.state_dict() == {}
        assert list(perturb.parameters()) == list(perturb.buffers()) == []
        for twin in (copy.deepcopy(perturb), pickle.loads(before), perturb.eval()):
            view = twin(images, seed=torch.tensor([1, 2]))
            assert torch.equal(view.image, first.image)

    def test_an_earlier_view_is_undone_by_its_own_draw(self, rng):
        perturb, images = RandomAffine(**PAPER), torch.rand(2, 3, 10, 12, generator=rng)
        view = perturb(images, generator=rng)
        before = view.restore(view.image)
        perturb(images, generator=rng)
        assert torch.equal(view.restore(view.image).image, before.image)

    def test_threads_with_their_own_generators_draw_what_one_thread_draws(self, rng):
        perturb, images = RandomAffine(**PAPER), torch.rand(2, 1, 9, 9, generator=rng)

        def views(seed):
            generator = torch.Generator().manual_seed(seed)
            return torch.stack([perturb(images, generator=generator).image for _ in range(5)])

        alone = [views(seed) for seed in range(8)]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(views, range(8)))
        assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
        assert not torch.equal(alone[0], alone[1])

    @pytest.mark.parametrize("source", ["generator", "seed", "global"])
    def test_same_on_batch_moves_all_images_alike(self, source, rng):
        perturb = RandomAffine(**PAPER, same_on_batch=True)
        options = {"generator": {"generator": rng}, "seed": {"seed": torch.arange(3)}, "global": {}}[source]
        matrix = perturb.sample(3, (8, 9), **options).matrix
        assert matrix.shape == (3, 3, 3)
        assert (matrix == matrix[:1]).all()
        apart = RandomAffine(**PAPER).sample(3, (8, 9), seed=torch.arange(3)).matrix
        assert not (apart == apart[:1]).all()

    def test_the_global_state_is_untouched_with_generator_or_seed(self, rng):
        before = torch.get_rng_state()
        for options in ({"generator": rng}, {"seed": torch.arange(2)}):
            RandomAffine(**PAPER)(torch.zeros(2, 1, 4, 4), **options)
        assert torch.equal(torch.get_rng_state(), before)

    def test_padding_shows_content_that_is_still_not_valid(self):
        images = torch.ones(1, 1, 20, 20)
        views = {
            padding: RandomAffine(45, (0.3, 0.3), padding=padding, fill=-1.0)(images, seed=torch.tensor([3]))
            for padding in ("fill", "border", "reflection")
        }
        assert not views["fill"].valid.all()
        assert (views["fill"].image[~views["fill"].valid] == -1).all()
        for padding in ("border", "reflection"):
            assert_close(views[padding].image, images)
            assert torch.equal(views[padding].valid, views["fill"].valid)

    def test_a_mask_of_the_source_goes_through_the_view_and_back(self, rng):
        images = torch.rand(1, 1, 12, 12, generator=rng)
        mask = torch.ones(1, 1, 12, 12, dtype=torch.bool)
        mask[..., 5:7, 5:7] = False
        images[~mask] = torch.nan
        view = RandomAffine(**PAPER)(images, valid=mask, generator=rng)
        back, valid = view.restore(view.image)
        assert not (valid & ~mask).any()
        assert valid.any()
        assert back.isfinite().all()

    @pytest.mark.parametrize("same_on_batch", [False, True])
    def test_an_empty_batch_gives_an_empty_view(self, same_on_batch):
        view = RandomAffine(**PAPER, same_on_batch=same_on_batch)(torch.zeros(0, 3, 8, 8))
        back, valid = view.restore(torch.zeros(0, 5, 2, 2))
        assert back.shape == (0, 5, 2, 2)
        assert valid.shape == (0, 1, 2, 2)

    @pytest.mark.parametrize(
        ("arguments", "options", "named"),
        [
            ((torch.zeros(3, 4, 4),), {}, "images must have shape"),
            ((torch.zeros(1, 3, 4, 4),), {"valid": torch.ones(1, 3, 4, 4, dtype=torch.bool)}, "valid must be bool"),
            ((torch.zeros(1, 3, 4, 4),), {"seed": torch.zeros(2, dtype=torch.int64)}, "seed must be"),
        ],
    )
    def test_bad_calls_are_named(self, arguments, options, named):
        with pytest.raises(ArgumentError, match=named):
            RandomAffine(**PAPER)(*arguments, **options)

    @pytest.mark.parametrize(("name", "value"), [("mode", "linear"), ("padding", "zeros")])
    def test_unknown_modes_and_paddings_are_errors_at_once(self, name, value):
        with pytest.raises(ArgumentError, match=name):
            RandomAffine(**{name: value})


def test_labels_restored_can_be_filled_with_ignore(rng):
    labels = torch.randint(0, 6, (2, 1, 12, 10), generator=rng, dtype=torch.uint8)
    view = RandomAffine(degrees=40, mode="nearest", fill=255)(labels, generator=rng)
    back, valid = view.restore(view.image, mode="nearest", fill=255)
    assert not valid.all()
    assert (back[~valid] == 255).all()


class TestLifting:
    """Views that permute pixels come back to the bit."""

    RANGES = MappingProxyType({"degrees": 180, "translate": (0.1, 0.1), "shear": 10, "mode": "lifting"})
    DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.uint8, torch.int16, torch.uint16)

    @pytest.mark.parametrize("dtype", [*DTYPES, torch.int8, torch.int32, torch.int64, torch.bool])
    @pytest.mark.parametrize("size", [(33, 50), (21, 21), (1, 1)])
    def test_by_default_a_view_at_full_resolution_comes_back_to_the_bit(self, size, dtype, rng):
        images = torch.randint(0, 127, (6, 3, *size), generator=rng)
        images = images % 2 == 0 if dtype == torch.bool else images.to(dtype)
        if dtype.is_floating_point:
            images[images < 20] = torch.nan
        mask = torch.rand(6, 1, *size, generator=rng) < 0.9
        view = RandomAffine(**self.RANGES)(images, valid=mask, generator=rng)
        assert view.mode == "lifting"
        back, valid = view.restore(view.image)
        shown = valid.expand_as(back)
        assert not (valid & ~mask).any()
        # Of a single pixel the shift leaves nothing in some frames.
        assert valid.double().mean() > (0.5 if size != (1, 1) else 0)
        assert back.dtype == dtype
        torch.testing.assert_close(back[shown], images[shown], rtol=0, atol=0, equal_nan=True)

    def test_validity_is_that_of_the_round_trip_by_the_permutation_alone(self, rng):
        images = torch.zeros(8, 1, 33, 50)
        view = RandomAffine(**self.RANGES)(images, generator=rng)
        # A label per pixel shows which of them are in the view.
        labels = torch.arange(33 * 50).reshape(1, 1, 33, 50).expand(8, -1, -1, -1)
        seen = warp(labels, view.transform, mode="lifting", fill=-1).image
        for sample in range(8):
            there = torch.zeros(33 * 50 + 1, dtype=torch.bool)
            there[seen[sample].flatten()] = True
            assert torch.equal(view.restore(view.image).valid[sample].flatten(), there[:-1])

    def test_predictions_with_other_channels_come_back_by_lifting_too(self, rng):
        view = RandomAffine(**self.RANGES)(torch.zeros(4, 3, 20, 30), generator=rng)
        scores = torch.randn(4, 7, 20, 30, generator=rng)
        expected = warp(scores, view.transform.inverse(), valid=view.valid, mode="lifting", fill=-5)
        for a, b in zip(view.restore(scores, fill=-5), expected, strict=True):
            assert torch.equal(a, b)

    @pytest.mark.parametrize(("stride", "offset"), [(4, None), (4, 0.0), (2, None), (1, 0.5)])
    def test_at_other_strides_and_offsets_it_is_bilinear(self, stride, offset, rng):
        view = RandomAffine(**self.RANGES)(torch.zeros(3, 1, 32, 48), generator=rng)
        scores = torch.randn(3, 2, 32 // stride, 48 // stride, generator=rng)
        plain = View(view.image, view.valid, view.transform, "bilinear")
        restored = view.restore(scores, stride=stride, offset=offset)
        assert restored.valid.any()
        for a, b in zip(restored, plain.restore(scores, stride=stride, offset=offset), strict=True):
            assert torch.equal(a, b)

    @pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
    def test_a_mode_that_is_asked_for_is_used(self, mode, rng):
        view = RandomAffine(**self.RANGES)(torch.zeros(3, 1, 20, 30), generator=rng)
        scores = torch.randn(3, 2, 20, 30, generator=rng)
        for a, b in zip(
            view.restore(scores, mode=mode),
            warp(scores, view.transform.inverse(), valid=view.valid, mode=mode),
            strict=True,
        ):
            assert torch.equal(a, b)
        assert not torch.equal(view.restore(scores, mode=mode).image, view.restore(scores).image)

    def test_a_bilinear_view_is_not_restored_by_lifting(self, rng):
        t = AffineTransform.from_params(angle=20.0, size=(9, 9))
        images = torch.randn(1, 1, 9, 9, generator=rng)
        view = View.of(images, t)
        for a, b in zip(view.restore(images), warp(images, t.inverse(), valid=view.valid), strict=True):
            assert torch.equal(a, b)

    @pytest.mark.parametrize("activation", [None, "softmax"])
    @pytest.mark.parametrize("loss", ["mse", "kl"])
    def test_two_lifted_views_of_an_identity_network_are_exactly_consistent(self, loss, activation, rng):
        images = torch.rand(4, 5, 33, 50, generator=rng)
        perturb = RandomAffine(**self.RANGES, hflip=0.0)
        one, two = (perturb(images, generator=rng) for _ in range(2))
        assert not torch.equal(one.transform.matrix, two.transform.matrix)
        arguments = {"loss": loss, "activation": activation}
        assert consistency_loss(one.image, one, two.image, two, **arguments).item() == 0.0
        # Another network is not.
        assert consistency_loss(one.image, one, two.image.square(), two, **arguments).item() > 1e-6

    def test_views_drawn_by_lifting_move_as_the_same_draw_of_other_modes(self):
        images, seed = torch.zeros(5, 1, 20, 30), torch.arange(5)
        ranges = {name: value for name, value in self.RANGES.items() if name != "mode"}
        lifted = RandomAffine(**ranges, mode="lifting")(images, seed=seed)
        assert torch.equal(lifted.transform.matrix, RandomAffine(**ranges)(images, seed=seed).transform.matrix)

    @pytest.mark.parametrize("same_on_batch", [False, True])
    def test_flipped_views_come_back_to_the_bit(self, same_on_batch, rng):
        images = torch.randint(0, 2**62, (16, 1, 21, 30), generator=rng)
        perturb = RandomAffine(180, hflip=0.5, vflip=0.5, same_on_batch=same_on_batch, mode="lifting", fill=-1)
        view = perturb(images, generator=rng)
        back, valid = view.restore(view.image, fill=-1)
        assert valid.double().mean() > 0.5
        assert torch.equal(back, torch.where(valid, images, -1))

    def test_compiled_from_draw_to_restored_view_it_is_the_same(self, rng):
        images, perturb = torch.rand(3, 2, 12, 13, generator=rng), RandomAffine(**self.RANGES)

        def round_trip(images, seed):
            view = perturb(images, seed=seed)
            return view.image, *view.restore(view.image)

        seed = torch.arange(3)
        compiled = torch.compile(round_trip, backend="eager", fullgraph=True)(images, seed)
        for a, b in zip(compiled, round_trip(images, seed), strict=True):
            assert b.any()
            assert torch.equal(a, b)

    @pytest.mark.parametrize(
        ("ranges", "named"),
        [
            ({"scale": (0.75, 1.25)}, "scale must be None"),
            ({"scale": (1.0, 1.0, 0.9, 1.0)}, "scale must be None"),
            ({"shear": 60}, "shear less"),
            ({"degrees": 180, "shear": 40}, "shear less"),
            ({"degrees": 180, "shear": 20, "hflip": 0.5}, "shear less"),
        ],
    )
    def test_ranges_that_lifting_cannot_follow_are_errors_at_once_and_no_matter_to_other_modes(self, ranges, named):
        with pytest.raises(ArgumentError, match=named):
            RandomAffine(**ranges, mode="lifting")
        RandomAffine(**ranges)

    def test_a_view_of_a_scaled_motion_names_the_sample(self):
        t = AffineTransform.from_params(scale=torch.tensor([1.0, 1.0, 1.01]), size=(9, 9))
        with pytest.raises(ArgumentError, match="sample 2 must keep area"):
            View.of(torch.zeros(3, 1, 9, 9), t, mode="lifting")


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


class TestOneImageAmongOthers:
    """What a view shows of an image does not hang on the rest of the batch."""

    @pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
    def test_with_seeds_an_image_alone_is_seen_as_in_any_batch(self, mode, rng):
        images, seeds = torch.rand(4, 2, 9, 13, generator=rng), torch.tensor([7, -1, 2**40, 7])
        mask = torch.rand(4, 1, 9, 13, generator=rng) < 0.9
        perturb = RandomAffine(**PAPER, shear=5, hflip=0.5, mode=mode)
        batch = perturb(images, valid=mask, seed=seeds)
        for i in range(4):
            one = perturb(images[i : i + 1], valid=mask[i : i + 1], seed=seeds[i : i + 1])
            assert torch.equal(one.image[0], batch.image[i])
            assert torch.equal(one.valid[0], batch.valid[i])
            assert torch.equal(one.transform.matrix[0], batch.transform.matrix[i])
            back, whole = one.restore(one.image), batch.restore(batch.image)
            assert torch.equal(back.image[0], whole.image[i])
            assert torch.equal(back.valid[0], whole.valid[i])
        assert torch.equal(batch.transform.matrix[0], batch.transform.matrix[3])
        assert not torch.equal(batch.transform.matrix[0], batch.transform.matrix[1])

    def test_same_on_batch_is_the_draw_of_the_first_seed_for_all(self, rng):
        seeds = torch.tensor([11, 12, 13])
        alike = RandomAffine(**PAPER, same_on_batch=True)
        first = RandomAffine(**PAPER).sample(1, (9, 13), seed=seeds[:1]).matrix
        assert torch.equal(alike.sample(3, (9, 13), seed=seeds).matrix, first.expand(3, 3, 3))
        image = torch.rand(1, 2, 9, 13, generator=rng)
        view = alike(image.expand(3, -1, -1, -1), seed=seeds)
        assert torch.equal(view.image, view.image[:1].expand(3, -1, -1, -1))


class TestArgumentsStay:
    @pytest.mark.parametrize("stride", [1, 4])
    def test_nothing_is_written_into_images_masks_predictions_seeds_or_views(self, stride, rng):
        images = torch.rand(2, 3, 8, 12, generator=rng).requires_grad_()
        mask = torch.rand(2, 1, 8, 12, generator=rng) < 0.9
        prediction = torch.rand(2, 4, 8 // stride, 12 // stride, generator=rng).requires_grad_()
        seeds = torch.tensor([1, 2])
        view = RandomAffine(**PAPER)(images, valid=mask, seed=seeds)
        given = [images, mask, prediction, seeds, view.image, view.valid, view.transform.matrix]
        before = [(tensor.detach().clone(), tensor._version) for tensor in given]
        back, valid = view.restore(prediction)
        (torch.where(valid, back, 0).sum() + view.image.sum()).backward()
        consistency_loss(prediction, view, prediction, view, loss="kl").backward()
        for tensor, (clone, version) in zip(given, before, strict=True):
            assert torch.equal(tensor, clone)
            assert tensor._version == version

    @pytest.mark.parametrize(("stride", "size"), [(1, (4, 5)), (2, (5, 7)), (4, (8, 4)), (1, (1, 1))])
    def test_gradient_of_a_prediction_and_of_the_motion_through_the_way_back(self, stride, size, rng):
        cells = tuple(-(-side // stride) for side in size)
        prediction = torch.rand(1, 2, *cells, generator=rng, dtype=torch.float64).requires_grad_()
        angle = torch.tensor([13.0], dtype=torch.float64).requires_grad_()
        translation = torch.tensor([[0.21, -0.13]], dtype=torch.float64).requires_grad_()
        seen = torch.ones(1, 1, *size, dtype=torch.bool)
        seen[..., -1, -1] = size == (1, 1)

        def restored(prediction, angle, translation):
            t = AffineTransform.from_params(angle=angle, translation=translation, scale=1.07, size=size)
            return View(torch.zeros(1, 1, *size), seen, t).restore(prediction, stride=stride).image

        assert torch.autograd.gradcheck(restored, (prediction, angle, translation))
        assert torch.autograd.gradgradcheck(lambda p: restored(p, angle.detach(), translation.detach()), prediction)
