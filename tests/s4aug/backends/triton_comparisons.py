"""Predictions compared by Triton's kernels, for `test_triton.py`, which runs them as it does `triton_warps.py`.

By hand: `TRITON_INTERPRET=1 pytest tests/s4aug/backends/triton_comparisons.py`, and the wide sweep with `-m slow`.
"""

import itertools
import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch.testing import assert_close

from s4aug import AffineTransform
from s4aug.backends.reference import warp_reference
from s4aug.errors import BackendUnavailable
from tests.s4aug.backends.triton_cases import (
    DEVICE,
    GRADIENT_TOLERANCE,
    MARKS,
    comparison,
    comparisons,
    compile_only,
    compiled,
    packed,
    runs,
    there,
)

pytestmark = MARKS


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


def check_any_comparison(kernels, options, seed):
    assert_same_comparison(kernels, comparison(torch.Generator().manual_seed(seed), **options))


@runs
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
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
