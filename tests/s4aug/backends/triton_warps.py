"""Warps by Triton's kernels, for `test_triton.py`, which runs them interpreted, compiled only, and on a GPU.

By hand: `TRITON_INTERPRET=1 pytest tests/s4aug/backends/triton_warps.py`, and the wide sweep with `-m slow`.
"""

import itertools
import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch.testing import assert_close

from s4aug import AffineTransform
from s4aug.errors import BackendUnavailable
from tests.s4aug.backends.triton_cases import (
    DEVICE,
    GRADIENT_TOLERANCE,
    MARKS,
    MODES,
    case,
    compile_only,
    compiled,
    expected,
    packed,
    runs,
    there,
    warps,
)
from tests.s4aug.pixels import PADDINGS

pytestmark = MARKS
# Float32: products and sums rounded together on a GPU; else half an ulp of the output.
TOLERANCE = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}


def warped(kernels, given):
    statistics = None if given.statistics is None else tuple(map(there, given.statistics))
    return kernels.forward(
        there(given.image), packed(given.transform, given.mode), there(given.valid), statistics,
        mode=given.mode, padding=given.padding, fill=given.fill, dtype=given.dtype, out_size=given.out_size,
    )  # fmt: skip


def assert_same_values(kernels, given):
    value, real = warped(kernels, given)
    value_expected, real_expected = expected(given, given.image, given.transform)
    assert value.dtype == value_expected.dtype
    assert torch.equal(real.cpu(), real_expected)
    if (given.mode in ("nearest", "lifting") and given.statistics is None) or not value.is_floating_point():
        assert_close(value.cpu(), value_expected, rtol=0, atol=0, equal_nan=True)
    else:
        tolerance = TOLERANCE[value.dtype] * (4 if given.mode == "bicubic" else 1)
        assert_close(value.cpu(), value_expected, rtol=tolerance, atol=tolerance, equal_nan=True)


def assert_same_gradients(kernels, given, generator):
    # The inverse of the inverse is the inverse matrix itself, so that the gradient arrives there as it is.
    matrix = given.transform.inverse().matrix.clone().requires_grad_(given.mode in ("bilinear", "bicubic"))
    image = given.image.clone().requires_grad_(given.dtype.is_floating_point and given.image.is_floating_point())
    # A lifting transform keeps the factors of the motion that it undoes.
    interpolated = matrix.requires_grad
    moved = AffineTransform(matrix, given.out_size, given.size).inverse() if interpolated else given.transform
    value, _ = expected(given, image, moved)
    gradient = torch.randn(value.shape, generator=generator).to(value.dtype)
    if value.is_contiguous(memory_format=torch.channels_last):
        gradient = gradient.contiguous(memory_format=torch.channels_last)
    leaves = [leaf for leaf in (image, matrix) if leaf.requires_grad]
    if not leaves:
        return
    wanted = dict(zip(map(id, leaves), torch.autograd.grad(value, leaves, gradient), strict=True))
    std = None if given.statistics is None else there(given.statistics[1])
    options = {"mode": given.mode, "padding": given.padding}
    taken = there(gradient), packed(given.transform, given.mode), there(given.valid), std
    if image.requires_grad:
        made = kernels.image_gradient(*taken, **options, size=given.size, dtype=gradient.dtype)
        limit = GRADIENT_TOLERANCE[gradient.dtype]
        largest = float(wanted[id(image)].abs().max()) if image.numel() else 0.0
        assert made.dtype == gradient.dtype
        assert_close(made.cpu().to(image.dtype), wanted[id(image)], rtol=limit, atol=limit * max(1.0, largest))
    if matrix.requires_grad:
        made = kernels.matrix_gradient(there(given.image), *taken, **options).cpu()
        right = wanted[id(matrix)][:, :2]
        limit = 1e-5 * max(1.0, float(right.nan_to_num(0, 0, 0).abs().sum()))
        assert_close(made, right, rtol=1e-4, atol=limit, equal_nan=True)


@runs
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding", PADDINGS)
def test_values_validity_and_gradients(kernels, padding, mode, rng):
    kind = "rigid" if mode == "lifting" else "mild"
    frames = {"batch": 1, "channels": 2, "size": (8, 9), "out_size": (5, 6)}
    given = case(rng, mode=mode, padding=padding, kind=kind, masked=True, normalized=True, **frames)
    assert_same_values(kernels, given)
    assert_same_gradients(kernels, given, rng)


@runs
def test_frames_of_several_tiles_and_channels_of_several_groups(kernels, rng):
    given = case(rng, mode="bilinear", batch=1, channels=9, size=(9, 37), out_size=(18, 20), masked=True)
    assert_same_values(kernels, given)
    assert_same_gradients(kernels, given, rng)
    assert_same_values(kernels, case(rng, mode="nearest", batch=2, channels=17, size=(19, 37), out_size=(17, 33)))


def check_any(kernels, options, seed):
    generator = torch.Generator().manual_seed(seed)
    given = case(generator, **options)
    assert_same_values(kernels, given)
    assert_same_gradients(kernels, given, generator)


@runs
@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(warps(side=7, batch=2, channels=4))
def test_any_warp(kernels, drawn):
    check_any(kernels, *drawn)


@runs
@pytest.mark.slow
@pytest.mark.timeout(7200)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(warps(side=67, batch=5, channels=17))
def test_any_warp_at_any_size(kernels, drawn):
    check_any(kernels, *drawn)


@runs
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_neighbours_on_the_lattice_are_not_read(kernels, mode, rng):
    given = case(rng, mode=mode, kind="lattice", holes=True, batch=1, channels=2, size=(6, 6), masked=True)
    given.transform, given.out_size = AffineTransform.rot90(1, 1, (6, 6)), (6, 6)
    value, real = warped(kernels, given)
    turned = torch.rot90(given.image, 1, (2, 3))
    seen = torch.rot90(given.valid, 1, (2, 3))
    assert torch.equal(real.cpu(), seen)
    assert torch.equal(value.cpu(), torch.where(seen, turned, given.fill))
    assert_same_gradients(kernels, given, rng)


@runs
def test_half_pixels_and_edges_tell_the_references_slope(kernels, rng):
    for padding in PADDINGS:
        frames = {"batch": 1, "channels": 2, "size": (5, 6), "out_size": (7, 5)}
        given = case(rng, mode="bilinear", kind="lattice", padding=padding, masked=True, **frames)
        assert_same_values(kernels, given)
        assert_same_gradients(kernels, given, rng)


@runs
@pytest.mark.parametrize("mode", ["nearest", "lifting"])
@pytest.mark.parametrize(
    "dtype",
    [*(torch.uint8, torch.int8, torch.uint16, torch.int32, torch.uint64, torch.int64, torch.bool), torch.float16],
)
def test_whole_pixels_move_as_bits(kernels, dtype, mode, rng):
    given = case(rng, mode=mode, kind="rigid", channels=2, size=(7, 6), out_size=(6, 7), fill=1)
    given.dtype, given.image = dtype, (given.image * 300).to(torch.int64).to(dtype)
    if dtype == torch.float16:
        # A NaN with a payload.
        given.image.view(torch.int16)[..., 2] = 0x7E23
    elif dtype != torch.bool:
        given.image[..., 0] = torch.tensor(torch.iinfo(dtype).max, dtype=dtype)
    value, real = warped(kernels, given)
    value_expected, real_expected = expected(given, given.image, given.transform)
    assert torch.equal(real.cpu(), real_expected)
    assert torch.equal(value.cpu().view(torch.uint8), value_expected.view(torch.uint8))


@runs
@pytest.mark.parametrize("dtype", [torch.uint16, torch.int64, torch.bool])
def test_integers_are_interpolated(kernels, dtype, rng):
    given = case(rng, mode="bilinear", dtype=torch.float32, channels=1, normalized=True)
    given.image = (given.image * 1.9).to(dtype)
    assert_same_values(kernels, given)


@runs
def test_views_are_read_as_they_lie(kernels, rng):
    given = case(rng, mode="bilinear", size=(6, 5), masked=True)
    pool = torch.full((2, 3, 9, 16), math.nan)
    pool[:, :, 2:8, 1:11:2] = given.image
    given.image = pool[:, :, 2:8, 1:11:2]
    assert_same_values(kernels, given)
    coordinates = packed(given.transform, "bilinear")
    one = torch.ones((), device=DEVICE)
    options = {"mode": "bilinear", "padding": "fill", "size": (6, 5), "dtype": torch.float32}
    spread = kernels.image_gradient(one.expand(2, 3, 12, 8), coordinates, None, None, **options)
    assert torch.equal(spread, kernels.image_gradient(one.repeat(2, 3, 12, 8), coordinates, None, None, **options))


@runs
@pytest.mark.parametrize("last", [False, True])
def test_the_output_lies_as_the_image_does(kernels, last, rng):
    given = case(rng, mode="nearest", last=last)
    value, _ = warped(kernels, given)
    layout = torch.channels_last if last else torch.contiguous_format
    assert value.is_contiguous(memory_format=layout)
    options = {"mode": "nearest", "padding": "fill", "size": (9, 11), "dtype": torch.float32}
    made = kernels.image_gradient(value, packed(given.transform, "nearest"), None, None, **options)
    assert made.is_contiguous(memory_format=layout)


@runs
@pytest.mark.parametrize("padding", PADDINGS)
def test_a_refused_permutation_shows_nothing(kernels, padding, rng):
    given = case(rng, mode="lifting", kind="rigid", padding=padding)
    coordinates = packed(given.transform, "lifting")
    coordinates[:, -1] = 0
    value, real = kernels.forward(
        there(given.image), coordinates, None, None, mode="lifting", padding=padding, fill=3.0, dtype=torch.float32,
        out_size=given.out_size,
    )  # fmt: skip
    assert not real.any()
    shown = there(given.image)[:, :, :1, :1].expand_as(value)
    assert torch.equal(value, torch.full_like(value, 3.0) if padding == "fill" else shown)
    gradient = torch.rand(value.shape, generator=rng)
    made = kernels.image_gradient(
        there(gradient), coordinates, None, None, mode="lifting", padding=padding, size=given.size,
        dtype=torch.float32,
    )  # fmt: skip
    wanted = torch.zeros_like(given.image)
    if padding != "fill":
        wanted[:, :, 0, 0] = gradient.sum((2, 3))
    assert_close(made.cpu(), wanted)


@runs
def test_a_motion_that_no_fixed_point_holds_shows_nothing(kernels, rng):
    given = case(rng, mode="bilinear", size=(5, 4), out_size=(4, 5))
    coordinates = torch.zeros(2, 2, 3, dtype=torch.int64, device=DEVICE)
    coordinates[:, :, 2] = -(2**61)
    options = {"mode": "bilinear", "padding": "fill"}
    value, real = kernels.forward(
        there(given.image), coordinates, None, None, fill=3.0, dtype=torch.float32, out_size=(4, 5), **options
    )
    assert not real.any()
    assert torch.equal(value, torch.full_like(value, 3.0))
    made = kernels.image_gradient(value, coordinates, None, None, size=(5, 4), dtype=torch.float32, **options)
    assert not made.any()


@runs
def test_an_output_that_shows_one_point_gives_it_all_gradient(kernels):
    coordinates = torch.zeros(1, 2, 3, dtype=torch.int64, device=DEVICE)
    coordinates[0, :, 2] = torch.tensor([3 << 31, 5 << 30])  # (1.5, 1.25)
    gradient = torch.ones(1, 1, 5, 6, device=DEVICE)
    options = {"mode": "bilinear", "padding": "fill", "dtype": torch.float32}
    made = kernels.image_gradient(gradient, coordinates, None, None, size=(4, 4), **options)
    wanted = torch.zeros(4, 4)
    wanted[1:3, 1:3] = 30 * torch.tensor([[0.375, 0.375], [0.125, 0.125]])
    assert_close(made[0, 0].cpu(), wanted)


@runs
def test_gradients_are_the_same_bits_every_time(kernels, rng):
    given = case(rng, mode="bilinear", padding="border", batch=1, size=(3, 6), out_size=(18, 34), channels=1)
    gradient, coordinates = there(torch.randn(1, 1, 18, 34, generator=rng)), packed(given.transform, "bilinear")
    options = {"mode": "bilinear", "padding": "border"}
    for made in (
        lambda: kernels.image_gradient(gradient, coordinates, None, None, **options, size=(3, 6), dtype=torch.float32),
        lambda: kernels.matrix_gradient(there(given.image), gradient, coordinates, None, None, **options),
    ):
        assert torch.equal(made(), made())


@runs
def test_nothing_of_what_is_given_is_written(kernels, rng):
    given = case(rng, mode="bilinear", masked=True, normalized=True)
    coordinates = packed(given.transform, "bilinear")
    gradient = torch.rand(2, 3, 12, 8, generator=rng)
    taken = [there(t) for t in (given.image, coordinates, given.valid, *given.statistics, gradient)]
    before = [t.clone() for t in taken]
    image, coordinates, valid, mean, std, gradient = taken
    options = {"mode": "bilinear", "padding": "fill"}
    kernels.forward(image, coordinates, valid, (mean, std), fill=0.0, dtype=torch.float32, out_size=(12, 8), **options)
    kernels.image_gradient(gradient, coordinates, valid, std, size=(9, 11), dtype=torch.float32, **options)
    kernels.matrix_gradient(image, gradient, coordinates, valid, std, **options)
    for now, then in zip(taken, before, strict=True):
        assert_close(now, then, rtol=0, atol=0, equal_nan=True)


@runs
def test_the_comparison_sees_a_wrong_place_and_a_wrong_weight(kernels, rng, monkeypatch):
    given = case(rng, mode="bilinear")
    assert_same_values(kernels, given)
    assert_same_gradients(kernels, given, rng)
    right = packed
    beside = torch.tensor([0, 0, 1 << 20], device=DEVICE)
    monkeypatch.setitem(globals(), "packed", lambda *motion: right(*motion) + beside)
    with pytest.raises(AssertionError):
        assert_same_values(kernels, given)
    with pytest.raises(AssertionError):
        assert_same_gradients(kernels, given, rng)


@runs
def test_float64_is_left_to_the_reference(kernels, rng):
    given = case(rng, mode="bilinear", dtype=torch.float64)
    with pytest.raises(BackendUnavailable, match='backend="torch"'):
        warped(kernels, given)


@runs
@pytest.mark.parametrize(("mode", "padding"), [("bilinear", "border"), ("lifting", "fill")])
def test_gradients_come_in_the_type_asked_for(kernels, mode, padding, rng):
    given = case(rng, mode=mode, kind="rigid", batch=1, channels=2, size=(4, 5), out_size=(5, 4))
    gradient = there(torch.randn(1, 2, 5, 4, generator=rng).half())
    taken = gradient, packed(given.transform, mode), None, None
    options = {"mode": mode, "padding": padding, "size": given.size}
    wide, half = (kernels.image_gradient(*taken, **options, dtype=dtype) for dtype in (torch.float32, torch.float16))
    assert (wide.dtype, half.dtype) == (torch.float32, torch.float16)
    assert torch.equal(wide.half(), half)
    assert torch.equal(wide, half.float()) == (mode == "lifting")


@compiled
@pytest.mark.skipif(DEVICE == "cuda", reason="CUDA is there")
def test_without_cuda_the_backend_is_not_there(kernels, rng):
    with pytest.raises(BackendUnavailable, match="needs CUDA"):
        warped(kernels, case(rng, mode="bilinear"))


def check_compiled(monkeypatch, **options):
    from s4aug.backends.triton import adjoint, edges, footprint, sample, slope

    for module in (sample, footprint, edges, slope):
        monkeypatch.setattr(module, "launch", compile_only)
    for module in (sample, adjoint, slope):
        monkeypatch.setattr(module, "check_there", lambda *_: None)
    given = case(torch.Generator().manual_seed(0), **options)
    coordinates = packed(given.transform, given.mode)
    arguments = {"mode": given.mode, "padding": given.padding}
    value, _ = sample.forward(
        given.image, coordinates, given.valid, given.statistics, fill=given.fill, dtype=given.dtype,
        out_size=given.out_size, **arguments,
    )  # fmt: skip
    if value.dtype.is_floating_point:
        std = None if given.statistics is None else given.statistics[1]
        adjoint.image_gradient(value, coordinates, given.valid, std, size=given.size, dtype=value.dtype, **arguments)
        slope.matrix_gradient(given.image, value, coordinates, given.valid, std, **arguments)


@compiled
@pytest.mark.parametrize(
    "options",
    [
        {"mode": "bilinear", "padding": "reflection", "masked": True, "normalized": True},
        {"mode": "bilinear", "padding": "border", "dtype": torch.uint8, "out": torch.bfloat16, "last": True},
        {"mode": "nearest", "dtype": torch.uint16, "fill": 1},
        {"mode": "lifting", "padding": "reflection", "kind": "rigid", "dtype": torch.float16, "channels": 1},
    ],
    ids=lambda options: f"{options['mode']}-{options.get('padding', 'fill')}",
)
def test_kernels_compile(kernels, options, monkeypatch):
    check_compiled(monkeypatch, **options)


@compiled
@pytest.mark.slow
@pytest.mark.parametrize(("mode", "padding"), [*itertools.product(MODES, PADDINGS)])
@pytest.mark.parametrize("channels", [1, 3, 7, 17])
def test_every_kernel_compiles(kernels, mode, padding, channels, monkeypatch):
    kind = "rigid" if mode == "lifting" else "mild"
    for masked, dtype in itertools.product((False, True), (torch.float32, torch.bfloat16)):
        options = {"mode": mode, "padding": padding, "masked": masked, "dtype": dtype, "kind": kind}
        check_compiled(monkeypatch, **options, channels=channels, normalized=masked)
