import math

import numpy as np
import pytest
import torch
from kornia.augmentation import RandomAffine as KorniaRandomAffine
from scipy import stats
from torch.testing import assert_close

from s4aug import AffineRanges, ArgumentError, RandomAffine, sample_affine
from s4aug.lifting import Lifting, strayed_px
from s4aug.sampling import check_liftable

SIZE = (20, 50)  # (H, W)
MANY = 3000


def recovered(transform):
    """Angle, scale x and y, shear x (degrees) and shift (fractions), for draws without shear y and flips."""
    linear = transform.matrix[:, :2, :2]
    angle = torch.atan2(-linear[:, 1, 0], linear[:, 0, 0])
    cos, sin = angle.cos(), angle.sin()
    upright = torch.stack([cos, -sin, sin, cos], -1).reshape(-1, 2, 2) @ linear  # the rotation undone
    height, width = transform.size
    middle = torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=torch.float64)
    moved = transform.points(middle.expand(len(transform), 1, 2))[:, 0] - middle
    return {
        "angle": angle.rad2deg(),
        "scale_x": upright[:, 0, 0],
        "scale_y": upright[:, 1, 1],
        "shear_x": torch.atan(-upright[:, 0, 1] / upright[:, 0, 0]).rad2deg(),
        "shift_x": moved[:, 0] / width,
        "shift_y": moved[:, 1] / height,
    }


def assert_uniform(values, low, high):
    assert low - 1e-9 <= values.min()
    assert values.max() <= high + 1e-9
    assert stats.kstest(values.numpy(), "uniform", (low, high - low)).pvalue > 1e-3


class TestRanges:
    @pytest.mark.parametrize("source", ["generator", "seed"])
    def test_draws_are_uniform_in_their_ranges(self, source, rng):
        ranges = AffineRanges(degrees=(-10, 30), translate=(0.3, 0.1), scale=(0.5, 0.8, 1.5, 2), shear=20)
        options = {"generator": rng} if source == "generator" else {"seed": torch.arange(MANY)}
        values = recovered(sample_affine(ranges, MANY, SIZE, **options))
        assert_uniform(values["angle"], -10, 30)
        assert_uniform(values["scale_x"], 0.5, 0.8)
        assert_uniform(values["scale_y"], 1.5, 2)
        assert_uniform(values["shear_x"], -20, 20)
        assert_uniform(values["shift_x"], -0.3, 0.3)
        assert_uniform(values["shift_y"], -0.1, 0.1)
        columns = torch.corrcoef(torch.stack(list(values.values())))
        assert (columns - torch.eye(6)).abs().max() < 0.1

    def test_the_check_of_uniformity_sees_a_wrong_range(self):
        with pytest.raises(AssertionError):
            assert_uniform(torch.linspace(0, 1, MANY), 0, 0.99)
        with pytest.raises(AssertionError):
            assert_uniform(torch.linspace(0, 0.9, MANY), 0, 1)

    def test_shear_along_y_is_drawn_from_its_own_range(self):
        ranges = AffineRanges(shear=(0, 0, 5, 25))
        linear = sample_affine(ranges, MANY, SIZE, seed=torch.arange(MANY)).matrix[:, :2, :2]
        assert_uniform(torch.atan(-linear[:, 1, 0]).rad2deg(), 5, 25)
        assert (linear[:, 0, 1] == 0).all()

    def test_two_scale_numbers_are_isotropic_and_four_are_not(self):
        seeds = torch.arange(50)
        both = recovered(sample_affine(AffineRanges(15, scale=(0.75, 1.25)), 50, SIZE, seed=seeds))
        assert_close(both["scale_x"], both["scale_y"])
        each = recovered(sample_affine(AffineRanges(15, scale=(0.75, 1.25, 0.75, 1.25)), 50, SIZE, seed=seeds))
        assert (each["scale_x"] - each["scale_y"]).abs().max() > 0.1

    def test_no_ranges_are_the_identity(self):
        drawn = sample_affine(AffineRanges(), 5, SIZE, seed=torch.arange(5)).matrix
        assert torch.equal(drawn, torch.eye(3, dtype=torch.float64).expand(5, 3, 3))

    @pytest.mark.parametrize(("hflip", "vflip"), [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
    def test_flips_of_probability_1_are_exact(self, hflip, vflip, rng):
        drawn = sample_affine(AffineRanges(hflip=hflip, vflip=vflip), 200, SIZE, generator=rng).matrix
        expected = [[-1 if hflip else 1, 0, 49 * hflip], [0, -1 if vflip else 1, 19 * vflip], [0, 0, 1]]
        assert (drawn == torch.tensor(expected, dtype=torch.float64)).all()

    def test_flips_come_at_their_rate_independently(self):
        drawn = sample_affine(AffineRanges(hflip=0.3, vflip=0.6), MANY, SIZE, seed=torch.arange(MANY)).matrix
        left, up = drawn[:, 0, 0] < 0, drawn[:, 1, 1] < 0
        for rate, chance in ((left, 0.3), (up, 0.6), (left & up, 0.18)):
            assert abs(rate.double().mean() - chance) < 4 * (chance * (1 - chance) / MANY) ** 0.5

    @pytest.mark.parametrize(
        "arguments",
        [
            {"degrees": 15.0, "translate": (0.2, 0.2), "scale": (0.75, 1.25)},
            {"degrees": (5.0, 30.0), "translate": (0.1, 0.4), "scale": (0.5, 1.0, 1.0, 1.5), "shear": 10.0},
            {"degrees": 3.0, "shear": (2.0, 8.0)},
        ],
    )
    def test_parameters_are_distributed_as_those_of_kornia(self, arguments):
        torch.manual_seed(0)
        theirs = KorniaRandomAffine(**arguments, p=1.0).forward_parameters((MANY, 3, *SIZE))
        mine = recovered(sample_affine(AffineRanges(**arguments), MANY, SIZE, seed=torch.arange(MANY)))
        shift_x, shift_y = (theirs["translations"] / torch.tensor([SIZE[1], SIZE[0]])).unbind(-1)
        scale_x, scale_y = theirs["scale"].unbind(-1)
        pairs = {
            "angle": theirs["angle"],
            "scale_x": scale_x,
            "scale_y": scale_y,
            "shear_x": theirs["shear_x"],
            "shift_x": shift_x,
            "shift_y": shift_y,
        }
        for name, drawn in pairs.items():
            if drawn.std() < 1e-9:
                assert_close(mine[name].float(), drawn.float(), atol=1e-5, rtol=0, msg=name)
            else:
                assert stats.ks_2samp(mine[name].numpy(), drawn.numpy()).pvalue > 1e-3, name

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            ({"degrees": -1.0}, "degrees"),
            ({"degrees": (10, 5)}, "degrees"),
            ({"degrees": math.nan}, "degrees"),
            ({"degrees": (1, 2, 3)}, "degrees"),
            ({"translate": (0.1,)}, "translate"),
            ({"translate": (0.1, 1.5)}, "translate"),
            ({"translate": (-0.1, 0.1)}, "translate"),
            ({"scale": (0.0, 1.0)}, "scale"),
            ({"scale": (1.5, 0.5)}, "scale"),
            ({"scale": (0.5, 1.0, 2.0)}, "scale"),
            ({"scale": (0.5, math.inf)}, "scale"),
            ({"shear": 90.0}, "shear"),
            ({"shear": (-95.0, 10.0)}, "shear"),
            ({"shear": (0.0, 1.0, 5.0, 2.0)}, "shear"),
            ({"hflip": 1.5}, "hflip"),
            ({"vflip": -0.1}, "vflip"),
        ],
    )
    def test_bad_ranges_are_named(self, arguments, named):
        with pytest.raises(ArgumentError, match=f"^{named} "):
            AffineRanges(**arguments)
        with pytest.raises(ArgumentError, match=f"^{named} "):
            RandomAffine(**arguments)


class TestRandomness:
    PAPER = AffineRanges(15, (0.2, 0.2), (0.75, 1.25), shear=5, hflip=0.5)

    def test_a_seed_draws_the_same_alone_in_a_batch_and_in_another_order(self):
        seeds = torch.tensor([5, -7, 2**62, 0, 5])
        batch = sample_affine(self.PAPER, 5, SIZE, seed=seeds).matrix
        alone = [sample_affine(self.PAPER, 1, SIZE, seed=seeds[i : i + 1]).matrix for i in range(5)]
        assert torch.equal(batch, torch.cat(alone))
        turned = sample_affine(self.PAPER, 5, SIZE, seed=seeds.flip(0)).matrix
        assert torch.equal(batch, turned.flip(0))
        assert torch.equal(batch[0], batch[4])
        assert len(batch.unique(dim=0)) == 4

    @pytest.mark.parametrize("backend", ["eager", "aot_eager"])
    def test_a_seed_draws_the_same_compiled(self, backend):
        torch.compiler.reset()

        def draw(seed):
            return sample_affine(self.PAPER, 3, SIZE, seed=seed).matrix

        seeds = torch.tensor([1, -2, 3])
        assert torch.equal(torch.compile(draw, backend=backend, fullgraph=True)(seeds), draw(seeds))

    def test_a_generator_is_reproducible_and_moves_on(self):
        generators = [torch.Generator().manual_seed(4) for _ in range(2)]
        first, again = (sample_affine(self.PAPER, 3, SIZE, generator=g).matrix for g in generators)
        assert torch.equal(first, again)
        assert not torch.equal(first, sample_affine(self.PAPER, 3, SIZE, generator=generators[0]).matrix)

    def test_the_global_state_is_untouched_with_generator_or_seed_and_used_without(self, rng):
        before = torch.get_rng_state()
        sample_affine(self.PAPER, 3, SIZE, generator=rng)
        sample_affine(self.PAPER, 3, SIZE, seed=torch.arange(3))
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(9)
        first = sample_affine(self.PAPER, 3, SIZE).matrix
        torch.manual_seed(9)
        assert torch.equal(sample_affine(self.PAPER, 3, SIZE).matrix, first)

    @pytest.mark.parametrize("source", ["generator", "seed"])
    def test_an_empty_batch_draws_nothing(self, source, rng):
        options = {"generator": rng} if source == "generator" else {"seed": torch.empty(0, dtype=torch.int64)}
        assert len(sample_affine(self.PAPER, 0, SIZE, **options)) == 0

    @pytest.mark.parametrize("seed", [torch.zeros(2), torch.zeros(3), torch.zeros(3, 1).long(), torch.tensor(3)])
    def test_seeds_of_another_kind_are_errors(self, seed):
        with pytest.raises(ArgumentError, match="seed must be an int64 torch.Tensor of shape"):
            sample_affine(self.PAPER, 3, SIZE, seed=seed)

    def test_generator_and_seed_exclude_each_other(self, rng):
        with pytest.raises(ArgumentError, match="exclude each other"):
            sample_affine(self.PAPER, 3, SIZE, seed=torch.arange(3), generator=rng)


class TestLiftable:
    """Ranges that are accepted for lifting give draws that lifting accepts."""

    @pytest.mark.parametrize(
        "ranges",
        [
            {"degrees": 180, "translate": (0.5, 0.5)},
            {"degrees": 180, "hflip": 0.5, "vflip": 0.5},
            {"degrees": 15, "shear": 10},
            {"degrees": 180, "shear": 30},
            {"degrees": 180, "shear": 10, "hflip": 0.5},
            {"shear": (-20, 20, -20, 20)},
            {"scale": (1.0, 1.0), "shear": (0, 0, -20, 20)},
        ],
    )
    def test_draws_keep_area_and_stay_near_the_map(self, ranges, rng):
        perturb = RandomAffine(**ranges, mode="lifting")
        t = perturb.sample(MANY, SIZE, generator=rng)
        determinants = np.linalg.det(t.matrix.numpy()[:, :2, :2])
        assert np.abs(np.abs(determinants) - 1).max() < 1e-12
        assert (determinants < 0).any() == ("hflip" in ranges)
        assert Lifting.of(t).distance_px.max() <= 1.5

    @pytest.mark.parametrize(
        "ranges",
        [
            {"degrees": 180, "shear": (8, 8, -8, -8)},
            {"degrees": 180, "shear": (-5, 5, 5, 5)},
            {"degrees": (0, 720), "shear": (-12, 12, -12, 12)},
            {"degrees": 5, "shear": (1, 1, -1, -1)},
            {"degrees": 5, "shear": (3, 3, -5, 5)},
            {"degrees": 180, "shear": 33.6},
            {"degrees": 180, "shear": 13.7, "hflip": 1.0},
            {"shear": 58.8},
        ],
    )
    def test_ranges_are_refused_at_once_or_no_draw_is(self, ranges):
        try:
            perturb = RandomAffine(**ranges, mode="lifting")
        except ArgumentError:
            return
        seeds = torch.arange(20_000)
        distance = strayed_px(perturb.sample(len(seeds), SIZE, seed=seeds).matrix[:, :2, :2])
        assert torch.nonzero(distance > 1.5).flatten().tolist() == []

    @pytest.mark.parametrize("scale", [(0.99, 1.0), (1.0, 1.01), (1.0, 1.0, 0.5, 1.0), (2.0, 2.0)])
    def test_any_scale_is_refused(self, scale):
        with pytest.raises(ArgumentError, match="scale must be None"):
            check_liftable(AffineRanges(degrees=10, scale=scale))

    def test_a_shear_is_refused_for_the_rotations_and_flips_that_go_with_it(self):
        for accepted, refused in (
            ({"shear": 50}, {"shear": 65}),
            ({"shear": 50}, {"shear": 50, "degrees": 180}),
            ({"shear": 20, "degrees": 180}, {"shear": 20, "degrees": 180, "hflip": 0.1}),
            ({"shear": 20, "degrees": 180}, {"shear": 20, "degrees": 180, "vflip": 0.1}),
        ):
            check_liftable(AffineRanges(**accepted))
            with pytest.raises(ArgumentError, match="shear less"):
                check_liftable(AffineRanges(**refused))


class TestOfTheBatch:
    @pytest.mark.parametrize("batch", [1, 3, 64])
    def test_a_seeded_draw_is_the_same_in_any_batch_and_under_any_default_dtype(self, batch):
        ranges = AffineRanges(15, (0.2, 0.2), (0.75, 1.25), shear=5, hflip=0.5)
        alone = sample_affine(ranges, 1, SIZE, seed=torch.tensor([77])).matrix[0]
        seeds = torch.randint(-(2**62), 2**62, (batch,), generator=torch.Generator().manual_seed(batch))
        seeds[batch // 2] = 77
        torch.set_default_dtype(torch.float64)
        try:
            drawn = sample_affine(ranges, batch, SIZE, seed=seeds).matrix
        finally:
            torch.set_default_dtype(torch.float32)
        assert torch.equal(drawn[batch // 2], alone)
        # The angle and the scale are of the seed alone; only the middle and the shift know the frame.
        other = sample_affine(ranges, batch, (7, 9), seed=seeds).matrix
        assert torch.equal(other[:, :2, :2], drawn[:, :2, :2])

    @pytest.mark.parametrize("cast", [torch.bfloat16, torch.float16])
    def test_autocast_changes_no_bit_of_a_draw(self, cast):
        ranges = AffineRanges(180, (0.5, 0.5), (0.5, 2.0), shear=20, vflip=0.5)
        plain = sample_affine(ranges, 50, (2448, 2448), seed=torch.arange(50)).matrix
        with torch.autocast("cpu", cast):
            under = sample_affine(ranges, 50, (2448, 2448), seed=torch.arange(50)).matrix
        assert torch.equal(plain, under)

    def test_seeds_are_not_written_to(self):
        seeds = torch.arange(5)
        sample_affine(AffineRanges(15), 5, SIZE, seed=seeds)
        RandomAffine(15, same_on_batch=True).sample(5, SIZE, seed=seeds)
        assert torch.equal(seeds, torch.arange(5))
        assert seeds._version == 0


@pytest.mark.parametrize(
    "ranges",
    [
        AffineRanges(degrees=15, translate=(0.2, 0.2), scale=(0.75, 1.25)),
        AffineRanges(degrees=180, scale=(0.5, 2.0)),
        AffineRanges(translate=(0.3, 0.1), hflip=0.5),
        AffineRanges(degrees=(10, 20), scale=(0.8, 0.9, 1.1, 1.2), shear=(-10, 10, -5, 5)),
    ],
)
def test_no_view_looks_further_than_the_reach_and_some_come_near(ranges):
    height, width = size = (60, 90)
    drawn = sample_affine(ranges, 20_000, size, generator=torch.Generator().manual_seed(0))
    corners = torch.tensor([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]]).double()
    seen = drawn.inverse().points(corners.expand(len(drawn), -1, -1))  # [B, 4, 2]
    beyond = torch.stack([-seen, seen - torch.tensor([width - 1, height - 1])]).amax()
    reach = ranges.reach(size)
    assert beyond <= reach + 0.001 * width
    assert beyond > 0.8 * reach


def test_who_does_not_move_does_not_look_beyond():
    assert AffineRanges(hflip=0.5).reach((60, 90)) == pytest.approx(0, abs=1e-9)
    assert AffineRanges(translate=(0.1, 0.1)).reach((100, 200)) == pytest.approx(20)
    # The paper's worst case: a window of 1171 px for a crop of 512.
    paper = AffineRanges(degrees=15, translate=(0.2, 0.2), scale=(0.75, 1.25))
    assert 512 + 2 * paper.reach((512, 512)) == pytest.approx(1170.5, abs=1.5)
