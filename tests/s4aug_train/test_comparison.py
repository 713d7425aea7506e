import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s4aug_train.assessment import CONFIDENCE_BINS, Assessment, TileScore
from s4aug_train.boundary import LABELS
from s4aug_train.comparison import Comparison, compare
from s4aug_train.errors import DataError
from s4aug_train.metrics import Confusion


def assessment(confusions, names=None, classes="abc"):
    empty = np.zeros((len(LABELS), 2), int), np.zeros((CONFIDENCE_BINS, 3))
    names = names or [f"{i:03d}" for i in range(len(confusions))]
    return Assessment(1, tuple(classes), tuple(TileScore(n, c, *empty) for n, c in zip(names, confusions, strict=True)))


def pair(seed, tiles, better=0.0):
    """Two predictions of one truth, of which the first is right more often."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 60, (tiles, 3))
    both = []
    for share in (0.5 + better, 0.5):
        right = rng.binomial(truth, share)
        wrong = rng.binomial(truth - right, 0.5)
        made = np.zeros((tiles, 3, 3), int)
        for k in range(3):
            made[:, k, k] = right[:, k]
            made[:, k, (k + 1) % 3] = wrong[:, k]
            made[:, k, (k + 2) % 3] = truth[:, k] - right[:, k] - wrong[:, k]
        both.append(assessment(made))
    return both


def miou(confusions):
    import torch

    return Confusion(torch.from_numpy(np.sum(confusions, 0))).miou()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 7))
def test_the_exact_p_value_is_that_of_all_arrangements(seed, tiles):
    first, second = pair(seed, tiles)
    a, b = ([tile.confusion for tile in each.tiles] for each in (first, second))
    if miou(a) is None:
        assert compare(first, second) == Comparison(None, None, None, tiles)
        return
    observed, as_much = miou(a) - miou(b), 0
    for swaps in itertools.product([False, True], repeat=tiles):
        ours, theirs = (
            [(y if swap == flip else x) for x, y, swap in zip(a, b, swaps, strict=True)] for flip in (True, False)
        )
        as_much += abs(miou(ours) - miou(theirs)) >= abs(observed) - 1e-12
    found = compare(first, second)
    assert found.p_value == as_much / 2**tiles
    assert found.difference == pytest.approx(observed, abs=1e-12)
    assert found.tiles == tiles


def test_the_random_p_value_comes_near_the_exact_one(monkeypatch):
    first, second = pair(3, 11, better=0.06)
    exact = compare(first, second).p_value
    monkeypatch.setattr("s4aug_train.resampling.EXACT_TILES", 0)
    random = compare(first, second, samples=20_000).p_value
    assert 0.005 < exact < 0.5
    assert random == pytest.approx(exact, abs=0.02)
    assert (random * 20_001) == pytest.approx(round(random * 20_001))


def test_the_interval_is_that_of_resamples_made_one_by_one():
    first, second = pair(5, 9, better=0.1)
    a, b = (np.array([tile.confusion for tile in each.tiles]) for each in (first, second))
    draws = np.random.default_rng(8).integers(9, size=(150, 9))
    differences = [miou(a[row]) - miou(b[row]) for row in draws]
    found = compare(first, second, 150, 8).interval
    assert found == pytest.approx(np.percentile(differences, [2.5, 97.5]), abs=1e-12)


def test_the_same_predictions_do_not_differ_and_much_better_ones_do():
    same, _ = pair(0, 30)
    assert compare(same, same) == Comparison(0.0, (0.0, 0.0), 1.0, 30)
    assert not compare(same, same).shown
    better, worse = pair(0, 30, better=0.4)
    found, turned = compare(better, worse), compare(worse, better)
    assert found.shown
    assert found.interval[0] > 0.2
    assert found.p_value == pytest.approx(1 / 1001)
    assert turned.difference == -found.difference
    assert turned.shown


def test_few_tiles_show_nothing_however_large_the_difference():
    better, worse = pair(0, 4, better=0.5)
    assert compare(better, worse).p_value == 2 / 2**4
    assert not compare(better, worse).shown
    one = compare(*pair(1, 1, better=0.5))
    assert (one.interval, one.p_value, one.shown) == (None, 1.0, False)


def test_chance_alone_is_rarely_called_a_difference():
    shown = sum(compare(*pair(seed, 15), samples=200).shown for seed in range(120))
    assert shown <= 12


def test_the_order_of_tiles_does_not_matter():
    first, second = pair(2, 6)
    turned = Assessment(1, second.classes, second.tiles[::-1])
    assert compare(first, turned) == compare(first, second)


def test_what_cannot_be_compared_is_told():
    first, second = pair(2, 3)
    with pytest.raises(DataError, match="the first has the classes a, b, c, the second x, y, z"):
        compare(first, Assessment(1, ("x", "y", "z"), second.tiles))
    with pytest.raises(DataError, match="3 and 2 tiles were evaluated, of which 1 only once, for example 002"):
        compare(first, Assessment(1, second.classes, second.tiles[:2]))
    other, _ = pair(9, 3)
    with pytest.raises(DataError, match="the truth of tile 000 is not the same"):
        compare(first, other)
