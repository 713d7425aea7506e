"""Cases for `test_triton.py`, which runs them interpreted, compiled only, and on a GPU.

By hand: `TRITON_INTERPRET=1 pytest tests/s4aug/backends/triton_cases.py`, and the wide sweep with `-m slow`.
"""

import itertools
import math
import os
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from s4aug import AffineTransform
from s4aug.backends.reference import warp_reference
from s4aug.errors import BackendUnavailable
from s4aug.lifting import Lifting
from s4aug.transform import fixed_point

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
MODES = ("bilinear", "nearest", "bicubic", "lifting")
PADDINGS = ("fill", "border", "reflection")
# Float32: products and sums rounded together on a GPU; else half an ulp of the output.
TOLERANCE = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}
GRADIENT_TOLERANCE = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}

# The interpreter's NumPy warns where an infinite pixel is computed with.
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
runs = pytest.mark.skipif(not INTERPRETED and DEVICE == "cpu", reason="neither interpreted nor on a GPU")


@pytest.fixture(scope="module")
def kernels():
    from s4aug.backends import triton

    return triton


@pytest.fixture(autouse=True)
def poison(monkeypatch):
    """What is not written shows: fresh memory holds NaN, or 77."""
    empty = torch.empty

    def poisoned(*size, **options):
        made = empty(*size, **options)
        return made.fill_(math.nan if made.is_floating_point() else True if made.dtype == torch.bool else 77)

    monkeypatch.setattr(torch, "empty", poisoned)


def motion(kind, batch, size, out_size, generator):
    """Matrices of a kind, from frames of `size`."""
    random = torch.rand(batch, 8, generator=generator, dtype=torch.float64)
    centre = (random[:, :2] - 0.5) * torch.tensor([size[1], size[0]]) * 0.5
    if kind == "lattice":
        half = torch.randint(-3, 4, (batch, 2), generator=generator).double() / 2
        turned = AffineTransform.rot90(int(random.sum() * 100) % 4, batch, size)
        matrix = turned.matrix.clone()
        matrix[:, :2, 2] += half
        return AffineTransform(matrix, size, out_size)
    low, high = {"rigid": (1.0, 1.0), "mild": (0.5, 2.0), "extreme": (0.05, 20.0)}[kind]
    scale = torch.exp(math.log(low) + random[:, 2:4] * (math.log(high) - math.log(low)))
    shear = random[:, 4:6] * 60 - 30 if kind != "rigid" else torch.zeros(batch, 2, dtype=torch.float64)
    angle = random[:, 6] * (80 if kind == "rigid" else 360) - 40
    made = AffineTransform.from_params(angle=angle, translation=centre, scale=scale, shear=shear, size=size)
    # The middle of one frame on the middle of the other.
    matrix = made.matrix.clone()
    matrix[:, :2, 2] += torch.tensor([out_size[1] - size[1], out_size[0] - size[0]]) // 2
    return AffineTransform(matrix, size, out_size)


def packed(transform, mode):
    """The coordinates that a kernel takes."""
    if mode != "lifting":
        return fixed_point(transform).to(DEVICE)
    return Lifting.of(transform.inverse()).packed().to(DEVICE)


def case(
    generator, *, mode, padding="fill", batch=2, channels=3, size=(9, 11), out_size=(12, 8), kind="mild",
    dtype=torch.float32, out=None, masked=False, normalized=False, last=False, fill=-2.0, holes=False,
):  # fmt: skip
    """Everything that a warp takes."""
    image = torch.rand(batch, channels, *size, generator=generator)
    if not dtype.is_floating_point:
        image = image * 200
    image = image.to(dtype)
    if last:
        image = image.contiguous(memory_format=torch.channels_last)
    valid = torch.rand(batch, 1, *size, generator=generator) < 0.85 if masked else None
    if masked and dtype.is_floating_point:
        image = torch.where(valid, image, math.nan)
    if holes:
        image = torch.where(torch.rand(image.shape, generator=generator) < 0.1, math.inf, image)
    statistics = None
    if normalized:
        statistics = tuple(torch.rand(channels, generator=generator) + 0.5 for _ in range(2))
    return SimpleNamespace(
        image=image, transform=motion(kind, batch, size, out_size, generator), valid=valid, statistics=statistics,
        mode=mode, padding=padding, fill=fill, dtype=out or dtype, size=size, out_size=out_size,
    )  # fmt: skip


def there(value):
    return None if value is None else value.to(DEVICE)


def warped(kernels, given):
    statistics = None if given.statistics is None else tuple(map(there, given.statistics))
    return kernels.forward(
        there(given.image), packed(given.transform, given.mode), there(given.valid), statistics,
        mode=given.mode, padding=given.padding, fill=given.fill, dtype=given.dtype, out_size=given.out_size,
    )  # fmt: skip


def expected(given, image, transform):
    return warp_reference(
        image, transform, given.valid, mode=given.mode, padding=given.padding, fill=given.fill,
        normalize=given.statistics, dtype=given.dtype,
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


@st.composite
def warps(draw, side, batch, channels):
    mode, padding = draw(st.sampled_from(MODES)), draw(st.sampled_from(PADDINGS))
    kinds = ("rigid",) if mode == "lifting" else ("lattice", "rigid", "mild", "extreme")
    kind = draw(st.sampled_from(kinds))
    # A small frame reflected in a far wider output has images beyond number, a loop too long for an interpreter.
    kind = "mild" if padding == "reflection" and kind == "extreme" else kind
    sides = st.integers(1, side)
    options = {
        "mode": mode,
        "padding": padding,
        "kind": kind,
        "batch": draw(st.integers(0, batch)),
        "channels": draw(st.integers(1, channels)),
        "size": (draw(sides), draw(sides)),
        "out_size": (draw(sides), draw(sides)),
        "dtype": draw(st.sampled_from([torch.float32, torch.float32, torch.float16, torch.bfloat16, torch.uint8])),
        **{name: draw(st.booleans()) for name in ("masked", "normalized", "last")},
    }
    if options["dtype"] == torch.uint8 and (mode in ("bilinear", "bicubic") or options["normalized"]):
        options["out"] = draw(st.sampled_from([torch.float32, torch.bfloat16]))
    options["fill"] = 3.0
    return options, draw(st.integers(0, 2**31))


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
        given.image[..., 0] = torch.iinfo(dtype).max
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


def comparison(
    generator, *, batch=2, classes=3, frame=(6, 7), size=(7, 5), kinds=("mild", "mild"), dtype=torch.float32,
    last=False, masked=False, holes=False, loss="mse", softmax=True, detach=0, mask=True,
):  # fmt: skip
    """Everything that two predictions are compared with."""
    sides = []
    for kind in kinds:
        pred = torch.randn(batch, classes, *frame, generator=generator) * 3
        # Without a softmax "kl" is asked of probabilities, 0 among them.
        pred = pred if softmax or loss == "mse" else torch.rand(pred.shape, generator=generator).round(decimals=1)
        valid = torch.ones(batch, 1, *frame, dtype=torch.bool)
        if masked:
            valid = torch.rand(valid.shape, generator=generator) < 0.85
            pred = torch.where(valid, pred, math.nan)
        if holes:
            pred = torch.where(torch.rand(pred.shape, generator=generator) < 0.05, math.inf, pred)
        pred = pred.to(dtype)
        if last:
            pred = pred.contiguous(memory_format=torch.channels_last)
        sides.append(SimpleNamespace(pred=pred, valid=valid, transform=motion(kind, batch, frame, size, generator)))
    return SimpleNamespace(
        sides=sides, size=size, loss=loss, softmax=softmax, detach=detach, mask=mask,
        scale=torch.rand((), generator=generator) + 0.5,
    )  # fmt: skip


def composed(given):
    """The objective by the reference and plain torch: sum, count, slopes of both sides, gradients to both."""
    leaves, images, restored, shown = [], [], [], []
    for side in given.sides:
        leaf = side.pred.clone().requires_grad_()
        image = torch.where(side.valid, leaf, 0).float()
        image = image.softmax(1) if given.softmax else image
        value, real = warp_reference(
            image, side.transform, side.valid, mode="bilinear", padding="fill", fill=0.0, normalize=None,
            dtype=torch.float32,
        )  # fmt: skip
        leaves.append(leaf)
        images.append(image)
        restored.append(value)
        shown.append(real)
    compared = shown[0] & shown[1] if given.mask else torch.ones_like(shown[0])
    first, second = (torch.where(compared, value, 0) for value in restored)
    if given.loss == "mse":
        total = (first - second).square().sum()
    else:
        tiny = torch.finfo(torch.float32).tiny
        sources = [value.detach() if given.detach == i + 1 else value for i, value in enumerate((first, second))]
        ratio = sources[0].clamp_min(tiny).log() - sources[1].clamp_min(tiny).log()
        weight = {0: (sources[0] - sources[1]) / 2, 1: sources[0], 2: -sources[1]}[given.detach]
        total = (weight * ratio).sum()
    slopes = torch.autograd.grad(total, restored, retain_graph=True, allow_unused=True)
    reached = torch.autograd.grad(total, images, retain_graph=True, allow_unused=True)
    gradients = torch.autograd.grad(total * given.scale, leaves, allow_unused=True)
    # A pixel that is not compared has no gradient, where torch leads 0 through an infinite logit to NaN.
    gradients = [
        None if one is None else torch.where((to_image != 0).any(1, keepdim=True), one, 0)
        for one, to_image in zip(gradients, reached, strict=True)
    ]
    return total.detach(), compared.sum(), slopes, gradients


def compared_by(kernels, given, *, wanted=True):
    places = [packed(side.transform, "bilinear") for side in given.sides]
    made = kernels.consistency(
        *(there(side.pred) for side in given.sides), *places, *(there(side.valid) for side in given.sides),
        loss=given.loss, softmax=given.softmax, detach=given.detach, mask=given.mask, wanted=wanted, size=given.size,
    )  # fmt: skip
    return made, places


def pulled_back(kernels, given, number, slopes, places, factor=1.0):
    side = given.sides[number]
    return kernels.consistency_gradient(
        there(side.pred), slopes, places, None if given.mask else there(side.valid), there(given.scale * factor),
        softmax=given.softmax,
    )  # fmt: skip


def assert_close_to_largest(made, right, limit):
    known = right[right.isfinite()]
    largest = float(known.abs().max()) if known.numel() else 0.0
    assert_close(made, right, rtol=limit, atol=limit * max(1.0, largest), equal_nan=True)


def assert_same_comparison(kernels, given):
    (total, count, *slopes), places = compared_by(kernels, given)
    total_expected, count_expected, slopes_expected, gradients = composed(given)
    assert (total.dtype, total.shape, count.dtype, count.shape) == (torch.float32, (), torch.int64, ())
    assert count.item() == count_expected.item()
    limit = 1e-5 if given.loss == "mse" else 5e-5
    assert_close(total.cpu(), total_expected, rtol=limit, atol=limit * max(1, int(count)), equal_nan=True)
    shape = kernels.slopes_shape(given.sides[0].pred.shape, given.size)
    for number, (made, right) in enumerate(zip(slopes, slopes_expected, strict=True)):
        if (number == 1 and given.loss == "mse") or (given.loss == "kl" and given.detach == number + 1):
            assert made.shape == (0,)
        else:
            assert made.is_contiguous()
            assert made.shape == shape
            assert made.dtype == torch.float32
            # One slope serves both sides of "mse", half the derivative in the first.
            assert_close_to_largest(made.cpu(), right / 2 if given.loss == "mse" else right, limit)
    for number, right in enumerate(gradients):
        if given.loss == "kl" and given.detach == number + 1:
            continue
        one, factor = (slopes[0], 2.0 - 4.0 * number) if given.loss == "mse" else (slopes[number], 1.0)
        made = pulled_back(kernels, given, number, one, places[number], factor)
        pred = given.sides[number].pred
        assert made.dtype == pred.dtype
        layouts = (torch.contiguous_format, torch.channels_last)
        assert any(made.is_contiguous(memory_format=o) and pred.is_contiguous(memory_format=o) for o in layouts)
        assert_close_to_largest(made.cpu(), right, 2 * GRADIENT_TOLERANCE[pred.dtype])


@runs
@pytest.mark.parametrize(
    ("loss", "softmax", "detach", "mask", "classes"),
    [
        *(("mse", True, 0, True, 7), ("mse", False, 0, False, 2), ("kl", True, 0, True, 3), ("kl", True, 1, False, 2)),
        *(("kl", False, 2, True, 2), ("mse", True, 0, False, 18)),
    ],
)
def test_predictions_are_compared_as_by_the_reference(kernels, loss, softmax, detach, mask, classes, rng):
    options = {"loss": loss, "softmax": softmax, "detach": detach, "mask": mask, "classes": classes}
    frames = {"frame": (5, 6), "size": (6, 5), "batch": 1, "kinds": ("rigid", "mild")}
    assert_same_comparison(kernels, comparison(rng, **options, **frames, masked=True))


@runs
def test_frames_of_several_tiles_are_compared(kernels, rng):
    # Far apart, so that whole tiles compare nothing.
    given = comparison(rng, classes=2, frame=(6, 34), size=(17, 40), kinds=("rigid", "rigid"), mask=True)
    matrix = given.sides[1].transform.matrix.clone()
    matrix[1, 0, 2] += 20
    given.sides[1].transform = AffineTransform(matrix, (6, 34), (17, 40))
    assert_same_comparison(kernels, given)


@st.composite
def comparisons(draw, side, batch, classes):
    sides = st.integers(1, side)
    kinds = st.sampled_from(("lattice", "rigid", "mild", "extreme"))
    options = {
        "batch": draw(st.integers(0, batch)),
        "classes": draw(st.integers(1, classes)),
        "frame": (draw(sides), draw(sides)),
        "size": (draw(sides), draw(sides)),
        "kinds": (draw(kinds), draw(kinds)),
        "dtype": draw(st.sampled_from([torch.float32, torch.float32, torch.float16, torch.bfloat16])),
        "loss": draw(st.sampled_from(["mse", "kl"])),
        "detach": draw(st.integers(0, 2)),
        **{name: draw(st.booleans()) for name in ("softmax", "mask", "masked", "last")},
    }
    if options["kinds"] == ("lattice", "lattice") and options["loss"] == "mse":
        options["holes"] = draw(st.booleans())
    return options, draw(st.integers(0, 2**31))


def check_any_comparison(kernels, options, seed):
    assert_same_comparison(kernels, comparison(torch.Generator().manual_seed(seed), **options))


@runs
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(comparisons(side=7, batch=2, classes=3))
def test_any_comparison(kernels, drawn):
    check_any_comparison(kernels, *drawn)


@runs
@pytest.mark.slow
@pytest.mark.timeout(7200)
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(comparisons(side=40, batch=3, classes=20))
def test_any_comparison_at_any_size(kernels, drawn):
    check_any_comparison(kernels, *drawn)


@runs
@pytest.mark.parametrize("loss", ["mse", "kl"])
def test_where_nothing_is_compared_there_is_no_loss_and_no_gradient(kernels, loss, rng):
    given = comparison(rng, batch=1, classes=2, loss=loss, frame=(4, 5), size=(5, 4), kinds=("rigid", "rigid"))
    for side in given.sides:
        side.valid = torch.zeros_like(side.valid)
        side.pred = torch.full_like(side.pred, math.nan)
    (total, count, *slopes), places = compared_by(kernels, given)
    assert total.item() == 0
    assert count.item() == 0
    for number in range(2):
        one = slopes[0] if loss == "mse" else slopes[number]
        assert not one.any()
        assert not pulled_back(kernels, given, number, one, places[number]).any()


@runs
def test_the_same_prediction_where_it_is_differs_in_nothing(kernels, rng):
    given = comparison(rng, classes=4, frame=(5, 6), size=(5, 6))
    given.sides[0].transform = AffineTransform.identity(2, (5, 6))
    given.sides[1] = given.sides[0]
    (total, count, slopes, _), places = compared_by(kernels, given)
    assert total.item() == 0
    assert count.item() == 2 * 5 * 6
    assert not slopes.any()
    # A prediction that is not moved reads itself alone: the gradient is the slope, the softmax led through.
    slopes = torch.randn(2, 4, 5, 6, generator=rng)
    leaf = given.sides[0].pred.clone().requires_grad_()
    (right,) = torch.autograd.grad(leaf.softmax(1), leaf, slopes * given.scale)
    assert_close(pulled_back(kernels, given, 0, there(slopes), places[0]).cpu(), right, rtol=1e-5, atol=1e-6)


@runs
@pytest.mark.parametrize("softmax", [False, True])
def test_infinite_neighbours_on_the_lattice_are_not_compared(kernels, softmax, rng):
    given = comparison(
        rng, batch=1, frame=(6, 6), size=(6, 6), kinds=("lattice", "lattice"), holes=True, softmax=softmax
    )
    given.sides[0].transform = AffineTransform.rot90(1, 1, (6, 6))
    given.sides[1].transform = AffineTransform.hflip(1, (6, 6))
    (_, count, slopes, _), _ = compared_by(kernels, given)
    images = [side.pred.softmax(1) if softmax else side.pred for side in given.sides]
    assert count.item() == 36
    right = torch.rot90(images[0], 1, (2, 3)) - images[1].flip(3)
    assert_close(slopes.cpu(), right, rtol=1e-6, atol=1e-6, equal_nan=True)
    assert_same_comparison(kernels, given)


@runs
@pytest.mark.parametrize("classes", [3, 17])
def test_a_class_at_minus_infinity_has_no_part(kernels, classes, rng):
    given = comparison(rng, batch=1, classes=classes, frame=(4, 4), size=(4, 4), kinds=("rigid", "rigid"))
    for side in given.sides:
        side.pred[:, ::2, 1:3] = -math.inf
    assert_same_comparison(kernels, given)


@runs
def test_slopes_are_made_only_where_they_are_wanted(kernels, rng):
    given = comparison(rng, loss="kl", classes=2, frame=(4, 5), size=(5, 4))
    (total, count, *slopes), _ = compared_by(kernels, given)
    (alone, number, *none), _ = compared_by(kernels, given, wanted=False)
    assert [one.shape for one in none] == [(0,), (0,)]
    assert torch.equal(alone, total)
    assert torch.equal(number, count)
    assert [one.shape for one in slopes] == [(2, 2, 5, 4)] * 2


@runs
def test_comparisons_read_what_lies_anyhow_give_the_same_bits_and_write_nothing(kernels, rng):
    given = comparison(rng, classes=2, frame=(6, 5), size=(5, 6), masked=True, mask=False)
    pool, shown = torch.full((2, 2, 9, 16), math.nan), torch.zeros(2, 1, 7, 12, dtype=torch.bool)
    pool[:, :, 2:8, 1:11:2] = given.sides[0].pred
    shown[:, :, :6, 1:11:2] = given.sides[0].valid
    once, places = compared_by(kernels, given)
    back = pulled_back(kernels, given, 0, once[2], places[0])
    given.sides[0].pred, given.sides[0].valid = pool[:, :, 2:8, 1:11:2], shown[:, :, :6, 1:11:2]
    given.sides[1].valid = given.sides[1].valid.transpose(2, 3).contiguous().transpose(2, 3)
    taken = [*(t for side in given.sides for t in (side.pred, side.valid)), *places, once[2], given.scale]
    before = [t.clone() for t in taken]
    again, _ = compared_by(kernels, given)
    for one, other in zip(once, again, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(pulled_back(kernels, given, 0, again[2], places[0]), back)
    for now, then in zip(taken, before, strict=True):
        assert_close(now, then, rtol=0, atol=0, equal_nan=True)


@runs
def test_the_comparison_sees_a_prediction_read_beside_its_place(kernels, rng, monkeypatch):
    given = comparison(rng, classes=2, frame=(5, 5), size=(5, 5), kinds=("rigid", "rigid"))
    assert_same_comparison(kernels, given)
    right = packed
    beside = torch.tensor([0, 0, 1 << 24], device=DEVICE)
    monkeypatch.setitem(globals(), "packed", lambda *motion: right(*motion) + beside)
    with pytest.raises(AssertionError):
        assert_same_comparison(kernels, given)


@runs
def test_float64_predictions_are_left_to_the_reference(kernels, rng):
    given = comparison(rng, dtype=torch.float64)
    with pytest.raises(BackendUnavailable, match='backend="torch"'):
        compared_by(kernels, given)
    slopes = torch.zeros(2, 3, 7, 5, device=DEVICE)
    with pytest.raises(BackendUnavailable, match='backend="torch"'):
        pulled_back(kernels, given, 0, slopes, packed(given.sides[0].transform, "bilinear"))


compiled = pytest.mark.skipif(INTERPRETED, reason="interpreted kernels are not compiled")


@compiled
@pytest.mark.skipif(DEVICE == "cuda", reason="CUDA is there")
def test_without_cuda_the_backend_is_not_there(kernels, rng):
    with pytest.raises(BackendUnavailable, match="needs CUDA"):
        warped(kernels, case(rng, mode="bilinear"))


def compile_only(kernel, grid, device, *args, tunable=True, wide=False, **constants):
    """In place of `launch`: compile for a Hopper GPU what would be started."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.runtime.jit import mangle_type

    signature, fixed = {}, {**constants, "BLOCK_H": 16, "BLOCK_W": 32}
    for name, value in zip(kernel.arg_names, args, strict=False):
        if isinstance(value, int) and value == 1 and name not in kernel.do_not_specialize:
            fixed[name] = 1
        else:
            signature[name] = mangle_type(value)
    signature = {name: signature.get(name, "constexpr") for name in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=fixed)
    options = {"enable_fp_fusion": True, "num_warps": 8 if wide else 4}
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    assert "cubin" in made.asm
    # No atomics: sums in a fixed order.
    assert "atom" not in made.asm["ptx"]
    assert "red.global" not in made.asm["ptx"]


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


def check_comparison_compiled(monkeypatch, **options):
    from s4aug.backends.triton import footprint, objective, pullback, sample

    for module in (sample, footprint, objective, pullback):
        monkeypatch.setattr(module, "launch", compile_only)
    for module in (objective, pullback):
        monkeypatch.setattr(module, "check_there", lambda *_: None)
    given = comparison(torch.Generator().manual_seed(0), **options)
    (*_, slopes1, slopes2), places = compared_by(objective, given)
    slopes = slopes2 if given.loss == "kl" and given.detach == 1 else slopes1
    pulled_back(pullback, given, 0, slopes, places[0])


@compiled
@pytest.mark.parametrize(
    "options",
    [
        {"classes": 7},
        {"classes": 20, "dtype": torch.bfloat16, "last": True, "mask": False},
        {"classes": 16, "loss": "kl", "dtype": torch.float16},
        {"classes": 1, "loss": "kl", "softmax": False, "detach": 1},
    ],
    ids=["mse", "mse-many-bfloat16", "kl-float16", "kl-one"],
)
def test_the_objective_compiles(kernels, options, monkeypatch):
    check_comparison_compiled(monkeypatch, **options)


@compiled
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("classes", [1, 2, 7, 16, 17])
def test_every_objective_compiles(kernels, classes, dtype, monkeypatch):
    for loss, softmax, mask in itertools.product(("mse", "kl"), (False, True), (False, True)):
        for detach in (0, 1, 2) if loss == "kl" else (0,):
            options = {"loss": loss, "softmax": softmax, "mask": mask, "detach": detach}
            check_comparison_compiled(monkeypatch, classes=classes, dtype=dtype, **options)


@compiled
@pytest.mark.slow
@pytest.mark.parametrize(("mode", "padding"), [*itertools.product(MODES, PADDINGS)])
@pytest.mark.parametrize("channels", [1, 3, 7, 17])
def test_every_kernel_compiles(kernels, mode, padding, channels, monkeypatch):
    kind = "rigid" if mode == "lifting" else "mild"
    for masked, dtype in itertools.product((False, True), (torch.float32, torch.bfloat16)):
        options = {"mode": mode, "padding": padding, "masked": masked, "dtype": dtype, "kind": kind}
        check_compiled(monkeypatch, **options, channels=channels, normalized=masked)
