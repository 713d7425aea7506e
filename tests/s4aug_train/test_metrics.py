"""IoU by class from counts that add up, whatever way the pixels arrive."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s4aug_train.metrics import Confusion


def by_loop(truth, predicted, classes: int) -> list[float | None]:
    """Intersection over union of sets of pixels."""
    result = []
    for index in range(classes):
        true = {i for i, label in enumerate(truth) if label == index}
        guessed = {i for i, label in enumerate(predicted) if label == index and truth[i] < classes}
        result.append(len(true & guessed) / len(true | guessed) if true else None)
    return result


def by_numpy(truth: np.ndarray, predicted: np.ndarray, classes: int) -> list[list[int]]:
    return [[int(((truth == i) & (predicted == j)).sum()) for j in range(classes)] for i in range(classes)]


PIXELS = st.lists(st.tuples(st.sampled_from([0, 1, 2, 3, 255]), st.integers(0, 3)), max_size=60)


def counted(pixels, classes: int = 4) -> Confusion:
    truth, predicted = (torch.tensor([pixel[i] for pixel in pixels], dtype=torch.uint8) for i in range(2))
    return Confusion.empty(classes).added(truth, predicted)


@given(PIXELS)
def test_iou_is_that_of_sets_of_pixels(pixels):
    truth, predicted = [p[0] for p in pixels], [p[1] for p in pixels]
    expected = by_loop(truth, predicted, 4)
    found = counted(pixels).iou()
    assert [value is None for value in found] == [value is None for value in expected]
    assert [v for v in found if v is not None] == pytest.approx([v for v in expected if v is not None], abs=1e-12)
    present = [value for value in expected if value is not None]
    assert counted(pixels).miou() == (pytest.approx(np.mean(present)) if present else None)


@given(PIXELS)
@settings(max_examples=30)
def test_precision_and_recall_are_shares_of_sets_of_pixels(pixels):
    known = [(true, guessed) for true, guessed in pixels if true != 255]
    for side, found in ((1, counted(pixels).precision()), (0, counted(pixels).recall())):
        for label in range(4):
            chosen = [pixel for pixel in known if pixel[side] == label]
            right = [pixel for pixel in chosen if pixel == (label, label)]
            assert found[label] == (pytest.approx(len(right) / len(chosen)) if chosen else None)


@given(PIXELS, st.integers(0, 60), st.integers(0, 60))
def test_chunks_add_up_to_the_whole(pixels, first, second):
    cuts = sorted((first, second))
    total = Confusion.empty(4)
    for chunk in (pixels[: cuts[0]], pixels[cuts[0] : cuts[1]], pixels[cuts[1] :]):
        truth, predicted = (torch.tensor([pixel[i] for pixel in chunk], dtype=torch.uint8) for i in range(2))
        total = total.added(truth, predicted)
    assert torch.equal(total.counts, counted(pixels).counts)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_counts_are_those_of_numpy_in_any_shape(dtype):
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 7, (3, 31, 29)), rng.integers(0, 6, (3, 31, 29))
    truth[truth == 6] = 255
    found = Confusion.empty(6).added(torch.from_numpy(truth).to(dtype), torch.from_numpy(predicted).to(dtype))
    assert found.counts.tolist() == by_numpy(truth, predicted, 6)
    assert found.counts.dtype == torch.int64


def test_unknown_truth_counts_neither_for_nor_against():
    known = [(0, 0), (0, 1), (1, 1)]
    assert torch.equal(counted([*known, (255, 0), (255, 1)]).counts, counted(known).counts)
    negative = Confusion.empty(2).added(torch.tensor([0, -1, -100]), torch.tensor([0, 0, 1]))
    assert negative.counts.tolist() == [[1, 0], [0, 0]]


def test_a_class_that_the_truth_lacks_is_none_and_lowers_the_others_alone():
    found = counted([(0, 0), (0, 0), (0, 3), (1, 1)])
    assert found.iou() == [pytest.approx(2 / 3), 1.0, None, None]
    assert found.miou() == pytest.approx((2 / 3 + 1) / 2)


def test_a_class_that_is_never_found_is_zero_and_counts_in_the_mean():
    found = counted([(0, 0), (1, 0)])
    assert found.iou()[:2] == [0.5, 0.0]
    assert found.miou() == 0.25


def test_no_known_pixel_gives_no_mean():
    assert counted([]).miou() is None
    assert counted([(255, 1)]).miou() is None


def test_the_mean_is_over_the_dataset_and_not_over_tiles():
    one, other = [(0, 0)] * 90 + [(1, 0)] * 10, [(1, 1)] * 10
    assert counted(one + other).iou()[:2] == [pytest.approx(0.9), 0.5]


def test_adding_changes_neither_the_matrix_nor_the_labels():
    before, truth = Confusion.empty(2), torch.tensor([0, 255], dtype=torch.uint8)
    before.added(truth, torch.tensor([1, 1]))
    assert not before.counts.any()
    assert truth.tolist() == [0, 255]
