"""What is told of runs that go wrong without an error, and of none that go well."""

import pytest

from s4aug_train.guards import Guards, hints
from s4aug_train.records import EvaluationRecord, StepRecord


def step(number, *, weight=2.0, valid=0.65, supervised=0.5, unlabelled=0.01):
    return StepRecord(
        number, supervised + weight * unlabelled, supervised, unlabelled, weight, valid, 0.01, 1.0, 0, 1.0
    )


def evaluation(confusion):
    return EvaluationRecord(10, 0.5, {}, confusion, ["field", "forest", "water"], 3)


def told(*records, compared=True):
    guards = Guards(compared=compared)
    return [note.text for record in records for note in guards.notes(record)]


@pytest.mark.parametrize(
    ("confusion", "collapsed"),
    [
        ([[0, 90, 0], [0, 10, 0], [0, 0, 0]], True),
        ([[1, 89999, 0], [0, 10000, 0], [0, 0, 0]], True),
        ([[9, 81, 0], [0, 10, 0], [0, 0, 0]], False),
        # One class is all there is to predict.
        ([[0, 0, 0], [0, 100, 0], [0, 0, 0]], False),
        ([[0, 0, 0], [0, 0, 0], [0, 0, 0]], False),
    ],
)
def test_one_class_everywhere_is_told(confusion, collapsed):
    texts = told(evaluation(confusion))
    assert len(texts) == collapsed
    assert all(text.startswith("nearly every pixel was predicted as forest, of 2 classes") for text in texts)


def test_next_to_nothing_to_compare_is_told_once():
    texts = told(step(1), step(2, valid=0.019), step(3, valid=0.0))
    assert len(texts) == 1
    assert texts[0].startswith("only 1.9 % of the unlabelled pixels could be compared: lower method.translate")
    assert told(step(1, weight=0.0, valid=0.0)) == []
    # Where it tells how far a discriminator trusts, as in hung, little is no mistake.
    assert told(step(1, valid=0.0), compared=False) == []


def lines(weights, mious, **losses):
    """metrics.jsonl of steps 10, 20, ..., each with an evaluation."""
    for number, (weight, miou) in enumerate(zip(weights, mious, strict=True), 1):
        yield step(10 * number, weight=weight, **losses).to_dict()
        yield {"step": 10 * number, "miou": miou, "iou": {}}


@pytest.mark.parametrize(
    ("weights", "mious", "fell"),
    [
        ([0.1, 0.5, 2.0], [0.40, 0.35, 0.30], True),
        ([0.1, 0.5, 2.0], [0.40, 0.39, 0.385], False),  # within what evaluations differ
        ([2.0, 2.0, 2.0], [0.40, 0.35, 0.30], False),  # lambda did not change
        ([0.1, 0.5, 2.0], [0.30, 0.35, 0.40], False),
        ([0.1, 0.5, 2.0], [None, None, None], False),
    ],
)
def test_a_fall_as_lambda_grew_is_told(weights, mious, fell):
    texts = [note.text for note in hints(lines(weights, mious))]
    assert len(texts) == fell
    if fell:
        assert texts[0].startswith("validation was best at step 10 (mIoU 40.00 %) and fell to 30.00 %")
        assert "lambda grew from 0.1 to 2: unlabelled data did not help here" in texts[0]


@pytest.mark.parametrize(("unlabelled", "said"), [(1e-4, True), (1e-2, False)])
def test_an_unlabelled_loss_without_a_say_is_told(unlabelled, said):
    texts = [note.text for note in hints(lines([2.0] * 4, [0.4] * 4, unlabelled=unlabelled))]
    assert len(texts) == said
    if said:
        assert texts[0].startswith("the unlabelled loss was 0.04 % of the supervised one")


def test_a_run_without_unlabelled_data_or_records_is_not_judged():
    assert list(hints(lines([0.0] * 4, [0.4, 0.3, 0.2, 0.1], unlabelled=0.0))) == []
    assert list(hints([])) == []
    skipped = step(10).to_dict() | {"loss": None, "loss_supervised": None, "loss_consistency": None}
    assert list(hints([skipped])) == []
