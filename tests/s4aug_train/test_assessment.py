import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s4aug_train.assessment import CONFIDENCE_BINS, Assessment, TileScore
from s4aug_train.boundary import LABELS
from s4aug_train.errors import ConfigError, DataError
from s4aug_train.metrics import Confusion


def score(name, confusion, near=None, calibration=None):
    confusion = np.array(confusion)
    near = np.zeros((len(LABELS), 2), int) if near is None else near
    calibration = np.zeros((CONFIDENCE_BINS, 3)) if calibration is None else calibration
    return TileScore(name, confusion, near, calibration)


def random_assessment(seed, tiles=7, classes=4):
    """Of which the last class is in one tile alone, and the one before in none."""
    rng = np.random.default_rng(seed)
    confusions = rng.integers(0, 50, (tiles, classes, classes))
    confusions[:, -2] = 0
    confusions[1:, -1] = 0
    return Assessment(3, tuple("abcdefgh"[:classes]), tuple(score(str(i), c) for i, c in enumerate(confusions)))


def loop_iou(confusion):
    """IoU by plain loops, None for what the truth lacks."""
    size, iou = len(confusion), []
    for k in range(size):
        truth = sum(int(confusion[k][j]) for j in range(size))
        predicted = sum(int(confusion[j][k]) for j in range(size))
        iou.append(int(confusion[k][k]) / (truth + predicted - int(confusion[k][k])) if truth else None)
    return iou


def loop_bootstrap(assessment, samples, seed):
    """mIoU, and IoU by class, of each resample, by plain loops over the same draws."""
    tiles = assessment.tiles
    means, by_class = [], [[] for _ in assessment.classes]
    for row in np.random.default_rng(seed).integers(len(tiles), size=(samples, len(tiles))):
        total = np.zeros_like(tiles[0].confusion)
        for number in row:
            total = total + tiles[number].confusion
        present = [value for value in loop_iou(total) if value is not None]
        if present:
            means.append(sum(present) / len(present))
        for values, value in zip(by_class, loop_iou(total), strict=True):
            values += [] if value is None else [value]
    return means, by_class


@pytest.mark.parametrize(("seed", "level"), [(0, 0.95), (1, 0.5), (2, 0.99)])
def test_intervals_are_percentiles_of_resamples_made_one_by_one(seed, level):
    assessment = random_assessment(seed)
    means, by_class = loop_bootstrap(assessment, 200, seed)
    found = assessment.intervals(200, seed, level)
    percents = [50 * (1 - level), 50 * (1 + level)]
    assert found.miou == pytest.approx(np.percentile(means, percents), abs=1e-12)
    for name, values in zip(assessment.classes, by_class, strict=True):
        if name == "c":
            assert found.iou[name] is None
        else:
            assert found.iou[name] == pytest.approx(np.percentile(values, percents), abs=1e-12)
    assert found.level == level
    # The class that one tile holds is missing in some resamples, which have no say in it.
    assert 0 < len(by_class[-1]) < 200


@pytest.mark.parametrize(("count", "least", "most"), [(60, 0.9, 0.99), (10, 0.85, 0.94), (3, 0.6, 0.8)])
def test_intervals_cover_the_truth_about_as_often_as_they_say_and_less_often_with_few_tiles(count, least, most):
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        right = rng.binomial(100, rng.beta(6, 3, count))
        tiles = tuple(score(str(i), [[r, 100 - r], [0, 0]]) for i, r in enumerate(right))
        low, high = Assessment(0, ("a", "b"), tiles).intervals(300).miou
        inside += low <= 6 / 9 <= high
    assert least <= inside / 200 <= most


def test_too_few_tiles_or_no_class_have_no_interval():
    one = Assessment(0, ("a",), (score("x", [[5]]),))
    assert one.intervals() == type(one.intervals())(0.95, None, {"a": None})
    empty = Assessment(0, ("a",), tuple(score(name, [[0]]) for name in "xy"))
    assert (empty.miou, empty.intervals().miou, empty.ece()) == (None, None, None)
    assert [part.accuracy for part in empty.boundary()] == [None] * len(LABELS)
    assert Assessment(0, ("a", "b"), ()).confusion().counts.tolist() == [[0, 0], [0, 0]]
    with pytest.raises(ConfigError, match="samples must be at least 1"):
        random_assessment(0).intervals(0)
    with pytest.raises(ConfigError, match="level must be between 0 and 1"):
        random_assessment(0).intervals(level=95)


def test_the_whole_is_the_sum_of_the_tiles():
    assessment = random_assessment(5)
    total = Confusion(torch.from_numpy(np.sum([tile.confusion for tile in assessment.tiles], 0)))
    assert torch.equal(assessment.confusion().counts, total.counts)
    assert assessment.miou == total.miou()
    assert list(assessment.iou().values()) == total.iou() == pytest.approx(loop_iou(total.counts.tolist()))
    assert assessment.record().to_json()["tiles"] == 7


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6))
def test_ece_is_that_of_a_loop_over_bins(seed):
    rng = np.random.default_rng(seed)
    tiles = []
    for name in "xyz":
        counts = rng.integers(0, 20, CONFIDENCE_BINS) * rng.integers(0, 2, CONFIDENCE_BINS)
        middle = (np.arange(CONFIDENCE_BINS) + 0.5) / CONFIDENCE_BINS
        tiles.append(score(name, [[0]], calibration=np.stack([counts, counts * middle, rng.binomial(counts, 0.6)], 1)))
    assessment = Assessment(0, ("a",), tuple(tiles))
    pixels = gap = 0.0
    for number in range(CONFIDENCE_BINS):
        n, confidence, right = (sum(tile.calibration[number, column] for tile in tiles) for column in range(3))
        pixels += n
        gap += abs(confidence / n - right / n) * n if n else 0
    assert (assessment.ece() or 0) == pytest.approx(gap / pixels if pixels else 0)
    bins = assessment.calibration()
    assert [b.low for b in bins[1:]] == [b.high for b in bins[:-1]]
    assert sum(b.share for b in bins) == pytest.approx(1 if pixels else 0)


def test_json_gives_back_the_same():
    rng = np.random.default_rng(0)
    near, calibration = rng.integers(0, 9, (len(LABELS), 2)), rng.random((CONFIDENCE_BINS, 3))
    whole = Assessment(4, ("a", "b"), (score("x", [[1, 2], [3, 4]], near, calibration),))
    again = Assessment.from_json(json.loads(json.dumps(whole.to_json())))
    assert again.to_json() == whole.to_json()
    assert np.array_equal(again.tiles[0].calibration, calibration)
    assert again.tiles[0].confusion.dtype == np.int64


@pytest.mark.parametrize("change", [{"version": 0}, {"tiles": [{"id": "x"}]}, {"tiles": 3}, {"classes": None}])
def test_what_is_no_assessment_is_told(change):
    with pytest.raises(DataError, match="no assessment of s4aug-train"):
        Assessment.from_json({**random_assessment(0).to_json(), **change})


def test_scores_of_other_shapes_are_told():
    with pytest.raises(DataError, match=r"the confusion of tile x is \[2, 2\], not \[1, 1\]"):
        Assessment(0, ("a",), (score("x", [[1, 2], [3, 4]]),))
    with pytest.raises(DataError, match="the near of tile x"):
        Assessment(0, ("a",), (score("x", [[1]], np.zeros((2, 2))),))
