"""Lifting permutes pixels near the map, its inverse undoes it, and what it cannot follow is refused."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s4aug import AffineTransform, ArgumentError, warp
from s4aug.lifting import Lifting, strayed_px
from tests.s4aug.lifting_cases import mixed_motion, permuted, region, rotation

SIZES = [(1, 1), (1, 37), (38, 1), (64, 64), (33, 50), (101, 101)]


def strays(t, lifting, margin=12):
    """How far each sample's pixels land from the float64 map at most, by numpy."""
    columns, rows = region(t.size, margin)
    x, y = (part.numpy() for part in lifting.pixels(columns, rows))
    matrix = t.matrix.detach().numpy()[:, :, :, None, None]
    true_x = matrix[:, 0, 0] * columns.numpy() + matrix[:, 0, 1] * rows.numpy() + matrix[:, 0, 2]
    true_y = matrix[:, 1, 0] * columns.numpy() + matrix[:, 1, 1] * rows.numpy() + matrix[:, 1, 2]
    return np.hypot(x - true_x, y - true_y).max((1, 2))


def unreturned(there, back, size, margin=12):
    """Samples with a pixel that `back` does not bring home from where `there` puts it."""
    columns, rows = region(size, margin)
    x, y = back.pixels(*there.pixels(columns, rows))
    return torch.nonzero(((x != columns) | (y != rows)).flatten(1).any(1)).flatten().tolist()


def assert_permutes_near_the_map(t, margin=12):
    for chunk in range(0, len(t), 60):
        part = t[chunk : chunk + 60]
        lifting = Lifting.of(part)
        assert unreturned(lifting, lifting.inverse(), part.size, margin) == []
        assert unreturned(lifting.inverse(), lifting, part.out_size, margin) == []
        distance = lifting.distance_px.numpy()
        assert (strays(part, lifting, margin) <= distance).all()
        assert (distance <= 1.5).all()


def assert_same_made_anew(t, margin=12):
    """The inverse matrix alone gives the inverse permutation."""
    anew = AffineTransform(t.inverse().matrix.clone(), t.out_size, t.size)
    different = [
        chunk + sample
        for chunk in range(0, len(t), 60)
        for sample in unreturned(
            Lifting.of(t[chunk : chunk + 60]), Lifting.of(anew[chunk : chunk + 60]), t.size, margin
        )
    ]
    assert different == []


@st.composite
def area_keeping(draw, size):
    """One motion of rotation, shear along x, shift and flips, in a batch of one."""
    angle = draw(st.integers(-360, 360) | st.floats(-180, 180) | st.sampled_from([45.0, 135.0, 44.999999999, 1e-10]))
    coordinate = st.integers(-40, 40) | st.integers(-80, 80).map(lambda half: half / 2) | st.floats(-40, 40)
    t = AffineTransform.from_params(
        angle=float(angle), translation=(float(draw(coordinate)), float(draw(coordinate))), size=size
    )
    flip = draw(st.sampled_from(["none", "hflip", "vflip"]))
    if flip != "none":
        return getattr(AffineTransform, flip)(1, size) @ t
    return t @ AffineTransform.from_params(shear=(draw(st.just(0.0) | st.floats(-30, 30)), 0.0), size=size)


class TestPermutation:
    @pytest.mark.parametrize("size", SIZES)
    def test_every_whole_degree_permutes_pixels_within_the_distance_it_reports(self, size):
        assert_permutes_near_the_map(rotation(range(360), size), margin=6 if size == (101, 101) else 12)

    @pytest.mark.parametrize("size", SIZES[:-1])
    @pytest.mark.parametrize("shift", ["whole", "half", "any"])
    def test_turns_with_shifts_shears_and_flips_permute_pixels_within_the_distance_they_report(self, shift, size, rng):
        random = torch.rand(40, 5, generator=rng, dtype=torch.float64)
        translation = 60 * random[:, 1:3] - 30
        translation = translation if shift == "any" else translation.round() / (2 if shift == "half" else 1)
        turned = AffineTransform.from_params(angle=720 * random[:, 0] - 360, translation=translation, size=size)
        shear = torch.stack([50 * random[:, 3] - 25, 10 * random[:, 4] - 5], -1)
        sheared = turned @ AffineTransform.from_params(shear=shear, size=size)
        # Some of the shears turn back what was turned, and then stray: those have their own test.
        sheared = sheared[strayed_px(sheared.matrix[:, :2, :2]) <= 1.5]
        assert len(sheared) > 30
        flips = [flip(1, size) for flip in (AffineTransform.hflip, AffineTransform.vflip)]
        for t in (turned, sheared, turned @ flips[0], flips[1] @ turned, flips[0] @ turned @ flips[1]):
            assert_permutes_near_the_map(t)

    @settings(deadline=None, max_examples=60)
    @given(data=st.data())
    def test_products_permute_pixels_within_the_distance_they_report(self, data):
        size = data.draw(st.sampled_from([(1, 1), (1, 9), (21, 21), (16, 16), (13, 20)]))
        t = data.draw(area_keeping(size)) @ data.draw(area_keeping(size))
        if strayed_px(t.matrix[:, :2, :2]) <= 1.5:
            assert_permutes_near_the_map(t)
        else:
            with pytest.raises(ArgumentError, match="shear less"):
                Lifting.of(t)

    def test_no_two_pixels_land_on_one(self):
        size = (33, 50)
        columns, rows = region(size, 20)
        for t in (rotation(range(0, 360, 15), size), mixed_motion(size)):
            x, y = Lifting.of(t).pixels(columns, rows)
            for sample in range(len(t)):
                landed = np.unique(x[sample].numpy() * 2**20 + y[sample].numpy())
                assert len(landed) == columns.numel() * rows.numel()

    @pytest.mark.parametrize("out_size", [(9, 12), (14, 5)])
    def test_pixels_go_where_the_documented_steps_lead(self, out_size):
        t = mixed_motion((9, 12), out_size)
        columns, rows = region((9, 12), 3)
        for lifting in (Lifting.of(t), Lifting.of(t).inverse(), Lifting.of(t.inverse())):
            x, y = lifting.pixels(columns, rows)
            for sample, i, j in np.ndindex(*x.shape):
                expected = permuted(lifting, sample, j - 3, i - 3)
                assert (int(x[sample, i, j]), int(y[sample, i, j])) == expected

    def test_pixels_far_from_the_origin_permute_too(self):
        t = rotation([30.0, 61.7, -139.0], (32768, 32768))
        lifting = Lifting.of(t)
        for columns, rows in ((32700, 0), (32700, 32700), (0, 32700), (16380, 16380)):
            x = torch.arange(columns, columns + 60)[None, None]
            y = torch.arange(rows, rows + 60)[None, :, None]
            moved = lifting.pixels(x, y)
            back = lifting.inverse().pixels(*moved)
            assert all(torch.equal(a, b.expand_as(a)) for a, b in zip(back, (x, y), strict=True))
            true = t.points(torch.stack(torch.broadcast_tensors(x, y), -1).double().reshape(1, -1, 2).expand(3, -1, -1))
            distance = np.hypot(*((true[..., k] - moved[k].flatten(1)).numpy() for k in (0, 1)))
            assert (distance.max(1) <= lifting.distance_px.numpy()).all()

    def test_the_distance_of_the_draw_is_the_one_that_is_held_to(self, rng):
        t = AffineTransform.from_params(angle=360 * torch.rand(50, generator=rng), shear=(10.0, 0.0), size=(50, 50))
        torch.testing.assert_close(strayed_px(t.matrix[:, :2, :2]), Lifting.of(t).distance_px, rtol=0, atol=1e-9)
        scaled = torch.eye(2, dtype=torch.float64)[None] * 1.01
        assert strayed_px(scaled).item() == math.inf


def naive_shears(matrix):
    """Three shears and an even split of the shift, in float64: (x by y, y by x, x by y), offsets."""
    (a, _, move_x), (c, d, move_y) = matrix[:2]
    first, third = (d - 1) / c, (a - 1) / c
    along = (move_x - third * move_y) / 2
    return (first, c, third), (along, move_y - c * along, along)


def naive_pixels(matrix, x, y, whole):
    slopes, offsets = naive_shears(matrix)
    x = x + whole(slopes[0] * y + offsets[0])
    y = y + whole(slopes[1] * x + offsets[1])
    return x + whole(slopes[2] * y + offsets[2]), y


class TestTies:
    """Where three rounded shears meet halves, rounding the inverse matrix's shears on their own is not undoing."""

    @pytest.mark.parametrize("whole", [np.round, lambda v: np.floor(v + 0.5)], ids=["round", "floor"])
    def test_naive_rounding_does_not_come_back_at_30_degrees_and_lifting_does(self, whole):
        size = (101, 101)
        t = rotation([30.0], size)
        y, x = np.meshgrid(np.arange(101), np.arange(101), indexing="ij")
        matrix = t.matrix[0].numpy()
        moved = naive_pixels(matrix, x, y, whole)
        back = naive_pixels(np.linalg.inv(matrix), *moved, whole)
        assert ((back[0] != x) | (back[1] != y)).sum() > 50
        for undone in (t.inverse(), AffineTransform(torch.linalg.inv(t.matrix), size)):
            assert unreturned(Lifting.of(t), Lifting.of(undone), size) == []

    @pytest.mark.parametrize("size", [*SIZES[:-1], (21, 21), (101, 101)])
    @pytest.mark.parametrize("shift", [(0, 0), (3, 1)])
    def test_every_whole_degree_is_undone_by_its_inverse_matrix_alone(self, shift, size):
        assert_same_made_anew(rotation(range(360), size, shift), margin=6 if size == (101, 101) else 12)

    @pytest.mark.parametrize("size", [(1, 9), (21, 21), (16, 16), (13, 20)])
    @pytest.mark.parametrize("flip", [None, AffineTransform.hflip, AffineTransform.vflip])
    @pytest.mark.parametrize("parts_px", [1, 2, 1000])
    def test_turns_with_shifts_and_flips_are_undone_by_their_inverse_matrix_alone(self, parts_px, flip, size, rng):
        random = torch.rand(100, 3, generator=rng, dtype=torch.float64)
        translation = ((40 * random[:, 1:] - 20) * parts_px).round() / parts_px
        t = AffineTransform.from_params(angle=(720 * random[:, 0]).round() / 2, translation=translation, size=size)
        assert_same_made_anew(t if flip is None else flip(1, size) @ t)

    @settings(deadline=None, max_examples=60)
    @given(data=st.data())
    def test_products_are_undone_by_their_inverse_matrix_alone(self, data):
        size = data.draw(st.sampled_from([(1, 1), (1, 9), (21, 21), (16, 16), (13, 20)]))
        t = data.draw(area_keeping(size)) @ data.draw(area_keeping(size))
        if strayed_px(t.matrix[:, :2, :2]) <= 1.5:
            assert_same_made_anew(t)

    def test_float_noise_in_the_matrix_does_not_change_the_permutation(self, rng):
        size, angles = (21, 21), torch.arange(360, dtype=torch.float64)
        t = AffineTransform.from_params(angle=angles, size=size)
        noise = 2 * torch.rand(360, 2, 3, generator=rng, dtype=torch.float64) - 1
        noise *= torch.tensor([1e-13, 1e-13, 1e-9])
        noisy = t.matrix.clone()
        noisy[:, :2] += noise
        columns, rows = region(size, 8)
        for a, b in zip(*(Lifting.of(m).pixels(columns, rows) for m in (t, AffineTransform(noisy, size))), strict=True):
            assert torch.equal(a, b)


class TestInverse:
    def test_the_inverse_of_an_inverse_is_the_transform_itself(self):
        t = mixed_motion((9, 12))
        assert t.inverse().inverse() is t

    def test_indexing_and_moving_an_inverse_keep_what_it_undoes(self, rng):
        t = AffineTransform.from_params(
            angle=360 * torch.rand(64, generator=rng), size=(33, 50), translation=(0.3, 7.1)
        )
        undone = t.inverse()
        # Worked out again from the inverse matrix, the last bits differ.
        assert not torch.equal(AffineTransform(undone.matrix, (33, 50)).inverse().matrix, t.matrix)
        assert torch.equal(undone.to("cpu").inverse().matrix, t.matrix)
        assert torch.equal(undone[5].inverse().matrix, t.matrix[5:6])
        assert torch.equal(undone[10:20].inverse().matrix, t.matrix[10:20])
        picked = torch.tensor([3, 3, 60])
        assert torch.equal(undone[picked].to("cpu").inverse().matrix, t.matrix[picked])
        assert undone.at((33, 50), stride=1).inverse() is t

    def test_a_chosen_sample_of_an_inverse_undoes_that_sample(self, rng):
        t = rotation([30.0, 100.0, 120.0, 285.0], (21, 21))
        image = torch.rand(4, 2, 21, 21, generator=rng)
        warped, real = warp(image, t, mode="lifting")
        for sample in range(4):
            one = t.inverse()[sample]
            back, valid = warp(warped[sample : sample + 1], one, valid=real[sample : sample + 1], mode="lifting")
            shown = valid.expand_as(back)
            assert valid.double().mean() > 0.7
            assert torch.equal(back[shown], image[sample : sample + 1][shown])

    def test_factors_of_an_inverse_are_the_reversed_factors(self):
        t = mixed_motion((9, 12))
        forward, backward = Lifting.of(t), Lifting.of(t.inverse())
        assert torch.equal(backward.slopes, -forward.slopes.flip(-1))
        assert torch.equal(backward.offsets, -forward.offsets.flip(-1))
        assert torch.equal(backward.before, forward.after.mT)
        assert torch.equal(backward.after, forward.before.mT)


def refused_matrices():
    """Name, matrix, and what the error says."""
    eye = np.eye(3)
    off = eye + 1e-8 * np.diag([1.0, 0.0, 0.0])
    strong = eye + math.tan(math.radians(70)) * np.eye(3, k=1) * [[1], [0], [0]]
    stretched = np.diag([2.0, 0.5, 1.0])
    return {
        "scale 1.01": (np.diag([1.01, 1.01, 1.0]), "keep area to 1e-9.*1.0201.*without scale"),
        "scale of one axis": (np.diag([1.0, 0.99, 1.0]), "keep area to 1e-9.*0.99"),
        "area off by 1e-8": (off, r"keep area to 1e-9.*1.00000001"),
        "shear of 70 degrees": (strong, "stay within 1.5 px.*shear less"),
        "stretched at the same area": (stretched, "stay within 1.5 px.*shear less"),
    }


class TestRefused:
    @pytest.mark.parametrize("name", refused_matrices())
    @pytest.mark.parametrize("sample", [0, 2])
    def test_a_map_that_lifting_cannot_follow_is_an_error_that_names_the_sample(self, sample, name):
        bad, says = refused_matrices()[name]
        matrix = mixed_motion((20, 20)).matrix
        matrix[sample] = torch.from_numpy(bad)
        t = AffineTransform(matrix, (20, 20))
        image = torch.zeros(4, 1, 20, 20)
        with pytest.raises(ArgumentError, match=f"lifting: the matrix of sample {sample} must {says}.*another mode"):
            warp(image, t, mode="lifting")
        with pytest.raises(ArgumentError, match=f"sample {sample}"):
            warp(image, t.inverse(), mode="lifting")
        # Other modes show it.
        assert warp(image, t, mode="nearest").valid.any()

    @pytest.mark.parametrize("off", [-5e-10, 5e-10])
    def test_float_noise_in_the_area_is_no_scale(self, off):
        matrix = rotation([30.0], (20, 20)).matrix
        matrix[:, 0, :2] *= 1 + off
        assert Lifting.of(AffineTransform(matrix, (20, 20))).distance_px < 1.5

    @pytest.mark.parametrize("name", refused_matrices())
    def test_compiled_nothing_is_raised_and_such_a_sample_shows_nothing(self, name):
        size = (12, 13)
        matrix = mixed_motion(size).matrix
        matrix[1] = torch.from_numpy(refused_matrices()[name][0])
        image = torch.rand(4, 2, *size, generator=torch.Generator().manual_seed(0))

        def moved(image, matrix):
            t = AffineTransform(matrix, size)
            there = warp(image, t, mode="lifting", fill=-1.0)
            return *there, *warp(there.image, t.inverse(), valid=there.valid, mode="lifting", fill=-1.0)

        # One compilation serves all cases.
        compiled = torch.compile(moved, backend="eager", fullgraph=True)(image, matrix)
        for pixels, valid in (compiled[:2], compiled[2:]):
            assert not valid[1].any()
            assert (pixels[1] == -1).all()
        good = torch.tensor([0, 2, 3])
        for a, b in zip(compiled, moved(image[good], matrix[good]), strict=True):
            assert b.any()
            assert torch.equal(a[good], b)

    def test_compiled_with_gradients_is_the_same_as_eager(self, rng):
        size = (12, 13)
        t = mixed_motion(size)
        image = torch.rand(4, 2, *size, generator=rng)

        def moved(image, matrix):
            return warp(image, AffineTransform(matrix, size), mode="lifting")

        results = []
        for run in (moved, torch.compile(moved, backend="aot_eager", fullgraph=True)):
            leaf = image.clone().requires_grad_()
            warped, valid = run(leaf, t.matrix)
            (warped * image).square().sum().backward()
            results.append((warped.detach(), valid, leaf.grad))
        assert results[0][2].any()
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))

    def test_the_shapes_are_known_without_values(self):
        matrix = mixed_motion((9, 12)).matrix.to("meta")
        t = AffineTransform(matrix, (9, 12), (7, 5))
        warped, valid = warp(torch.zeros(4, 3, 9, 12, device="meta"), t, mode="lifting")
        assert warped.shape == (4, 3, 7, 5)
        assert valid.shape == (4, 1, 7, 5)
        assert valid.dtype == torch.bool

    def test_the_operator_describes_its_own_results(self):
        matrix = mixed_motion((9, 12)).matrix
        checks = ("test_schema", "test_faketensor")
        done = torch.library.opcheck(torch.ops.s4aug.lifting_factors.default, (matrix, 12), test_utils=checks)
        assert set(done.values()) == {"SUCCESS"}
