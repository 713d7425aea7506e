"""Views by lifting come back to the bit."""

from types import MappingProxyType

import pytest
import torch

from s4aug import AffineTransform, ArgumentError, RandomAffine, View, consistency_loss, warp


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
