"""Numbers and light of a perturbation, and what it refuses."""

import copy
import pickle

import kornia.augmentation as K
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from s4aug import AffineTransform, ArgumentError, Perturbation, RandomAffine, View, warp
from tests.s4aug.motions import PAPER
from tests.s4aug.perturbation_cases import SEEDS, SIZE, Mapped, Shifted, images, seeded

PHOTOMETRIC = {
    "ColorJiggle": lambda: K.ColorJiggle(0.3, 0.3, 0.3, 0.1, p=1.0),
    "RandomGaussianNoise": lambda: K.RandomGaussianNoise(std=0.1, p=1.0),
    "RandomGaussianBlur": lambda: K.RandomGaussianBlur((3, 3), (0.1, 2.0), p=1.0),
    "RandomPlasmaShadow": lambda: K.RandomPlasmaShadow(p=1.0),
    "RandomErasing": lambda: K.RandomErasing(p=1.0),
    "ColorJiggle at half": lambda: K.ColorJiggle(0.3, 0.3, 0.3, 0.1, p=0.5),
    "RandomGaussianNoise at half": lambda: K.RandomGaussianNoise(p=0.5),
    "RandomGrayscale at half": lambda: K.RandomGrayscale(p=0.5),
}


class TestNumbers:
    @pytest.mark.parametrize("make", PHOTOMETRIC.values(), ids=PHOTOMETRIC)
    @pytest.mark.parametrize("source", ["generator", "seed"])
    def test_the_same_source_gives_the_same_view_and_the_global_state_is_neither_read_nor_moved(self, source, make):
        perturb = Perturbation(RandomAffine(**PAPER), make())
        views = []
        for number in (1, 2):
            torch.manual_seed(number)
            before = torch.get_rng_state()
            views.append(perturb(images(), **({"seed": SEEDS} if source == "seed" else {"generator": seeded()})))
            assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(views[0].image, views[1].image)
        assert torch.equal(views[0].transform.matrix, views[1].transform.matrix)
        moved = warp(images(), views[0].transform).image
        assert not torch.equal(views[0].image, moved)

    @pytest.mark.parametrize("make", PHOTOMETRIC.values(), ids=PHOTOMETRIC)
    def test_a_seed_changes_its_image_alike_in_every_batch(self, make):
        perturb, content = Perturbation(RandomAffine(**PAPER), make()), images()
        whole = perturb(content, seed=SEEDS)
        for rows in (slice(1, 3), slice(3, 4), [4, 0, 2]):
            part = perturb(content[rows], seed=SEEDS[rows])
            assert torch.equal(part.image, whole.image[rows])
            assert torch.equal(part.transform.matrix, whole.transform.matrix[rows])

    def test_equal_seeds_change_equal_images_alike_and_other_seeds_otherwise(self):
        perturb = Perturbation(RandomAffine(), PHOTOMETRIC["ColorJiggle"](), PHOTOMETRIC["RandomGaussianNoise"]())
        shown = perturb(images(1).expand(3, -1, -1, -1), seed=torch.tensor([8, 8, 9])).image
        assert torch.equal(shown[0], shown[1])
        assert not torch.equal(shown[0], shown[2])

    @pytest.mark.parametrize("source", ["generator", "seed"])
    def test_the_motion_is_that_of_the_geometric_part_alone(self, source):
        geometric = RandomAffine(**PAPER, hflip=0.5)
        options = [{"seed": SEEDS} if source == "seed" else {"generator": seeded()} for _ in range(2)]
        alone = geometric(images(), **options[0])
        view = Perturbation(geometric, PHOTOMETRIC["ColorJiggle"]())(images(), **options[1])
        assert torch.equal(view.transform.matrix, alone.transform.matrix)
        assert torch.equal(view.valid, alone.valid)
        assert view.mode == alone.mode

    def test_light_is_drawn_apart_from_motion(self):
        # The numbers of the light must not be those that moved the image: at a seed both would rise together.
        seeds = torch.arange(400)
        perturb = Perturbation(RandomAffine(degrees=10), Shifted())
        view = perturb(torch.zeros(400, 1, 3, 3), seed=seeds)
        light = view.image[:, 0, 1, 1].double()
        angle = torch.atan2(view.transform.matrix[:, 0, 1], view.transform.matrix[:, 0, 0])
        assert light.std() > 0.2
        assert torch.corrcoef(torch.stack([light, angle]))[0, 1].abs() < 0.2

    def test_one_generator_gives_another_light_at_each_call(self):
        perturb, generator = Perturbation(RandomAffine(), Shifted()), seeded()
        first, second = (perturb(images(), generator=generator).image for _ in range(2))
        assert not torch.equal(first, second)

    def test_without_generator_or_seed_the_global_state_is_the_source(self):
        perturb = Perturbation(RandomAffine(**PAPER), PHOTOMETRIC["ColorJiggle"]())
        shown = []
        for _ in range(2):
            torch.manual_seed(21)
            shown.append(perturb(images()).image)
        assert torch.equal(*shown)
        assert not torch.equal(perturb(images()).image, shown[0])

    def test_generator_and_seed_exclude_each_other(self):
        with pytest.raises(ArgumentError, match="exclude each other"):
            Perturbation(RandomAffine(), Shifted())(images(), seed=SEEDS, generator=seeded())


class TestLight:
    @pytest.mark.parametrize("source", ["generator", "seed", "global"])
    def test_parts_are_applied_in_their_order_to_real_pixels_and_the_fill_stays(self, source):
        geometric = RandomAffine(40, (0.3, 0.3), fill=-2.0)
        perturb = Perturbation(geometric, Mapped(lambda image: image * 3), Mapped(lambda image: image + 1))
        options = {"generator": {"generator": seeded()}, "seed": {"seed": SEEDS}, "global": {}}[source]
        view = perturb(images(), **options)
        moved = warp(images(), view.transform).image
        valid = view.valid.expand_as(view.image)
        assert 0.1 < valid.double().mean() < 0.9
        assert torch.equal(view.image[valid], (moved * 3 + 1)[valid])
        assert (view.image[~valid] == -2).all()

    @pytest.mark.parametrize("padding", ["border", "reflection"])
    def test_padding_is_changed_along_with_the_rest(self, padding):
        geometric = RandomAffine(40, (0.3, 0.3), padding=padding)
        view = Perturbation(geometric, Mapped(lambda image: image * 3))(images(), seed=SEEDS)
        assert not view.valid.all()
        assert torch.equal(view.image, warp(images(), view.transform, padding=padding).image * 3)
        assert torch.equal(view.valid, warp(images(), view.transform).valid)

    @pytest.mark.parametrize("fill", [0.0, torch.nan, 1e6])
    def test_what_looks_at_neighbours_sees_the_mean_of_real_pixels_in_place_of_the_fill(self, fill):
        blur = torch.nn.AvgPool2d(3, 1, 1, count_include_pad=False)
        view = Perturbation(RandomAffine(40, (0.3, 0.3), fill=fill), Mapped(blur))(images(), seed=SEEDS)
        moved = warp(images(), view.transform).image.double()
        real = view.valid.expand_as(moved)
        assert 0.1 < real.double().mean() < 0.9
        means = torch.stack(
            [each[mask].mean() for each, mask in zip(moved.flatten(0, 1), real.flatten(0, 1), strict=True)]
        )
        evened = torch.where(real, moved, means.reshape(*moved.shape[:2], 1, 1))
        torch.testing.assert_close(view.image[real].double(), blur(evened)[real], rtol=1e-5, atol=1e-6)

    def test_one_pixel_that_is_no_number_does_not_spread_along_the_edge(self):
        content = images()
        content[:, :, SIZE[0] // 2, SIZE[1] // 2] = torch.nan
        blur = torch.nn.AvgPool2d(3, 1, 1)
        view = Perturbation(RandomAffine(translate=(0.1, 0.1)), Mapped(blur))(content, seed=SEEDS)
        spread = view.image.isnan().sum((-2, -1))
        assert ((spread >= 9) & (spread <= 16)).all()  # one pixel, of at most 2 x 2 after the motion

    def test_a_view_without_a_real_pixel_is_left_alone(self):
        view = View.of(images(), AffineTransform.shift(torch.full((5, 2), 100.0), SIZE), fill=3.0)
        content = view.image.clone().requires_grad_()
        perturb = Perturbation(RandomAffine(), Mapped(lambda image: image * 2))
        lit = perturb.relight(View(content, view.valid, view.transform, view.mode))
        assert torch.equal(lit.image, view.image)
        lit.image.sum().backward()
        assert content.grad.isfinite().all()

    def test_light_is_changed_in_the_precision_of_the_image_under_autocast(self):
        convolution = torch.nn.Conv2d(3, 3, 3, padding=1)
        perturb = Perturbation(RandomAffine(), convolution)
        with torch.autocast("cpu", torch.bfloat16):
            lit = perturb(images(), seed=SEEDS)
        assert torch.equal(lit.image, perturb(images(), seed=SEEDS).image)
        assert lit.image.dtype == torch.float32

    def test_masked_pixels_keep_the_fill_and_nothing_of_them_shows(self):
        content, valid = images(), torch.ones(5, 1, *SIZE, dtype=torch.bool)
        valid[..., 4:7, 5:9] = False
        content[~valid.expand_as(content)] = torch.nan
        perturb = Perturbation(RandomAffine(**PAPER, fill=7.0), PHOTOMETRIC["ColorJiggle"]())
        view = perturb(content, valid=valid, seed=SEEDS)
        assert view.image.isfinite().all()
        assert (view.image[~view.valid.expand_as(view.image)] == 7).all()
        assert torch.equal(view.valid, warp(content, view.transform, valid=valid).valid)

    @pytest.mark.parametrize("source", ["generator", "seed"])
    @pytest.mark.parametrize("padding", ["fill", "border"])
    def test_gradient_reaches_the_images_by_the_slope_of_the_light(self, padding, source):
        content = images().requires_grad_()
        perturb = Perturbation(RandomAffine(**PAPER, padding=padding), Mapped(lambda image: image**2))
        view = perturb(content, **({"seed": SEEDS} if source == "seed" else {"generator": seeded()}))
        view.image.sum().backward()
        twin = images().requires_grad_()
        moved = warp(twin, view.transform, padding=padding)
        squared = moved.image**2
        (squared if padding == "border" else squared[moved.valid.expand_as(squared)]).sum().backward()
        assert content.grad.abs().sum() > 0
        assert_close(content.grad, twin.grad)

    def test_gradient_is_finite_through_an_augmentation_of_kornia(self):
        content = images().requires_grad_()
        perturb = Perturbation(RandomAffine(**PAPER), K.RandomGamma((0.5, 0.9), p=1.0), PHOTOMETRIC["ColorJiggle"]())
        perturb(content, seed=SEEDS).image.sum().backward()
        assert content.grad.isfinite().all()
        assert content.grad.abs().sum() > 0

    def test_restoring_takes_back_the_motion_and_leaves_the_light(self):
        geometric = RandomAffine(hflip=1.0, vflip=1.0)
        view = Perturbation(geometric, Mapped(lambda image: image * 3 + 1))(images(), seed=SEEDS)
        back, valid = view.restore(view.image)
        assert valid.all()
        assert torch.equal(back, images() * 3 + 1)

    def test_a_prediction_is_restored_as_without_light(self):
        geometric = RandomAffine(**PAPER)
        view = Perturbation(geometric, PHOTOMETRIC["RandomGaussianNoise"]())(images(size=(16, 24)), seed=SEEDS)
        plain = geometric(images(size=(16, 24)), seed=SEEDS)
        for cells in ((16, 24), (4, 6)):
            prediction = torch.rand(5, 2, *cells, generator=seeded())
            for mine, theirs in zip(view.restore(prediction), plain.restore(prediction), strict=True):
                assert torch.equal(mine, theirs)

    @pytest.mark.parametrize("source", ["generator", "seed", "global"])
    def test_an_empty_batch_gives_an_empty_view(self, source):
        perturb = Perturbation(RandomAffine(**PAPER), PHOTOMETRIC["ColorJiggle"]())
        options = {"generator": {"generator": seeded()}, "seed": {"seed": SEEDS[:0]}, "global": {}}[source]
        view = perturb(images(0), **options)
        assert view.image.shape == (0, 3, *SIZE)
        assert view.restore(torch.zeros(0, 2, *SIZE)).valid.shape == (0, 1, *SIZE)

    def test_without_light_it_is_the_motion(self):
        view = Perturbation(RandomAffine(**PAPER))(images(), seed=SEEDS)
        assert torch.equal(view.image, RandomAffine(**PAPER)(images(), seed=SEEDS).image)

    def test_arguments_are_not_written_to_even_by_a_part_that_writes(self):
        content, valid = images(), torch.rand(5, 1, *SIZE, generator=seeded()) < 0.9
        copies = content.clone(), valid.clone(), SEEDS.clone()
        Perturbation(RandomAffine(), Mapped(lambda image: image.mul_(0)))(content, valid=valid, seed=SEEDS)
        for argument, kept in zip((content, valid, SEEDS), copies, strict=True):
            assert torch.equal(argument, kept)

    def test_a_part_that_writes_into_its_input_leaves_the_fill(self):
        view = Perturbation(RandomAffine(40, fill=-2.0), Mapped(lambda image: image.mul_(0)))(images(), seed=SEEDS)
        valid = view.valid.expand_as(view.image)
        assert not valid.all()
        assert (view.image[~valid] == -2).all()
        assert (view.image[valid] == 0).all()

    def test_copies_and_pickles_show_the_same(self):
        perturb = Perturbation(RandomAffine(**PAPER), PHOTOMETRIC["ColorJiggle"]())
        shown = perturb(images(), seed=SEEDS).image
        for twin in (copy.deepcopy(perturb), pickle.loads(pickle.dumps(perturb))):
            assert torch.equal(twin(images(), seed=SEEDS).image, shown)


class TestRefusals:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: K.RandomHorizontalFlip(),
            lambda: K.RandomRotation(15.0),
            lambda: K.RandomAffine(15.0),
            lambda: K.RandomCrop((8, 8)),
            lambda: K.RandomMixUpV2(),
            lambda: K.RandomJigsaw(),
        ],
        ids=["flip", "rotation", "affine", "crop", "mixup", "jigsaw"],
    )
    def test_augmentations_that_move_or_mix_pixels_are_refused_by_name(self, make):
        part = make()
        with pytest.raises(ArgumentError, match=f"{type(part).__name__} moves or mixes"):
            Perturbation(RandomAffine(), PHOTOMETRIC["ColorJiggle"](), part)

    @pytest.mark.parametrize(
        "container",
        [
            lambda part: nn.Sequential(part),
            lambda part: K.ImageSequential(part),
            lambda part: K.AugmentationSequential(part, data_keys=["input"]),
        ],
        ids=["Sequential", "ImageSequential", "AugmentationSequential"],
    )
    def test_moving_pixels_within_a_container_is_refused_too(self, container):
        with pytest.raises(ArgumentError, match="moves or mixes"):
            Perturbation(RandomAffine(), container(K.RandomHorizontalFlip(p=1.0)))

    @pytest.mark.parametrize("make", PHOTOMETRIC.values(), ids=PHOTOMETRIC)
    def test_augmentations_that_leave_pixels_in_their_place_are_taken(self, make):
        assert len(Perturbation(RandomAffine(), make()).photometric) == 1

    @pytest.mark.parametrize(("part", "named"), [(torch.sin, "builtin"), (None, "NoneType"), ("jiggle", "str")])
    def test_what_is_no_module_is_refused(self, part, named):
        with pytest.raises(ArgumentError, match=f"photometric must be modules, got {named}"):
            Perturbation(RandomAffine(), part)

    @pytest.mark.parametrize("part", [nn.Identity(), K.RandomAffine(15.0)])
    def test_the_motion_must_be_ours(self, part):
        with pytest.raises(ArgumentError, match="geometric must be a RandomAffine, got"):
            Perturbation(part)

    @pytest.mark.parametrize("source", ["generator", "seed", "global"])
    @pytest.mark.parametrize("padding", ["fill", "border"])
    @pytest.mark.parametrize(
        "change",
        [
            lambda image: image[..., ::2, ::2],
            lambda image: image[:0],
            lambda image: image[0],
            lambda image: image.mean(1, keepdim=True),
            lambda image: image.repeat(1, 2, 1, 1),
        ],
        ids=["smaller", "no batch", "no batch dimension", "gray", "more channels"],
    )
    def test_a_part_that_changes_the_shape_is_refused_by_name(self, change, padding, source):
        perturb = Perturbation(RandomAffine(padding=padding), Mapped(change))
        options = {"generator": {"generator": seeded()}, "seed": {"seed": SEEDS}, "global": {}}[source]
        with pytest.raises(ArgumentError, match="Mapped"):
            perturb(images(), **options)

    @pytest.mark.parametrize("same_on_batch", [False, True])
    def test_a_seed_is_asked_for_each_image(self, same_on_batch):
        perturb = Perturbation(RandomAffine(same_on_batch=same_on_batch), Shifted())
        with pytest.raises(ArgumentError, match=r"seed must be .*int64.* of shape \[5\]"):
            perturb(images(), seed=SEEDS[:2])


def test_relighting_a_view_is_the_second_half_of_a_call():
    perturb = Perturbation(RandomAffine(**PAPER), K.ColorJiggle(0.3, 0.3, p=1.0))
    whole = perturb(images(), seed=SEEDS)
    moved = RandomAffine(**PAPER)(images(), seed=SEEDS)
    before = moved.image.clone()
    relit = perturb.relight(moved, seed=SEEDS)
    assert torch.equal(relit.image, whole.image)
    assert torch.equal(relit.transform.matrix, moved.transform.matrix)
    assert torch.equal(relit.valid, moved.valid)
    assert torch.equal(moved.image, before)
