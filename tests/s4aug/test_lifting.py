import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from s4aug import AffineTransform, ArgumentError, warp
from s4aug.lifting import Lifting, strayed_px

SIZES = [(1, 1), (1, 37), (38, 1), (64, 64), (33, 50), (101, 101)]
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64)
DTYPES = (*FLOATS, *INTEGERS, torch.bool)
CARRIER = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
FINEST_STEP_PX = Fraction(1, 2**20)


def bits(tensor):
    """The bytes of each value as an integer, so that NaN and the sign of zero compare."""
    if tensor.dtype in (torch.float16, torch.bfloat16):
        # torch itself gives a 16-bit NaN other bits, when it gathers or converts: here all are one.
        tensor = torch.where(tensor.isnan(), torch.full_like(tensor, math.nan), tensor)
    return tensor.contiguous().view(CARRIER[tensor.element_size()])


def special_image(shape, dtype, generator):
    """Values of all kinds, no two bytes alike for integers: for floats NaN, infinities, -0.0 and subnormals too."""
    raw = torch.randint(-(2**62), 2**62, shape, generator=generator)
    if dtype == torch.bool:
        return raw % 2 == 0
    if not dtype.is_floating_point:
        return raw.view(dtype) if dtype.itemsize == 8 else (raw % 2 ** (8 * dtype.itemsize)).to(dtype)
    info = torch.finfo(dtype)
    special = [math.nan, math.inf, -math.inf, 0.0, -0.0, info.max, info.tiny, info.smallest_normal / 4]
    special = torch.tensor(special, dtype=torch.float64).to(dtype)
    picked = torch.randint(2 * len(special), shape, generator=generator)
    plain = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    return torch.where(picked < len(special), special[picked.clamp_max(len(special) - 1)], plain)


def rotation(degrees, size, translation=(0.0, 0.0)):
    """Turns about the middle by the cosines of the math module, noise at 90 degrees and all."""
    middle = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
    matrices = []
    for angle in degrees:
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        linear = np.array([[cos, sin], [-sin, cos]])
        offset = middle + translation - linear @ middle
        matrices.append([[*linear[0], offset[0]], [*linear[1], offset[1]], [0, 0, 1]])
    return AffineTransform(torch.tensor(np.array(matrices), dtype=torch.float64), size)


def region(size, margin):
    """Columns [1, 1, w] and rows [1, h, 1] of a frame and what lies around it."""
    columns = torch.arange(-margin, size[1] + margin)[None, None]
    return columns, torch.arange(-margin, size[0] + margin)[None, :, None]


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


def rounded(value):
    """To whole numbers by Fractions: snapped to 2^-20 first, halves away from zero."""

    def away(number):
        return (1 if number >= 0 else -1) * math.floor(abs(number) + Fraction(1, 2))

    return away(away(value / FINEST_STEP_PX) * FINEST_STEP_PX)


def permuted(lifting, sample, x, y):
    """Where one pixel goes, by the steps that `Lifting` documents, in whole numbers and Fractions."""
    (a, b), (c, d) = lifting.before[sample].tolist()
    x, y = a * x + b * y, c * x + d * y
    slopes, offsets = (
        [Fraction(part, 2**40) for part in parts[sample].tolist()] for parts in (lifting.slopes, lifting.offsets)
    )
    shifts = lifting.shifts[sample].tolist()
    x += rounded(slopes[0] * y + offsets[0]) + shifts[0]
    y += rounded(slopes[1] * x + offsets[1]) + shifts[1]
    x += rounded(slopes[2] * y + offsets[2]) + shifts[2]
    (a, b), (c, d) = lifting.after[sample].tolist()
    return a * x + b * y, c * x + d * y


def shown_by(t):
    """For each sample the source pixel (x, y) of each output pixel (x, y)."""
    lifting, backwards = Lifting.of(t), Lifting.of(t).inverse()
    tables = []
    for sample in range(len(t)):
        table = {}
        for x, y in np.ndindex(t.out_size[1], t.out_size[0]):
            source = permuted(backwards, sample, x, y)
            assert permuted(lifting, sample, *source) == (x, y)
            table[x, y] = source
        tables.append(table)
    return tables


def folded(index, length, padding):
    if padding == "border":
        return min(max(index, 0), length - 1)
    while not 0 <= index < length:
        index = -1 - index if index < 0 else 2 * length - 1 - index
    return index


def looped_warp(image, t, *, valid=None, fill=0.0, padding="fill"):
    """Pixel by pixel through the permutation: image [B, C, h, w] and validity [B, 1, h, w]."""
    height, width = t.size
    out = torch.full((*image.shape[:2], *t.out_size), fill, dtype=image.dtype)
    real = torch.zeros(len(image), 1, *t.out_size, dtype=torch.bool)
    for sample, table in enumerate(shown_by(t)):
        for (x, y), (from_x, from_y) in table.items():
            inside = 0 <= from_x < width and 0 <= from_y < height
            if not inside and padding == "fill":
                continue
            from_x, from_y = folded(from_x, width, padding), folded(from_y, height, padding)
            if valid is not None and not valid[sample, 0, from_y, from_x]:
                continue
            out[sample, :, y, x] = image[sample, :, from_y, from_x]
            real[sample, 0, y, x] = inside
    return out, real


def mixed_motion(size, out_size=None):
    """Four motions that keep area: turned, turned and moved by fractions, mirrored, sheared."""
    hflip, middle = AffineTransform.hflip(1, size), (0.3 * size[1], 0.2 * size[0])
    parts = [
        AffineTransform.from_params(angle=30.0, size=size),
        AffineTransform.from_params(angle=-117.3, translation=(1.25, -0.5), center=middle, size=size),
        AffineTransform.from_params(angle=71.0, translation=(0.0, 2.0), size=size) @ hflip,
        AffineTransform.from_params(angle=9.0, shear=(12.0, 0.0), size=size),
    ]
    return AffineTransform(torch.cat([part.matrix for part in parts]), size, out_size)


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


def lattice_cases(size):
    """(transform, the same by torch): flips, turns and their products, whole ones by noisy matrices too."""
    hflip, vflip = AffineTransform.hflip(2, size), AffineTransform.vflip(2, size)
    cases = [
        (AffineTransform.identity(2, size), lambda v: v),
        (hflip, lambda v: v.flip(3)),
        (vflip, lambda v: v.flip(2)),
    ]
    for k in range(4):
        turn = AffineTransform.rot90(k, 2, size)
        cases.append((turn, lambda v, k=k: torch.rot90(v, k, (2, 3))))
        cases.append((turn @ hflip, lambda v, k=k: torch.rot90(v.flip(3), k, (2, 3))))
        cases.append((AffineTransform.vflip(1, turn.out_size) @ turn, lambda v, k=k: torch.rot90(v, k, (2, 3)).flip(2)))
        if size[0] == size[1]:
            halves = [AffineTransform.from_params(angle=a, size=size) for a in (17.3, 90.0 * k - 17.3)]
            cases.append((halves[0] @ halves[1] @ hflip, lambda v, k=k: torch.rot90(v.flip(3), k, (2, 3))))
            cases.append((rotation([90.0 * k] * 2, size), lambda v, k=k: torch.rot90(v, k, (2, 3))))
    return cases


class TestLatticeMoves:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 8), (6, 6), (7, 7)])
    def test_flips_turns_and_their_products_are_those_of_torch(self, size, dtype, rng):
        image = special_image((2, 3, *size), dtype, rng)
        for t, by_torch in lattice_cases(size):
            t = AffineTransform(t.matrix.expand(2, 3, 3), t.size, t.out_size)
            warped, real = warp(image, t, mode="lifting")
            assert warped.dtype == dtype
            assert real.all()
            assert torch.equal(bits(warped), bits(by_torch(image)))

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("xy", [(3, -2), (0, 1), (-7, 4), (8, 0)])
    def test_whole_shifts_and_crops_are_slices(self, xy, dtype, rng):
        image, (dx, dy) = special_image((1, 2, 5, 8), dtype, rng), xy
        warped, real = warp(image, AffineTransform.shift(torch.tensor([xy]), (5, 8)), mode="lifting")
        inside = torch.zeros(5, 8, dtype=torch.bool)
        inside[max(dy, 0) : 5 + min(dy, 0), max(dx, 0) : max(8 + min(dx, 0), 0)] = True
        assert torch.equal(real[0, 0], inside)
        rolled = torch.roll(bits(image), (dy, dx), (2, 3))
        assert torch.equal(bits(warped), torch.where(inside, rolled, 0))
        top, left = torch.tensor([1]), torch.tensor([2])
        cropped, real = warp(image, AffineTransform.crop(top, left, (3, 5), (5, 8)), mode="lifting")
        assert torch.equal(bits(cropped), bits(image[..., 1:4, 2:7]))
        assert real.all()


class TestPixels:
    @pytest.mark.parametrize("out_size", [(9, 12), (14, 7)])
    @pytest.mark.parametrize("masked", [False, True])
    @pytest.mark.parametrize("padding", ["fill", "border", "reflection"])
    def test_pixels_and_validity_are_those_of_a_loop_through_the_permutation(self, padding, masked, out_size, rng):
        t = mixed_motion((9, 12), out_size)
        mask = torch.rand(4, 1, 9, 12, generator=rng) < 0.85 if masked else None
        image = torch.rand(4, 2, 9, 12, generator=rng)
        if masked:
            image = torch.where(mask, image, math.nan)
        for direction, source in ((t, image), (t.inverse(), torch.rand(4, 2, *out_size, generator=rng))):
            options = {"valid": mask if direction is t else None, "padding": padding, "fill": -7.0}
            value, real = looped_warp(source, direction, **options)
            warped, valid = warp(source, direction, mode="lifting", **options)
            assert 0 < valid.sum() < valid.numel()
            assert torch.equal(valid, real)
            assert torch.equal(warped, value)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_a_round_trip_returns_identical_bits_inside_the_mask(self, dtype, rng):
        size, out_size = (17, 22), (20, 15)
        t = mixed_motion(size, out_size)
        image = special_image((4, 3, *size), dtype, rng)
        mask = torch.rand(4, 1, *size, generator=rng) < 0.9
        warped, real = warp(image, t, valid=mask, mode="lifting", fill=1)
        back, valid = warp(warped, t.inverse(), valid=real, mode="lifting", fill=1)
        x, y = Lifting.of(t).pixels(*region(size, 0))
        inside = (x >= 0) & (x < out_size[1]) & (y >= 0) & (y < out_size[0])
        assert valid.double().mean() > 0.4
        assert torch.equal(valid, mask & inside[:, None])
        assert warped.dtype == back.dtype == dtype
        shown = valid.expand_as(back)
        assert torch.equal(bits(back)[shown], bits(image)[shown])
        assert torch.equal(bits(back)[~shown], bits(torch.ones_like(image))[~shown])

    def test_a_round_trip_keeps_nan_payloads(self, rng):
        payload = torch.randint(1, 2**22, (1, 1, 21, 21), generator=rng, dtype=torch.int32)
        image = (payload | 0x7FC00000).view(torch.float32)
        t = rotation([30.0], (21, 21))
        warped, real = warp(image, t, mode="lifting")
        back, valid = warp(warped, t.inverse(), valid=real, mode="lifting")
        assert valid.sum() > 300
        assert torch.equal(bits(back)[valid], bits(image)[valid])

    def test_every_pixel_comes_back_through_a_frame_that_holds_them_all(self, rng):
        size, wide = (21, 34), (60, 60)
        labels = torch.randint(0, 2**62, (24, 1, *size), generator=rng)
        turned = rotation([15.0 * k for k in range(24)], size).matrix
        turned[:, 0, 2] += 13
        turned[:, 1, 2] += 19.5
        t = AffineTransform(turned, size, wide)
        warped, real = warp(labels, t, mode="lifting", fill=-1)
        assert (real.sum((1, 2, 3)) == 21 * 34).all()
        back, valid = warp(warped, t.inverse(), valid=real, mode="lifting", fill=-1)
        assert valid.all()
        assert torch.equal(back, labels)

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    @pytest.mark.parametrize("padding", ["fill", "border", "reflection"])
    def test_what_lies_under_the_mask_never_leaks_into_values_or_gradients(self, padding, bad, rng):
        t = mixed_motion((9, 12))
        mask = torch.rand(4, 1, 9, 12, generator=rng) < 0.8
        clean = torch.rand(4, 2, 9, 12, generator=rng)
        results = []
        for under in (0.0, bad):
            image = torch.where(mask, clean, under).requires_grad_()
            warped, real = warp(image, t, valid=mask, padding=padding, mode="lifting", fill=0.5)
            (grad,) = torch.autograd.grad(warped.square().sum(), image)
            assert not grad.masked_select(~mask.expand_as(grad)).any()
            results.append((warped.detach(), real, grad))
        assert results[0][2].any()
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))

    def test_nan_outside_the_mask_is_a_value_and_changes_no_validity(self, rng):
        image, t = torch.rand(4, 1, 9, 12, generator=rng), mixed_motion((9, 12))
        holed = image.clone()
        holed[..., 4, 6] = math.nan
        (whole, real), (warped, still) = (warp(value, t, mode="lifting") for value in (image, holed))
        assert torch.equal(real, still)
        assert warped.isnan().sum() == 4
        assert torch.equal(torch.where(warped.isnan(), whole, warped), whole)

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32, torch.float64])
    def test_normalising_is_that_by_hand_and_fill_stays_in_output_units(self, dtype, rng):
        image, t = (200 * torch.rand(4, 2, 9, 12, generator=rng)).to(dtype), mixed_motion((9, 12))
        mean, std = [100.0, 90.0], [50.0, 60.0]
        warped, real = warp(image, t, mode="lifting", normalize=(mean, std), fill=-9.0)
        value, expected_real = looped_warp(image.double(), t, fill=math.nan)
        column = torch.tensor([mean, std], dtype=torch.float64)[:, None, :, None, None]
        expected = torch.where(expected_real, (value - column[0]) / column[1], -9.0)
        assert torch.equal(real, expected_real)
        assert warped.dtype == (torch.float32 if dtype == torch.uint8 else dtype)
        torch.testing.assert_close(warped.double(), expected, atol=2e-3 if dtype == torch.float16 else 1e-6, rtol=0)

    def test_dtype_turns_labels_into_floats_and_nothing_else(self, rng):
        labels, t = torch.randint(0, 255, (4, 1, 9, 12), generator=rng, dtype=torch.uint8), mixed_motion((9, 12))
        plain = warp(labels, t, mode="lifting").image
        for wanted in FLOATS:
            assert torch.equal(warp(labels, t, mode="lifting", dtype=wanted).image, plain.to(wanted))
        with pytest.raises(ArgumentError, match="dtype must be torch.uint8 or floating"):
            warp(labels, t, mode="lifting", dtype=torch.int16)

    def test_an_empty_batch_is_moved_to_nothing(self):
        warped, real = warp(torch.zeros(0, 3, 9, 12), mixed_motion((9, 12))[:0], mode="lifting")
        assert warped.shape == (0, 3, 9, 12)
        assert real.shape == (0, 1, 9, 12)

    def test_arguments_are_never_written_to(self, rng):
        image, mask = torch.rand(4, 2, 9, 12, generator=rng), torch.rand(4, 1, 9, 12, generator=rng) < 0.9
        matrix = mixed_motion((9, 12)).matrix
        before = [part.clone() for part in (image, mask, matrix)]
        warp(image, AffineTransform(matrix, (9, 12)), valid=mask, mode="lifting", normalize=([0.5] * 2, [2.0] * 2))
        for part, clone in zip((image, mask, matrix), before, strict=True):
            assert torch.equal(part, clone)
            assert part._version == 0


class TestGradients:
    @pytest.mark.parametrize("dtype", FLOATS)
    @pytest.mark.parametrize("masked", [False, True])
    def test_the_gradient_is_the_inverse_permutation_of_what_comes_in(self, masked, dtype, rng):
        t = mixed_motion((9, 12), (10, 11))
        image = torch.rand(4, 2, 9, 12, generator=rng).to(dtype).requires_grad_()
        mask = torch.rand(4, 1, 9, 12, generator=rng) < 0.8 if masked else None
        warped, real = warp(image, t, valid=mask, mode="lifting", fill=3.0)
        cotangent = torch.randn(warped.shape, generator=rng).to(dtype)
        (grad,) = torch.autograd.grad(warped, image, cotangent)
        assert grad.count_nonzero() > 200
        assert torch.equal(grad, warp(cotangent, t.inverse(), valid=real, mode="lifting").image)

    @pytest.mark.parametrize("padding", ["fill", "border", "reflection"])
    def test_first_and_second_gradient_of_the_image(self, padding, rng):
        t = mixed_motion((3, 4))
        image = torch.rand(4, 2, 3, 4, generator=rng, dtype=torch.float64).requires_grad_()
        mask = torch.rand(4, 1, 3, 4, generator=rng) < 0.8

        def moved(image):
            options = {"valid": mask, "padding": padding, "normalize": ([0.5] * 2, [2.0] * 2)}
            return warp(image, t, mode="lifting", **options).image.square()

        assert gradcheck(moved, image)
        assert gradgradcheck(moved, image)

    def test_the_matrix_gets_no_gradient(self, rng):
        matrix = mixed_motion((5, 6)).matrix.requires_grad_()
        image = torch.rand(4, 1, 5, 6, generator=rng)
        for t in (AffineTransform(matrix, (5, 6)), AffineTransform(matrix, (5, 6)).inverse()):
            assert not warp(image, t, mode="lifting").image.requires_grad
        warped = warp(image.requires_grad_(), AffineTransform(matrix, (5, 6)), mode="lifting").image
        of_image, of_matrix = torch.autograd.grad(warped.sum(), [image, matrix], allow_unused=True)
        assert of_image.any()
        assert of_matrix is None


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
