"""Views as `RandomAffine` draws them."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.testing import assert_close

from s4aug import AffineTransform, ArgumentError, RandomAffine, View, consistency_loss
from tests.s4aug.motions import PAPER


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
