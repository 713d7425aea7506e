import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_cdt

from s4aug_train.boundary import LABELS, distance_bins

UPPER = [1, 2, 4, 8, 16, np.inf]


def oracle(labels):
    """Bins from the chessboard distance of scipy, class by class."""
    distance = np.full(labels.shape, np.inf)
    for own in range(255):
        other = (labels != 255) & (labels != own)
        if (labels == own).any() and other.any():
            distance = np.where(labels == own, distance_transform_cdt(~other, metric="chessboard"), distance)
    return np.searchsorted(UPPER, distance)


def patches(rng, size, side, classes):
    """Labels in patches, some unknown."""
    coarse = rng.integers(0, classes, [-(-length // side) for length in size])
    labels = np.kron(coarse, np.ones((side, side), int))[: size[0], : size[1]].astype(np.uint8)
    labels[rng.random(size) < 0.05] = 255
    labels[: size[0] // 4, : size[1] // 3] = 255
    return labels


@pytest.mark.parametrize(
    ("size", "side"), [((90, 121), 40), ((33, 300), 7), ((1, 50), 9), ((50, 1), 20), ((70, 70), 1)]
)
def test_bins_are_those_of_the_chessboard_distance(size, side):
    labels = patches(np.random.default_rng(side), size, side, 5)
    known = labels != 255
    found = distance_bins(labels, 0, 0, *size).numpy()
    assert np.array_equal(found[known], oracle(labels)[known])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_window_has_the_bins_of_the_whole(data):
    height, width = data.draw(st.integers(1, 80)), data.draw(st.integers(1, 80))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    labels = patches(rng, (height, width), data.draw(st.integers(1, 40)), data.draw(st.sampled_from([1, 2, 250])))
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    h, w = data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left))
    part = distance_bins(labels, top, left, h, w)
    whole = distance_bins(labels, 0, 0, height, width)
    assert torch.equal(part, whole[top : top + h, left : left + w])
    known = labels != 255
    assert np.array_equal(whole.numpy()[known], oracle(labels)[known])


@pytest.mark.parametrize("gap", range(1, 20))
def test_unknown_between_two_classes_is_no_boundary(gap):
    labels = np.full((3, gap + 3), 255, np.uint8)
    labels[:, 0], labels[:, -1] = 0, 254
    expected = np.searchsorted(UPPER, gap + 2)
    assert distance_bins(labels, 0, 0, *labels.shape)[1, 0] == expected


def test_a_truth_of_one_class_or_none_has_no_boundary():
    for value in (0, 3, 254, 255):
        assert (distance_bins(np.full((9, 9), value, np.uint8), 0, 0, 9, 9) == len(LABELS) - 1).all()


class Counted:
    """Labels that note which rows are read."""

    def __init__(self, labels):
        self.labels, self.rows = labels, []

    def __getitem__(self, rows):
        self.rows.append(rows)
        return self.labels[rows]


def test_only_the_rows_around_a_window_are_read():
    labels = Counted(np.zeros((1000, 8), np.uint8))
    distance_bins(labels, 500, 0, 20, 8)
    assert labels.rows == [slice(484, 536)]
