"""How assessments look in a terminal of 80 columns."""

import numpy as np
import pytest
from rich.console import Console

from s4aug_train.assessment import CONFIDENCE_BINS, Assessment, TileScore
from s4aug_train.boundary import LABELS
from s4aug_train.cli.assessed import print_assessment, print_comparison, print_confusion, verdict_text
from s4aug_train.cli.reporter import classes_note
from s4aug_train.comparison import Comparison, compare
from s4aug_train.records import EvaluationRecord


def assessment(classes, tiles=3, seed=0):
    rng = np.random.default_rng(seed)
    names = tuple(f"a_class_of_a_rather_long_name_{i}" for i in range(classes))
    scores = []
    for i in range(tiles):
        confusion = rng.integers(1, 99, (classes, classes))
        confusion[-1] = 0
        confusion[0, 1] = 0
        near, calibration = np.full((len(LABELS), 2), (30, 40)), np.zeros((CONFIDENCE_BINS, 3))
        calibration[-1] = 100, 98, 80
        scores.append(TileScore(str(i), confusion, near, calibration))
    return Assessment(7, names, tuple(scores))


def shown(print_, *arguments):
    console = Console(width=80)
    with console.capture() as capture:
        print_(console, *arguments)
    text = capture.get()
    assert all(len(line) <= 80 for line in text.splitlines())
    return text


def test_an_assessment_fits_a_terminal_and_says_what_it_found():
    found = assessment(6)
    intervals = found.intervals()
    text = shown(print_assessment, found, intervals, "runs/x, step 7, 3 tiles")
    assert "{:.1f} to {:.1f}".format(*(100 * v for v in intervals.miou)) in text
    assert "95 %" in text
    flat = " ".join(text.split())
    assert "boundary of the truth: 1: 75.0, 2: 75.0, 3-4: 75.0, 5-8: 75.0, 9-16: 75.0, over 16: 75.0" in flat
    assert "confidence 98.0 %, accuracy 80.0 % of the pixels: too sure; expected calibration error 18.0 %" in flat
    counts = found.confusion().counts.numpy()
    assert f"overall accuracy {100 * counts.trace() / counts.sum():.1f} %" in flat
    assert "note: on these tiles absent from the truth: a_class_of_a_rather_long_name_5 accuracy" in flat
    assert len(text.splitlines()) < 30


@pytest.mark.parametrize(
    ("confusion", "told"),
    [
        ([[1, 1], [0, 2]], None),
        ([[2, 0], [1, 0]], "note: on these tiles never predicted: b"),
        ([[2, 1], [0, 0]], "note: on these tiles absent from the truth: b"),
        ([[2, 0], [0, 0]], "note: on these tiles neither in the truth nor predicted: b"),
        (
            [[2, 1, 0, 0], [0] * 4, [1, 0, 0, 0], [0] * 4],
            "note: on these tiles never predicted: c; absent from the truth: b; neither in the truth nor predicted: d",
        ),
        ([[0, 0], [0, 0]], "note: on these tiles neither in the truth nor predicted: a, b"),
    ],
)
def test_classes_that_are_never_predicted_or_absent_are_named_in_one_line(confusion, told):
    record = EvaluationRecord(1, None, {}, confusion, list("abcd"[: len(confusion)]), 2)
    assert classes_note(record) == told


def test_one_tile_has_no_intervals_and_it_is_said():
    found = assessment(3, tiles=1)
    assert "no intervals: they take two tiles or more" in shown(print_assessment, found, found.intervals(), "x")


@pytest.mark.parametrize("classes", [2, 6, 14, 15, 40, 130])
def test_a_confusion_matrix_of_many_classes_is_whole_and_narrow(classes):
    found = assessment(classes)
    text = shown(print_confusion, found)
    counts = found.confusion().counts.numpy()
    rows = {number: [] for number in range(1, classes + 1)}
    for line in text.splitlines()[1:]:
        name, cells = line[:22], line[22:].split()
        if name.strip():
            rows[int(name.split()[0])] += cells
    for number, row in enumerate(counts, 1):
        expected = [f"{100 * c / row.sum():.0f}" if c else "·" for c in row] if row.sum() else []
        assert rows[number] == expected


def test_two_checkpoints_are_shown_side_by_side(tmp_path):
    ours, theirs = assessment(6), assessment(6)
    text = shown(print_comparison, ours, theirs, compare(ours, theirs), tmp_path.relative_to("/"))
    assert "+0.00" in text
    accuracy = f"{100 * ours.record().accuracy:.1f} %"
    assert f"overall accuracy {accuracy}, against {accuracy}" in " ".join(text.split())
    assert "no difference is shown" in " ".join(text.split())


@pytest.mark.parametrize(
    ("comparison", "text"),
    [
        (
            Comparison(0.02, (-0.01, 0.05), 0.2, 30),
            "mIoU +2.00 points against b on 30 tiles, 95 % interval -1.00 to +5.00, p = 0.2: no difference is shown",
        ),
        (
            Comparison(0.02, (0.01, 0.05), 0.001, 30),
            "mIoU +2.00 points against b on 30 tiles, 95 % interval +1.00 to +5.00, p = 0.001: better",
        ),
        (
            Comparison(-0.02, (-0.05, -0.01), 0.04, 30),
            "mIoU -2.00 points against b on 30 tiles, 95 % interval -5.00 to -1.00, p = 0.04: worse",
        ),
        (
            Comparison(-0.02, (-0.05, -0.01), 0.125, 4),
            "mIoU -2.00 points against b on 4 tiles, 95 % interval -5.00 to -1.00, p = 0.125: no difference is shown",
        ),
        (Comparison(-0.02, None, 1.0, 1), "mIoU -2.00 points against b on 1 tiles, p = 1: no difference is shown"),
        (Comparison(None, None, None, 1), "nothing to compare: no class in the truth"),
    ],
)
def test_a_comparison_is_told_in_words(comparison, text):
    assert verdict_text(comparison, "b") == text
