"""The kernels for the CPU against the reference: the same bits, the same validity, the same gradients."""

import importlib
import math
import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from s4aug import AffineTransform, warp

pytest.importorskip("numba")
from s4aug.backends.numba import bilinear, pages, softmax, threads
from s4aug.backends.numba import warp as kernels

ALLOCATING = (kernels, bilinear, pages)

MODES = ("bilinear", "nearest", "bicubic", "lifting")
SMOOTH = ("bilinear", "bicubic")
PADDINGS = ("fill", "border", "reflection")
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
INTEGERS = (
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    *(torch.int8, torch.int16, torch.int32, torch.int64, torch.bool),
)
CARRIER = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
MOTIONS = ("any", "gentle", "flat", "lattice", "halves", "rational", "far")
# Gradients are summed in another order than torch sums them; relative to the largest one.
SUMMED = {torch.float32: 2e-5, torch.float64: 1e-12, torch.float16: 1e-3, torch.bfloat16: 8e-3}
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


@dataclass(frozen=True)
class Case:
    """All that a comparison hangs on; the numbers come from the seed."""

    seed: int = 0
    batch: int = 2
    channels: int = 3
    size: tuple[int, int] = (9, 14)
    out_size: tuple[int, int] = (11, 8)
    mode: str = "bilinear"
    padding: str = "fill"
    motion: str = "gentle"
    dtype: torch.dtype = torch.float32
    out_dtype: torch.dtype | None = None
    masked: bool = False
    normalized: bool = False
    special: bool = False
    channels_last: bool = False
    fill: float = 0.0

    def random(self):
        return torch.Generator().manual_seed(self.seed)

    def image(self):
        shape = (self.batch, self.channels, *self.size)
        made = pixels(shape, self.dtype, self.random(), special=self.special)
        return made.contiguous(memory_format=torch.channels_last) if self.channels_last else made

    def transform(self):
        return motion(self.motion, self.mode, self.batch, self.size, self.out_size, self.random())

    def options(self):
        generator = self.random()
        mask = torch.rand(self.batch, 1, *self.size, generator=generator) < 0.9
        statistics = torch.randn(self.channels, generator=generator), torch.rand(self.channels, generator=generator) + 1
        return {
            "mode": self.mode,
            "padding": self.padding,
            "fill": self.fill,
            "dtype": self.out_dtype,
            "valid": mask if self.masked else None,
            "normalize": statistics if self.normalized else None,
        }


def pixels(shape, dtype, generator, *, special=False):
    """Random values; `special`: NaN, infinities, both zeros, subnormals among them."""
    if dtype == torch.bool:
        return torch.rand(shape, generator=generator) < 0.5
    if not dtype.is_floating_point:
        limits = torch.iinfo(dtype)
        return torch.randint(limits.min, min(limits.max, 2**62) + 1, shape, generator=generator).to(dtype)
    values = torch.randn(shape, generator=generator, dtype=torch.float64)
    if special:
        odd = torch.tensor([math.nan, math.inf, -math.inf, 0.0, -0.0, -0.0, 1e-40, 3e4], dtype=torch.float64)
        picked = odd[torch.randint(len(odd), shape, generator=generator)]
        values = torch.where(torch.rand(shape, generator=generator) < 0.15, picked, values)
    return values.to(dtype)


def motion(kind, mode, batch, size, out_size, generator):
    """Motions of a kind; for lifting those of them that keep area."""
    unit = torch.rand(batch, 8, generator=generator, dtype=torch.float64)
    side = torch.tensor([size[1], size[0]], dtype=torch.float64)
    scale, shear = torch.ones(batch, 2).double(), torch.zeros(batch, 2).double()
    if kind == "flat" and mode != "lifting":
        thin = 10 ** (-4 * unit[:, 0])  # near to singular
        linear = torch.stack([unit[:, 1] + 1, unit[:, 2], unit[:, 1] + 1, unit[:, 2] + thin], -1).unflatten(1, (2, 2))
        moved = (unit[:, 3:5] - 0.5) * side
        return AffineTransform(affine(linear, moved), size, out_size)
    if kind in ("lattice", "halves"):
        turns = torch.tensor([[[1, 0], [0, 1]], [[-1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1], [1, 0]]]).double()
        linear = turns[(4 * unit[:, 0]).long()]
        corner = (linear.clamp(max=0) @ (1 - side)).expand(batch, 2)  # what a flip moves out comes in again
        step = 1 if kind == "lattice" else 0.5
        moved = corner + step * ((unit[:, 3:5] - 0.5) * side * 0.7 / step).round()
        return AffineTransform(affine(linear, moved), size, out_size)
    if kind == "rational" and mode != "lifting":
        ratios = torch.tensor([3 / 4, 3, 7 / 5, 1 / 2, 1 / 3], dtype=torch.float64)
        factors = ratios[(5 * unit[:, :2]).long()]
        # Outer corner on outer corner, as resizing does.
        return AffineTransform(affine(torch.diag_embed(factors), factors / 2 - 0.5), size, out_size)
    moved = (unit[:, 3:5] - 0.5) * side * 0.5
    if kind == "any":
        scale, shear = 0.05 * 400 ** unit[:, 5:7], 60 * unit[:, 1:3] - 30
    if kind == "gentle":
        scale, shear = 0.8 + 0.4 * unit[:, 5:7], 20 * unit[:, 1:3] - 10
    if kind == "far":
        moved = moved * 1e6
    if mode == "lifting":
        scale, shear = torch.ones(batch, 2).double(), torch.zeros(batch, 2).double()
    general = AffineTransform.from_params(
        angle=360 * unit[:, 0], translation=moved, scale=scale, shear=shear, size=size
    )
    return AffineTransform(general.matrix, size, out_size)


def affine(linear, moved):  # [B, 2, 2], [B, 2] -> [B, 3, 3]
    top = torch.cat([linear, moved[..., None]], -1)
    return torch.cat([top, torch.tensor([0.0, 0, 1]).double().expand(len(top), 1, 3)], 1)


def bits(tensor):
    """Each value as an integer, all NaN alike: their bits hang on the processor."""
    if tensor.dtype.is_floating_point:
        tensor = torch.where(tensor.isnan(), torch.full_like(tensor, math.nan), tensor)
    return tensor.contiguous().view(CARRIER[tensor.element_size()])


def assert_same_bits(mine, theirs):
    assert mine.dtype == theirs.dtype
    assert mine.shape == theirs.shape
    if not torch.equal(bits(mine), bits(theirs)):
        wrong = (bits(mine) != bits(theirs)).nonzero()
        place = tuple(wrong[0].tolist())
        raise AssertionError(f"{len(wrong)} of {mine.numel()} differ; at {place}: {mine[place]} for {theirs[place]}")


def assert_as_reference(image, transform, *, mine="numba", **options):
    """The same bits in value and validity, in the order that the image's pixels have."""
    kept = image.detach().clone()
    shown, real = warp(image, transform, backend=mine, **options)
    expected, valid = warp(image, transform, backend="torch", **options)
    assert torch.equal(real, valid)
    assert_same_bits(shown, expected)
    assert_same_bits(image.detach(), kept)
    last = image.is_contiguous(memory_format=torch.channels_last) and not image.is_contiguous()
    assert shown.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    return shown, real


def gradients(image, transform, backend, given, **options):
    """Of a warp, to the image and (pixels interpolated) to the inverse matrix; `given` comes from above."""
    image = image.detach().clone(memory_format=torch.preserve_format)
    image.requires_grad_(image.dtype.is_floating_point)
    inverse = transform.inverse().matrix.detach().clone().requires_grad_(options["mode"] in SMOOTH)
    moved = AffineTransform.from_linear(inverse[:, :2, :2], inverse[:, :2, 2], transform.out_size, transform.size)
    shown = warp(image, moved.inverse(), backend=backend, **options).image
    if shown.requires_grad:
        shown.backward(given.to(shown.dtype))
    return image.grad, inverse.grad


def assert_gradients_as_reference(case):
    image, transform, options = case.image(), case.transform(), case.options()
    shape = (case.batch, case.channels, *case.out_size)
    # All of one sign, so that the largest sum tells the scale of the rounding.
    given = torch.rand(shape, generator=case.random()) + 0.5
    mine = gradients(image, transform, "numba", given, **options)
    # 16-bit gradients are summed in 32 bits and rounded once; torch rounds each copy.
    wide = image.float() if image.dtype in (torch.float16, torch.bfloat16) else image
    options["dtype"] = options["dtype"] or image.dtype if image.is_floating_point() else options["dtype"]
    theirs = gradients(wide, transform, "torch", given.to(options["dtype"] or torch.float32), **options)
    if theirs[0] is not None:
        assert mine[0].dtype == image.dtype
        scale = theirs[0].abs().max().item() if theirs[0].numel() else 0.0
        compute = torch.float64 if options["dtype"] == torch.float64 else torch.float32
        limit = max(SUMMED[image.dtype], SUMMED[compute])
        assert_close(mine[0].to(theirs[0].dtype), theirs[0], rtol=limit, atol=limit * scale)
    if theirs[1] is not None:
        reach = torch.tensor([case.out_size[1], case.out_size[0], 1.0]).double()
        scale = given.sum().item() * image.double().abs().max().item() if image.numel() else 0.0
        # Statistics of a case divide by at least 1.
        limit = 1e-6 * scale * reach + 1e-12
        assert ((mine[1] - theirs[1])[:, :2].abs() <= limit).all()
    return mine


@pytest.fixture
def thread_count():
    """Sets the threads of torch, and puts them back."""
    usual = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(usual)


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


# How the pixels of an image [2, 3, h, 14] may lie.
LAYOUTS = {
    "contiguous": lambda image: image.contiguous(),
    "channels last": lambda image: image.contiguous(memory_format=torch.channels_last),
    "every second column": lambda image: image.repeat_interleave(2, -1)[..., ::2],
    "every second row": lambda image: image.repeat_interleave(2, -2)[..., ::2, :],
    "turned": lambda image: image.mT.contiguous().mT,
    "channels of another": lambda image: torch.cat([image, image], 1)[:, 1:4],
    "part of channels last": lambda image: torch.cat([image, image], 1).contiguous(memory_format=torch.channels_last)[
        :, :3
    ],
    "expanded over the batch": lambda image: image[:1].expand(2, -1, -1, -1),
    "expanded over channels": lambda image: image[:, :1].expand(-1, 3, -1, -1),
    "expanded over columns": lambda image: image[..., :1].expand(-1, -1, -1, 14),
    "with an offset": lambda image: torch.cat([image[:1], image])[1:],
    "batch last": lambda image: image.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
}


class TestLayouts:
    @pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
    @pytest.mark.parametrize("mode", MODES)
    def test_pixels_may_lie_in_any_order(self, mode, layout):
        case = Case(mode=mode)
        for dtype in (torch.float32, torch.uint8):
            image = layout(pixels((2, 3, 9, 14), torch.float32, case.random()).mul(100).clamp(0, 200).to(dtype))
            assert_as_reference(image, case.transform(), **case.options())

    @pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
    @pytest.mark.parametrize("mode", ["bilinear", "nearest"])
    def test_gradients_may_lie_in_any_order(self, mode, layout):
        case = Case(mode=mode, size=(11, 8), out_size=(9, 14), motion="gentle")
        given = layout(pixels((2, 3, 9, 14), torch.float32, case.random()))
        made = []
        for backend in ("numba", "torch"):
            made.append(gradients(case.image(), case.transform(), backend, given, **case.options()))
        assert_close(made[0], made[1], rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("shape", [(2, 1, 9, 14), (2, 3, 1, 14), (2, 3, 9, 1), (2, 3, 1, 1), (1, 1, 1, 1)])
    @pytest.mark.parametrize("mode", ["bilinear", "nearest"])
    def test_sides_of_one_leave_the_order_of_pixels_open(self, mode, shape):
        case = Case(batch=shape[0], channels=shape[1], size=shape[2:], mode=mode, motion="any")
        for memory_format in (torch.contiguous_format, torch.channels_last):
            image = case.image().contiguous(memory_format=memory_format)
            assert_as_reference(image, case.transform(), **case.options())

    def test_a_mask_may_lie_in_any_order(self):
        case = Case(masked=True)
        options = case.options()
        row = torch.rand(2, 1, 9, 1, generator=case.random()) < 0.9
        twice = torch.cat([options["valid"]] * 2, 1)[:, 1:]
        turned = options["valid"].mT.contiguous().mT
        for mask in (row.expand(2, 1, 9, 14), twice, turned, options["valid"][:1].expand(2, 1, 9, 14)):
            shown, real = assert_as_reference(case.image(), case.transform(), **options | {"valid": mask})
            assert_same_bits(shown, warp(case.image(), case.transform(), **options | {"valid": mask.clone()}).image)
            assert 0 < real.double().mean() < 1

    def test_a_view_that_torch_has_yet_to_negate_is_read_as_negated(self):
        image = (
            torch.view_as_complex(torch.rand(2, 3, 9, 14, 2, generator=torch.Generator().manual_seed(1))).conj().imag
        )
        assert image.is_neg()
        case = Case()
        assert_as_reference(image, case.transform(), **case.options())


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


class Poisoned:
    """`torch` but for fresh memory, which holds a pattern."""

    def __init__(self, number, flag):
        self.number, self.flag = number, flag
        self.made = 0

    def __getattr__(self, name):
        return getattr(torch, name)

    def empty(self, *shape, **options):
        self.made += 1
        fresh = torch.empty(*shape, **options)
        if fresh.dtype == torch.bool:
            return fresh.fill_(self.flag)
        return fresh.fill_(self.number if fresh.dtype.is_floating_point else 77)


class TestWriting:
    @pytest.mark.parametrize("poison", [(math.nan, True), (1e30, False)], ids=["nan", "number"])
    @pytest.mark.parametrize("padding", ["fill", "reflection"])
    @pytest.mark.parametrize("mode", MODES)
    def test_every_element_is_written_whatever_the_memory_held(self, monkeypatch, mode, padding, poison):
        for kind, masked, last in (
            ("gentle", False, False),
            ("gentle", True, True),
            ("far", False, False),
            ("lattice", False, True),
        ):
            case = Case(mode=mode, padding=padding, motion=kind, masked=masked, channels_last=last, size=(9, 14))
            clean = assert_gradients_as_reference(case)
            proxy = Poisoned(*poison)
            with monkeypatch.context() as patch:
                for module in ALLOCATING:
                    patch.setattr(module, "torch", proxy)
                assert_as_reference(case.image(), case.transform(), **case.options())
                dirty = assert_gradients_as_reference(case)
            assert proxy.made >= 4
            for mine, theirs in zip(dirty, clean, strict=True):
                assert (mine is None) == (theirs is None)
                assert mine is None or torch.equal(mine, theirs)

    def test_memory_left_as_it_was_is_seen(self, monkeypatch):
        monkeypatch.setattr(bilinear, "run", lambda kernel, chunks: None)
        for module in ALLOCATING:
            monkeypatch.setattr(module, "torch", Poisoned(math.nan, True))
        case = Case()
        with pytest.raises(AssertionError):
            assert_as_reference(case.image(), case.transform(), **case.options())

    @pytest.mark.parametrize("mode", MODES)
    def test_nothing_given_is_written_to(self, mode):
        case = Case(mode=mode, masked=True, normalized=True, motion="gentle")
        image, transform, options = case.image(), case.transform(), case.options()
        inverse = transform.inverse().matrix[:, :2].contiguous()
        given = torch.rand(2, 3, *case.out_size)
        handed = [image, options["valid"], *options["normalize"], given, transform.matrix, inverse]
        kept = [tensor.clone() for tensor in handed]
        for normalize in (options["normalize"], None):
            warp(image, transform, **options | {"backend": "numba", "normalize": normalize})
            gradients(image, transform, "numba", given, **options | {"normalize": normalize})
        for tensor, before in zip(handed, kept, strict=True):
            assert_same_bits(tensor, before)

    def test_results_share_no_memory_with_what_was_given(self):
        for mode in MODES:
            case = Case(mode=mode, out_size=(9, 14), masked=True)
            image, options = case.image(), case.options()
            shown, real = warp(image, AffineTransform.identity(2, (9, 14)), backend="numba", **options)
            assert shown.untyped_storage().data_ptr() != image.untyped_storage().data_ptr()
            assert real.untyped_storage().data_ptr() != options["valid"].untyped_storage().data_ptr()


def outcome(mode, padding="fill", seed=0, shape=(3, 2, 150, 11)):
    """Values, validity and gradients of a warp of several chunks, small enough that torch itself takes one thread."""
    case = Case(seed, *shape[:2], shape[2:], shape[2:], mode, padding, masked=True, motion="gentle")
    image, transform, options = case.image(), case.transform(), case.options()
    given = torch.rand(shape, generator=case.random()) - 0.5
    made = [*warp(image, transform, backend="numba", **options)]
    made += [part for part in gradients(image, transform, "numba", given, **options) if part is not None]
    return made


def same(mine, theirs):
    return all(torch.equal(bits(a), bits(b)) for a, b in zip(mine, theirs, strict=True))


class TestThreads:
    @pytest.mark.parametrize("padding", PADDINGS)
    @pytest.mark.parametrize("mode", MODES)
    def test_any_number_of_threads_gives_the_same_bits(self, thread_count, mode, padding):
        made = []
        for number in (1, 2, 5):
            thread_count(number)
            made += [outcome(mode, padding) for _ in range(3)]
        assert all(same(made[0], other) for other in made[1:])

    @pytest.mark.parametrize("mode", SMOOTH)
    def test_gradients_to_the_matrix_of_tall_images_are_the_same_bits_too(self, thread_count, mode):
        made = []
        for number in (1, 2, 3, 5):
            thread_count(number)
            made.append(outcome(mode, shape=(4, 1, 1501, 3)))
        assert all(same(made[0], other) for other in made[1:])

    def test_work_is_shared_by_as_many_threads_as_torch_may_use(self, thread_count):
        for number in (1, 3):
            thread_count(number)
            seen, meeting = set(), threading.Barrier(number)

            def kernel(chunk, seen=seen, meeting=meeting):
                # Passed only when all threads are at work.
                meeting.wait(timeout=30)
                seen.add(threading.get_ident())

            threads.run(kernel, [(chunk,) for chunk in range(number)])
            assert len(seen) == number

    def test_an_error_in_a_chunk_is_not_lost(self, thread_count):
        def kernel(chunk):
            if chunk == 3:
                raise ValueError(f"chunk {chunk}")

        for number in (1, 2):
            thread_count(number)
            with pytest.raises(ValueError, match="chunk 3"):
                threads.run(kernel, [(chunk,) for chunk in range(5)])

    def test_several_threads_at_once_see_what_each_sees_alone(self, thread_count):
        thread_count(3)
        jobs = [(mode, padding, seed) for seed in range(3) for mode in MODES for padding in ("fill", "border")]
        alone = [outcome(*job) for job in jobs]
        with ThreadPoolExecutor(6) as pool:
            together = list(pool.map(lambda job: outcome(*job), jobs))
        assert [job for job, a, b in zip(jobs, alone, together, strict=True) if not same(a, b)] == []
        assert not same(alone[0], alone[8])


WORKERS = """
import torch
from torch.utils.data import Dataset
from s4aug import AffineTransform, warp
from s4aug.backends.numba import threads

def shown(number):
    image = torch.rand(2, 2, 200, 9, generator=torch.Generator().manual_seed(number))
    move = AffineTransform.from_params(angle=torch.tensor([10.0 * number + 5, 33.0]), size=(200, 9))
    return torch.cat([warp(image, move, mode=mode, backend="numba").image for mode in ("bilinear", "nearest")])

def two_threads(*_):
    torch.set_num_threads(2)

def work(pipe):
    two_threads()
    fresh = not threads._pools
    pipe.send((fresh, shown(1).numpy(), bool(threads._pools)))

class Views(Dataset):
    def __len__(self):
        return 6
    def __getitem__(self, number):
        return shown(number)
"""


@pytest.fixture
def workers(tmp_path, monkeypatch):
    """A module that spawned processes can import."""
    (tmp_path / "warping_workers.py").write_text(WORKERS)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("warping_workers")


METHODS = [
    pytest.param(
        method,
        marks=pytest.mark.skipif(
            method not in multiprocessing.get_all_start_methods(), reason=f"the system knows no {method}"
        ),
    )
    for method in ("fork", "spawn")
]


# Python warns of any fork of a process with threads; that such a fork works is what is shown here.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", METHODS)
class TestProcesses:
    def test_a_child_warps_on_threads_of_its_own_after_its_parent_did(self, method, workers, thread_count):
        thread_count(2)
        expected = workers.shown(1)
        assert threads._pools
        context = multiprocessing.get_context(method)
        receiving, sending = context.Pipe(duplex=False)
        child = context.Process(target=workers.work, args=(sending,), daemon=True)
        child.start()
        answered = receiving.poll(120)
        fresh, shown, used = receiving.recv() if answered else (None, None, None)
        child.join(30 if answered else 0)
        child.kill()
        assert answered, "the child hangs"
        assert child.exitcode == 0
        assert fresh
        assert used
        assert_same_bits(torch.from_numpy(shown), expected)
        # The parent's own threads are still there.
        assert_same_bits(workers.shown(1), expected)

    def test_loader_workers_warp_as_the_parent_does(self, method, workers, thread_count):
        thread_count(2)
        expected = torch.stack([workers.shown(number) for number in range(6)])
        loader = torch.utils.data.DataLoader(
            workers.Views(),
            batch_size=2,
            num_workers=2 if method == "fork" else 1,
            multiprocessing_context=method,
            worker_init_fn=workers.two_threads,
            timeout=120,
        )
        assert_same_bits(torch.cat(list(loader)), expected)


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
