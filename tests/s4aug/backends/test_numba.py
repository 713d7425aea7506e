"""The kernels for the CPU against the reference: the same bits, the same validity, the same gradients."""

import importlib
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from s4aug import AffineTransform, warp

pytest.importorskip("numba")
from s4aug.backends.numba import softmax
from s4aug.backends.numba import warp as kernels
from tests.s4aug.backends.numba_cases import (
    FLOATS,
    INTEGERS,
    MODES,
    MOTIONS,
    SMOOTH,
    Case,
    assert_as_reference,
    assert_gradients_as_reference,
    assert_same_bits,
    gradients,
    pixels,
)
from tests.s4aug.pixels import PADDINGS

FILLS = [
    (torch.float32, math.nan),
    (torch.float32, math.inf),
    (torch.float32, -0.0),
    (torch.float32, 1e-45),
    (torch.float16, 65504.0),
    (torch.bfloat16, math.nan),
    (torch.float64, 0.1),
    (torch.uint8, 255),
    (torch.int8, -1),
    (torch.int16, -(2**15)),
    (torch.uint16, 2**16 - 1),
    (torch.uint32, 2**32 - 1),
    (torch.uint64, 2**64 - 1),
    (torch.int64, 2**63 - 1),
    (torch.int64, -(2**63)),
    (torch.int64, 2**53 + 1),
    (torch.bool, True),
]
MEAN_STD = ([0.5, -0.25, 3.0], [0.3, 2.0, -0.7])
sides = st.tuples(st.integers(1, 67), st.integers(1, 67))
float_cases = st.builds(
    Case,
    seed=st.integers(0, 2**31),
    batch=st.integers(0, 5),
    channels=st.integers(0, 17),
    size=sides,
    out_size=sides,
    mode=st.sampled_from(MODES),
    padding=st.sampled_from(PADDINGS),
    motion=st.sampled_from(MOTIONS),
    masked=st.booleans(),
    normalized=st.booleans(),
    special=st.booleans(),
    channels_last=st.booleans(),
    fill=st.sampled_from([0.0, -1.0, 255.0, math.nan, -0.0, math.inf]),
)


@st.composite
def every_case(draw):
    """Of every type that fits the mode."""
    case = draw(float_cases)
    dtype = draw(st.sampled_from([*FLOATS, *INTEGERS]))
    fill = case.fill if dtype.is_floating_point else 1.0
    if case.mode in SMOOTH or case.normalized:
        out_dtype = draw(st.sampled_from([None, *FLOATS]))
        return Case(**(vars(case) | {"dtype": dtype, "out_dtype": out_dtype, "fill": fill}))
    out_dtype = draw(st.sampled_from([None, torch.float32, torch.bfloat16, torch.float64]))
    return Case(**(vars(case) | {"dtype": dtype, "out_dtype": out_dtype, "fill": fill}))


class TestAgainstReference:
    @settings(max_examples=60, deadline=None)
    @given(float_cases)
    @example(Case(batch=0))
    @example(Case(channels=0, normalized=True))
    @example(Case(size=(1, 1), out_size=(67, 1), motion="any", padding="reflection"))
    def test_any_warp_of_float32_has_the_same_bits_and_validity(self, case):
        assert_as_reference(case.image(), case.transform(), **case.options())

    @settings(max_examples=30, deadline=None)
    @given(float_cases)
    @example(Case(batch=0))
    @example(Case(channels=0, normalized=True))
    def test_any_warp_of_float32_has_the_same_gradients(self, case):
        assert_gradients_as_reference(Case(**(vars(case) | {"special": False})))

    @pytest.mark.slow
    @settings(max_examples=1500, deadline=None)
    @given(every_case())
    def test_any_warp_of_any_type_has_the_same_bits_and_validity(self, case):
        assert_as_reference(case.image(), case.transform(), **case.options())

    @pytest.mark.slow
    @settings(max_examples=600, deadline=None)
    @given(every_case())
    def test_any_warp_of_any_type_has_the_same_gradients(self, case):
        assert_gradients_as_reference(Case(**(vars(case) | {"special": False})))

    @pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
    @pytest.mark.parametrize("mode", ["nearest", "lifting"])
    def test_whole_pixels_of_every_type_are_kept(self, mode, dtype):
        for padding in PADDINGS:
            case = Case(mode=mode, padding=padding, dtype=dtype, special=True, motion="gentle", fill=1)
            shown, _ = assert_as_reference(case.image(), case.transform(), **case.options())
            assert shown.dtype == dtype

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.uint8, torch.int64])
    @pytest.mark.parametrize("mode", SMOOTH)
    def test_other_types_are_interpolated_as_the_reference_does(self, mode, dtype):
        for kind in ("gentle", "lattice"):
            case = Case(mode=mode, dtype=dtype, motion=kind, special=True, fill=-2.0)
            assert_as_reference(case.image(), case.transform(), **case.options())

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
    def test_integers_are_normalised_in_the_same_pass(self, dtype):
        for out_dtype in (torch.float32, torch.bfloat16, torch.float16):
            case = Case(dtype=dtype, normalized=True, out_dtype=out_dtype, fill=-1.0)
            assert_as_reference(case.image(), case.transform(), **case.options())

    @pytest.mark.parametrize("padding", PADDINGS)
    @pytest.mark.parametrize("mode", MODES)
    def test_padding_is_normalised_and_fill_is_not(self, mode, padding):
        case = Case(mode=mode, padding=padding, motion="gentle")
        options = case.options() | {"normalize": MEAN_STD, "fill": 77.0}
        shown, real = assert_as_reference(case.image(), case.transform(), **options)
        assert not real.all()
        assert bool((shown == 77.0).any()) == (padding == "fill")

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("mode", MODES)
    def test_gradients_of_other_types(self, mode, dtype):
        image, matrix = assert_gradients_as_reference(Case(mode=mode, dtype=dtype))
        assert image.abs().sum() > 0
        assert (matrix is not None) == (mode in SMOOTH)

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
    def test_the_matrix_gradient_of_an_integer_image(self, dtype):
        case = Case(dtype=dtype)
        _, matrix = assert_gradients_as_reference(case)
        assert (matrix[:, :2] != 0).all()

    @pytest.mark.parametrize("out_dtype", [torch.float16, torch.bfloat16])
    def test_a_float32_gradient_behind_a_16_bit_output_is_not_rounded_to_16_bits(self, out_dtype):
        size, out_size = (4, 5), (80, 100)
        enlarged = AffineTransform.resize(out_size, size, 1)
        image, given = pixels((1, 1, *size), torch.float32, torch.Generator()), torch.full((1, 1, *out_size), 300.0)
        options = {"mode": "bilinear", "padding": "border", "dtype": out_dtype}
        mine, theirs = (gradients(image, enlarged, backend, given, **options)[0] for backend in ("numba", "torch"))
        # 400 times 300 and more is beyond float16.
        assert theirs.max() > torch.finfo(torch.float16).max
        assert_close(mine, theirs, rtol=1e-5, atol=0)


class TestComparison:
    """The checks above see what they are to see."""

    def wrong(self, monkeypatch, change):
        forward = kernels.forward

        def changed(*args, **options):
            shown, real = forward(*args, **options)
            change(shown, real)
            return shown, real

        monkeypatch.setattr(importlib.import_module("s4aug.backends.numba"), "forward", changed)

    @pytest.mark.parametrize(
        "change",
        [
            lambda shown, real: shown[0, 0, 3:4, 3].add_(1e-6),
            lambda shown, real: real[0, 0, :1, 0].logical_not_(),
            lambda shown, real: shown[0, -1, 4].mul_(1.0001),
        ],
        ids=["one pixel", "one validity", "one row"],
    )
    def test_a_wrong_forward_is_seen(self, monkeypatch, change):
        case = Case()
        self.wrong(monkeypatch, change)
        with pytest.raises(AssertionError):
            assert_as_reference(case.image(), case.transform(), **case.options())

    @pytest.mark.parametrize("name", ["image_gradient", "matrix_gradient"])
    def test_a_wrong_gradient_is_seen(self, monkeypatch, name):
        right = getattr(kernels, name)
        monkeypatch.setattr(
            importlib.import_module("s4aug.backends.numba"),
            name,
            lambda *args, **options: right(*args, **options) * 1.001,
        )
        with pytest.raises(AssertionError):
            assert_gradients_as_reference(Case())

    def test_both_zeros_differ_and_all_nan_are_alike(self):
        with pytest.raises(AssertionError, match="1 of 2 differ"):
            assert_same_bits(torch.tensor([0.0, 1.0]), torch.tensor([-0.0, 1.0]))
        assert_same_bits(torch.tensor([math.nan]), torch.tensor([-math.nan]))

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("kind", MOTIONS)
    def test_the_motions_show_something_real(self, kind, mode):
        case = Case(batch=40, channels=1, size=(23, 31), out_size=(23, 31), mode=mode, motion=kind)
        shown = warp(case.image(), case.transform(), mode=mode).valid.double().mean()
        assert (0 if kind == "far" else 0.03) <= shown < 1


class TestSpecialValues:
    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("dtype", FLOATS)
    def test_lattice_moves_keep_zeros_of_both_signs_nan_and_infinities(self, dtype, mode):
        values = torch.tensor([-0.0, math.nan, math.inf, -math.inf, 0.0, 1e-7, -0.0, 2.5], dtype=dtype)
        image = values[torch.randint(8, (2, 3, 6, 7), generator=torch.Generator().manual_seed(2))]
        shown, real = assert_as_reference(image, AffineTransform.hflip(2, (6, 7)), mode=mode, padding="fill")
        assert real.all()
        assert_same_bits(shown, image.flip(3))

    @pytest.mark.parametrize("padding", PADDINGS)
    @pytest.mark.parametrize("kind", MOTIONS)
    @pytest.mark.parametrize("mode", MODES)
    def test_nan_and_infinities_spread_where_they_are_read_and_nowhere_else(self, mode, kind, padding):
        for masked in (False, True):
            case = Case(mode=mode, motion=kind, padding=padding, masked=masked, special=True, fill=5.0)
            assert_as_reference(case.image(), case.transform(), **case.options())

    @pytest.mark.parametrize("padding", PADDINGS)
    @pytest.mark.parametrize("mode", MODES)
    def test_nan_under_the_mask_reaches_neither_values_nor_gradients(self, mode, padding):
        case = Case(mode=mode, padding=padding, masked=True, motion="halves" if mode == "lifting" else "gentle")
        image, transform, options = case.image(), case.transform(), case.options()
        poisoned = torch.where(options["valid"], image, math.nan)
        given = torch.ones(2, 3, *case.out_size)
        shown, real = assert_as_reference(poisoned, transform, **options)
        assert 0 < real.double().mean() < 1
        assert shown.isfinite().all()
        for mine, theirs in zip(
            gradients(poisoned, transform, "numba", given, **options),
            gradients(image, transform, "numba", given, **options),
            strict=True,
        ):
            if theirs is not None:
                assert theirs.isfinite().all()
                assert torch.equal(mine, theirs)

    @pytest.mark.parametrize("mode", SMOOTH)
    @pytest.mark.parametrize("masked", [False, True])
    def test_neighbours_of_no_weight_are_not_read_and_give_slopes_as_in_the_reference(self, mode, masked):
        # Columns on the lattice, rows between: NaN in some pixels meets taps of weight zero.
        transform = AffineTransform.shift(torch.tensor([[2.0, 0.5], [-1.0, 0.0]]), (9, 14))
        case = Case(mode=mode, masked=masked, out_size=(9, 14))
        image, options, given = case.image(), case.options(), torch.ones(2, 3, 9, 14)
        image[:, :, :, 5] = math.nan
        image[:, :, 3] = math.inf
        shown, _ = assert_as_reference(image, transform, **options)
        column = shown[1, :, 5:, 5]
        assert shown[1, :, 5:, 4].isnan().any()
        assert column.isfinite().all()
        mine, theirs = (gradients(image, transform, backend, given, **options) for backend in ("numba", "torch"))
        assert_close(mine, theirs, rtol=1e-5, atol=1e-4, equal_nan=True)
        assert mine[0].isfinite().all()

    @pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
    @pytest.mark.parametrize("kind", ["gentle", "lattice", "halves"])
    @pytest.mark.parametrize("mode", MODES)
    def test_gradients_that_are_not_finite_reach_the_pixels_that_were_read(self, mode, kind, value):
        for padding, masked in (("fill", False), ("fill", True), ("border", False)):
            case = Case(mode=mode, motion=kind, padding=padding, masked=masked)
            given = torch.ones(2, 3, *case.out_size)
            given[:, :, ::5, ::4] = value
            made = [
                gradients(case.image(), case.transform(), backend, given, **case.options())
                for backend in ("numba", "torch")
            ]
            assert not made[1][0].isfinite().all()
            assert made[1][0].isfinite().any()
            assert_close(made[0][0], made[1][0], rtol=1e-5, atol=1e-5, equal_nan=True)
            if mode in SMOOTH:
                assert torch.equal(made[0][1].isfinite(), made[1][1].isfinite())

    @pytest.mark.parametrize(
        ("mode", "dtype", "fill"),
        [(mode, *given) for mode in MODES for given in FILLS if mode not in SMOOTH or given[0].is_floating_point],
    )
    def test_fill_is_kept_to_the_bit(self, mode, dtype, fill):
        case = Case(mode=mode, dtype=dtype)
        transform = AffineTransform.shift(torch.tensor([[3.0, -2.0]] * 2), (9, 14))
        shown, real = assert_as_reference(case.image(), transform, mode=mode, fill=fill)
        outside = shown[~real.expand_as(shown)]
        assert len(outside)
        assert_same_bits(outside, torch.full_like(outside, fill))

    @pytest.mark.parametrize("padding", PADDINGS)
    @pytest.mark.parametrize("mode", SMOOTH)
    def test_a_sum_of_negative_zeros_is_one(self, mode, padding):
        case = Case(mode=mode, padding=padding, motion="gentle")
        assert_as_reference(-torch.zeros_like(case.image()), case.transform(), **case.options())


class TestExponential:
    def test_it_is_that_of_float64_to_a_unit_in_the_last_place(self):
        numbers = -np.linspace(0, 87.3, 400_001).astype(np.float32)
        made, true = exponentials(numbers), np.exp(numbers.astype(np.float64))
        assert (np.abs(made - true) / np.spacing(true.astype(np.float32))).max() <= 1

    def test_its_ends_and_what_is_no_number(self):
        made = exponentials(np.array([0.0, -0.0, -100.0, -np.inf, np.nan], np.float32))
        assert made[:4].tolist() == [1, 1, 0, 0]
        assert np.isnan(made[4])


def exponentials(numbers):
    return np.array([softmax.exponential(number) for number in numbers], np.float32)
